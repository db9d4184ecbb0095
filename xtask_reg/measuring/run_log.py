"""What a run's log says of the measurements."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

KINDS = ("cosine", "cka", "ratio", "weight", "value")
STEPS = ("iter", "step")

Curves = Mapping[str, Mapping[str, list[tuple[int, float]]]]
"""For each kind of measurement, by stage or term, the steps and values."""


def read_log(path: Path) -> Curves:
    """The measurements in a log of JSON lines, such as MMEngine writes.

    Args:
        path: a file of JSON lines, each with a step (``"iter"`` or ``"step"``) and keys of
            :attr:`xtask_reg.CrossTaskRegularizer.report`; or the work folder of an MMEngine run, whose logs, of resumed
            runs too, are read in order.

    Raises:
        FileNotFoundError: if there is no such file, or the folder has no log.
        ValueError: for a line that is not JSON, or a log without measurements.
    """
    files = sorted(path.glob("*/vis_data/scalars.json")) if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(f"{path} has no */vis_data/scalars.json: name the work folder of an MMEngine run")
    curves: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for file in files:
        for number, line in enumerate(file.read_text().splitlines(), start=1):
            entry = _entry(line, file, number)
            step = next((entry[key] for key in STEPS if key in entry), None)
            for key in entry.keys() if step is not None else ():
                kind, _, name = key.partition("/")
                if kind in KINDS and name:
                    curves[kind][name][step] = entry[key]
    if not curves:
        raise ValueError(
            f"{path} has no measurements (keys such as cosine/..., ratio/...): train with model.monitor, or "
            "CrossTaskRegularizer(..., monitor=Monitor(...)) and its report in the log"
        )
    return {
        kind: {name: sorted(points.items()) for name, points in named.items()} for kind, named in sorted(curves.items())
    }


def _entry(line: str, file: Path, number: int) -> dict[str, float]:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{file}, line {number}: not JSON ({error})") from error
    if not isinstance(entry, dict):
        raise ValueError(f"{file}, line {number}: expected an object with keys, found {line[:40]!r}")
    return entry
