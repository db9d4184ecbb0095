"""Reads the measurements from a run's log."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

STAGES, TERMS = ("cosine", "cka"), ("ratio", "weight", "value")
STEPS = ("iter", "step")

Lines = dict[int, dict[str, float]]
"""The numbers of each step, by name."""
Points = list[tuple[int, float]]
Curves = Mapping[str, Mapping[str, Points]]
"""The steps and values of each kind of measurement, by stage or term."""


def read_log(path: str | os.PathLike[str]) -> Curves:
    """The measurements in a log of JSON lines, such as MMEngine writes.

    A log repeats what was measured last until there is news, which is kept where it first stands: that of the stages
    where any of their numbers changes, that of a term where one of its own does. What never changes is kept at its
    first and last step. Numbers that are not finite are left out.

    Args:
        path: a file of JSON lines, each with a step (``"iter"`` or ``"step"``) and keys of
            :attr:`xtask_reg.CrossTaskRegularizer.report`; or the work folder of an MMEngine run. There the logs of
            resumed runs are read in order: a later one stands in place of all that came after its first step.

    Raises:
        FileNotFoundError: if there is no such file, or the folder has no log.
        ValueError: for a line that is not JSON, a measurement or step that is no number, or a log without measurements.
    """
    path = Path(path)
    files = scalar_files(path) if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(f"{path} has no */vis_data/scalars.json: name the work folder of an MMEngine run")
    lines: Lines = {}
    for file in files:
        own: Lines = defaultdict(dict)
        for step, found in _measurements(file):
            own[step] |= found
        lines = continued(lines, own, min(own, default=math.inf))
    if not lines:
        raise ValueError(
            f"{path} has no measurements (keys such as cosine/..., ratio/...): train with model.monitor, or "
            "CrossTaskRegularizer(..., monitor=Monitor(...)) and write its report to the log"
        )
    curves: dict[str, dict[str, Points]] = defaultdict(dict)
    for key, points in sorted(_news(sorted(lines.items())).items()):
        kind, _, name = key.partition("/")
        curves[kind][name] = points
    return dict(curves)


def continued(old: Lines, new: Lines, first: float) -> Lines:
    """A log with that of the resumed run, which replaces everything from its ``first`` step on."""
    return {step: line for step, line in old.items() if step < first} | new


def _news(lines: Iterable[tuple[int, Mapping[str, float]]]) -> dict[str, Points]:
    """The points of each key, without repetitions."""
    points: dict[str, Points] = defaultdict(list)
    last: dict[str, Mapping[str, float]] = {}
    latest: dict[str, int] = {}
    for step, line in lines:
        for group in {_group(key) for key in line}:
            values = {key: value for key, value in line.items() if _group(key) == group}
            latest |= dict.fromkeys(values, step)
            if values != last.get(group):
                last[group] = values
                for key, value in values.items():
                    points[key].append((step, value))
    for key, ((first, value), *others) in points.items():
        if not others and latest[key] > first:
            points[key].append((latest[key], value))
    return points


def _group(key: str) -> str:
    """The measurements that are made together: all stages, or those of one term."""
    kind, _, name = key.partition("/")
    return "" if kind in STAGES else name


def _measurements(file: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """The steps of a log with their measurements; lines without any are left out."""
    for number, line in json_lines(file):
        step = next((key for key in STEPS if key in line), None)
        keys = [key for key in line if key.partition("/")[0] in STAGES + TERMS and key.partition("/")[2]]
        for key in (step, *keys) if keys and step else ():
            if isinstance(line[key], bool) or not isinstance(line[key], (int, float)):
                raise ValueError(f"{file}, line {number}: {key} is {line[key]!r}; expected a number")
        found = {key: line[key] for key in keys if math.isfinite(line[key])}
        if step and found:
            yield line[step], found


def json_lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects in a file of JSON lines, with their line numbers; an incomplete last line is left out.

    Raises:
        ValueError: for a line that is not JSON, or not an object.
    """
    content = file.read_text(encoding="utf-8", errors="replace")
    for number, text in enumerate(content.splitlines(), start=1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError) as error:
            if number > 1 and text and content.endswith(text):
                warnings.warn(f"{file}, line {number} was cut off, and is left out")
                return
            raise ValueError(f"{file}, line {number}: not JSON ({error})") from error
        if not isinstance(line, dict):
            raise ValueError(f"{file}, line {number}: expected an object with keys, found {text[:40]!r}")
        yield number, line


def scalar_files(folder: Path) -> list[Path]:
    """The logs in the work folder of an MMEngine run, one for each time that it was started or resumed, in order.

    Raises:
        OSError: if the folder cannot be read.
    """
    next(folder.iterdir(), None)  # raises, unlike glob
    return sorted(folder.glob("*/vis_data/scalars.json"))
