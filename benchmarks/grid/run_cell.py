"""Trains one cell in its own process: ``python -m grid.run_cell CELL DATA_ROOT PREPARED FOLDER``.

CELL is the JSON of its identity. ``result.json`` appears in FOLDER only when everything is done.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmengine.runner import Runner
from provenance import provenance
from run_log import logged

import grid.wise_ft  # noqa: F401  (registers its hook)
from grid import identities
from grid.cell import STRANGERS, Cell
from grid.config import cell_config, fingerprint
from grid.datasets import DATASETS, people_of, portraits_without_labels, read_people, write_people
from grid.kept import kept
from grid.methods import PHOTOGRAPHS, PORTRAITS
from grid.places import Places
from xtask_reg.landmarks.predictions import read_predictions
from xtask_reg.measuring.run_log import read_log


def train(cell: Cell, places: Places, folder: Path) -> dict[str, Any]:
    """The result line of a cell, with the errors of its test images."""
    content = read_people(places.landmarks(cell.dataset), DATASETS[cell.dataset].files)
    for people, file in zip(people_of(cell, len(content["images"])), ("train.json", "test.json")):
        write_people(content, people, folder / file)
    of_strangers = cell.setting.get("kept") == STRANGERS
    if cell.method.endswith(PHOTOGRAPHS):
        count = cell.setting.get("photographs")
        _link(identities.seen(places.data_root, cell.fold, count, of_strangers), folder / PHOTOGRAPHS)
    if cell.method.endswith(PORTRAITS):
        _link(portraits_without_labels(cell, content, places.landmarks(cell.dataset)), folder / PORTRAITS)
    config = cell_config(cell, places, folder)
    config.work_dir = str(folder / "log")
    # keeps the points of the last test
    config.val_evaluator = {**config.val_evaluator, "outfile": str(folder / "predictions.json")}
    runner = Runner.from_cfg(config)
    start = time.monotonic()
    runner.train()
    seconds = time.monotonic() - start
    curve = [round(error, 4) for error in logged(folder / "log", "landmark/ME")]
    predictions = read_predictions(folder / "predictions.json")
    scores = predictions.scores
    return {
        **asdict(cell),
        "me": scores.me,
        "sd": scores.sd,
        "fr": scores.fr,
        "auc": scores.auc,
        "me_argmax": _by_argmax(runner),
        "seconds": round(seconds, 1),
        "curve": curve,  # the mean errors of all tests, in order
        **(_measured(folder / "log") if "monitor" in config.model else {}),
        **(kept(runner.model, cell.source, places, of_strangers) if cell.setting.get("kept") else {}),
        "config": fingerprint(config, places, folder),
        "errors": {Path(image).stem: error for image, error in zip(predictions.images, predictions.errors.tolist())},
    }


def _link(files: Iterable[Path], folder: Path) -> None:
    folder.mkdir()
    for file in files:
        (folder / file.name).symlink_to(file.absolute())


def _by_argmax(runner: Runner) -> float:
    """The mean error with the paper's decoding by argmax, which cannot fall below 0.38."""
    runner.model.head.decoder.method = "argmax"
    for metric in runner.val_loop.evaluator.metrics:
        metric.outfile = None
    return runner.val_loop.run()["landmark/ME"]


def _measured(folder: Path) -> dict[str, Any]:
    """The mean ratio of each term's gradient to the task's, and each stage's last cosine to the source's.

    On unlabelled photographs the task has no gradient, and a term no ratio.
    """
    log = read_log(folder)
    ratios = {name: [value for _, value in points] for name, points in log.get("ratio", {}).items()}
    return {
        "ratio": {name: sum(values) / len(values) for name, values in ratios.items()},
        "cosine": {stage: round(points[-1][1], 4) for stage, points in log["cosine"].items()},
    }


def main(cell: str, data_root: str, prepared: str, folder: str) -> None:
    """Train, and write the result."""
    warnings.filterwarnings("ignore")
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    result = train(Cell(**json.loads(cell)), Places(Path(data_root), Path(prepared)), out)
    partial = out / "result.partial"
    partial.write_text(json.dumps({**result, **provenance()}))
    partial.rename(out / "result.json")


if __name__ == "__main__":
    main(*sys.argv[1:])
