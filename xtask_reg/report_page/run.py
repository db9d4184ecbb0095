"""Reads the work folder of an MMEngine run."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xtask_reg.landmarks.predictions import Predictions, read_predictions
from xtask_reg.measuring.run_log import (
    STAGES,
    TERMS,
    Curves,
    Lines,
    Points,
    continued,
    json_lines,
    read_log,
    scalar_files,
)

PREDICTIONS = "predictions.json"
_NOT_SHOWN = ("data_time", "time", "epoch", "iter", "step", "memory", "grad_norm")
_MEASURED = tuple(f"{kind}/" for kind in STAGES + TERMS)
_VERSIONS = re.compile(
    r"^\s+(Python|PyTorch|TorchVision|OpenCV|MMEngine|seed|GPU \d[\d,]*|CUDA available): (.+)$", re.M
)


@dataclass(frozen=True)
class Run:
    """A run on the page.

    Attributes:
        name: its name on the page.
        folder: its work folder.
        training: losses and learning rates by training step.
        validation: the evaluator's numbers by epoch.
        measurements: from :func:`xtask_reg.measuring.run_log.read_log`; empty without a monitor.
        predictions: of its test images; None without :data:`PREDICTIONS`.
        config: the text of its config; empty if there is none.
        versions: packages, seed and hardware according to its log.
    """

    name: str
    folder: Path
    training: Mapping[str, Points]
    validation: Mapping[str, Points]
    measurements: Curves
    predictions: Predictions | None
    config: str
    versions: Mapping[str, str]


def read_run(name: str, folder: Path) -> Run:
    """Read a run's folder; missing parts are left empty.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it is not the work folder of a run, or one of its files is damaged.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; name the work folder of a run")
    files, predictions = scalar_files(folder), folder / PREDICTIONS
    if not files and not predictions.is_file():
        raise ValueError(
            f"{folder} has neither */vis_data/scalars.json nor {PREDICTIONS}: name the work folder of an MMEngine run"
        )
    training, validation = _scalars(files)
    return Run(
        name=name,
        folder=folder,
        training=training,
        validation=validation,
        measurements=read_log(folder) if _has_measurements(files) else {},
        predictions=read_predictions(predictions) if predictions.is_file() else None,
        config=_config(folder, files),
        versions=_versions(folder, files),
    )


def tested_alike(
    runs: Sequence[Run], key: Callable[[Predictions], tuple[Any, ...]]
) -> Iterator[tuple[tuple[Any, ...], dict[str, Predictions]]]:
    """Group the predictions, by the name of their run, by equal ``key``; in the order of each group's first run."""
    tested = {run.name: run.predictions for run in runs if run.predictions is not None}
    for each in dict.fromkeys(map(key, tested.values())):
        yield each, {name: predictions for name, predictions in tested.items() if key(predictions) == each}


def _scalars(files: list[Path]) -> tuple[dict[str, Points], dict[str, Points]]:
    """Training by iteration, validation by epoch; a later log replaces everything after its first step."""
    kept: tuple[Lines, ...] = ({}, {})
    for file in files:
        own: tuple[Lines, ...] = ({}, {})
        epochs: list[int] = []
        for number, line in json_lines(file):
            kind, step = (0, line["iter"]) if "iter" in line else (1, line.get("step"))
            if not isinstance(step, int):
                raise ValueError(f"{file}, line {number}: step is {step!r}; expected a whole number")
            own[kind].setdefault(step, {}).update(_numbers(line))
            epochs += [line["epoch"]] if isinstance(line.get("epoch"), int) else []
        first = min(own[0], default=math.inf), min((*own[1], *epochs), default=math.inf)
        kept = tuple(continued(*each) for each in zip(kept, own, first))
    return _by_key(kept[0]), _by_key(kept[1])


def _numbers(line: Mapping[str, Any]) -> dict[str, float]:
    return {
        key: float(value)
        for key, value in line.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if key not in _NOT_SHOWN and not key.startswith(_MEASURED)
    }


def _by_key(lines: Mapping[int, Mapping[str, float]]) -> dict[str, Points]:
    points: dict[str, Points] = defaultdict(list)
    for step, line in sorted(lines.items()):
        for key, value in line.items():
            points[key].append((step, value))
    return dict(points)


def _has_measurements(files: list[Path]) -> bool:
    return any(key.startswith(_MEASURED) for file in files for _, line in json_lines(file) for key in line)


def _config(folder: Path, logs: list[Path]) -> str:
    """The config of the last start of training, or else the newest: testing writes one too, with its own options."""
    trained = [config for log in logs if (config := log.with_name("config.py")).is_file()]
    found = trained or sorted(folder.glob("*/vis_data/config.py")) or sorted(folder.glob("*.py"))
    return found[-1].read_text(encoding="utf-8", errors="replace") if found else ""


def _versions(folder: Path, logs: list[Path]) -> dict[str, str]:
    """The versions in the text log of the last start of training, or else in the newest."""
    trained = [text for log in logs for text in log.parents[1].glob("*.log")]
    found = trained or sorted(folder.glob("*/*.log"))
    text = found[-1].read_text(encoding="utf-8", errors="replace")[:20_000] if found else ""
    return {name: value.strip() for name, value in _VERSIONS.findall(text)}
