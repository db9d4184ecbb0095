"""Small work folders in MMEngine's form, written by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from xtask_reg.landmarks.predictions import Predictions, Reading

CONFIG = "lr = 1\n"
LOG = """2026/01/01 00:00:00 - mmengine - INFO - 
------------------------------------------------------------
System environment:
    sys.platform: linux
    Python: 3.11.7 (main, May  9 2026, 07:35:25) [GCC 12.2.0]
    PyTorch: 2.11.0+cu130
    PyTorch compiling details: PyTorch built with:
    MMEngine: 0.10.7

Runtime environment:
    seed: 3
------------------------------------------------------------
"""


def _write_log(folder: Path, lines: list[dict[str, object]], config: str = CONFIG) -> None:
    (folder / "vis_data").mkdir(parents=True)
    (folder / "vis_data/scalars.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "vis_data/config.py").write_text(config)
    (folder / f"{folder.name}.log").write_text(LOG)


@pytest.fixture
def write_log() -> Callable[..., None]:
    """``write_log(folder, lines, config)``: one start of a run."""
    return _write_log


@pytest.fixture
def images(tmp_path) -> list[Path]:
    """Four images of one colour each."""
    files = [tmp_path / f"image{number}.png" for number in range(4)]
    for number, file in enumerate(files):
        cv2.imwrite(str(file), np.full((40, 50, 3), 60 * number, np.uint8))
    return files


@pytest.fixture
def make_run(tmp_path, images) -> Callable[..., Path]:
    """``make_run(name, errors, config, monitored)``: a work folder of two epochs of two steps."""

    def make(
        name: str,
        errors: list[float] | None = None,
        config: str = "lr = 1\n",
        monitored: bool = False,
        **reading: object,
    ) -> Path:
        folder, lines = tmp_path / name, []
        for step in (1, 2, 3, 4):
            line = {"lr": 0.1, "loss": 8.0 / step, "time": 1.0, "epoch": (step + 1) // 2, "iter": step, "step": step}
            lines.append({**line, **({"cosine/layer4": 1 / step, "cka/layer4": 0.5} if monitored else {})})
            if step % 2 == 0:
                lines.append({"landmark/ME": 4.0 / step, "landmark/FR": 0.0, "time": 0.1, "step": step // 2})
        _write_log(folder / "20260101_000000", lines, config)
        if errors is not None:
            target = np.full((len(errors), 1, 2), 10.0)
            predicted = target + [[[error, 0]] for error in errors]
            how = Reading(**{"reduction": "mean_distance", "space": "image", "threshold": 1.5, **reading})
            files, scale = [str(image) for image in images[: len(errors)]], np.ones((len(errors), 2))
            visible = np.ones((len(errors), 1), dtype=bool)
            Predictions(files, ["nose"], predicted, target, visible, scale, how).write(folder / "predictions.json")
        return folder

    return make
