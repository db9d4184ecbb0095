"""How the cost of a step grows with the batch, the image, and the numbers of terms, teachers and processes.

At each point the real step is measured in the same rounds as the parts of a cost model, FT + bare teachers + losses.
Processes have one thread each, and batches of the same size.

    OMP_NUM_THREADS=2 python benchmarks/step_scale.py
    python benchmarks/step_scale.py --processes 1 2
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from provenance import provenance
from result_lines import append
from steps.measuring import CLOCKS, Work, interleaved
from steps.methods import WEIGHT, Parts, by_hand, fine_tuning, ours, parts, step
from steps.names import FLOOR, LOSSES, OURS, PLAIN, TEACHER
from steps.networks import CASES
from steps.processes import seconds_of_a_step
from torch import Tensor

RESULTS = Path(__file__).parent / "results" / "step_scale.jsonl"
CASE = "ResNet-18, 128 px"
USUAL = {"batch": 4, "side": 128, "terms": 1, "teachers": 1}
SWEPT = {"batch": (1, 2, 8, 16), "side": (32, 64, 192, 256), "terms": (4, 8), "teachers": (2, 4)}


def points() -> Iterator[dict[str, int]]:
    """The default point, and those that differ from it in one number."""
    yield USUAL
    for name, values in SWEPT.items():
        for value in values:
            yield {**USUAL, name: value}


def works(point: dict[str, int], device: str) -> dict[str, Work]:
    """The step by three methods, and its parts alone."""
    case = CASES[CASE]
    torch.manual_seed(1)
    images, target = (each.to(device) for each in case.batch(point["batch"], point["side"]))

    def fresh() -> Parts:
        given = parts(case, terms=point["terms"], teachers=point["teachers"])
        for network in (given.student, *given.sources):
            network.to(device)
        return given

    methods = {PLAIN: fine_tuning, FLOOR: by_hand, OURS: ours}
    whole = {name: partial(step(way, fresh(), torch.float32), images, target) for name, way in methods.items()}
    for work in whole.values():
        work()  # the teacher's first pass is complete, later ones end at the taps
    return {**whole, TEACHER: bare_teachers(fresh(), images), LOSSES: losses(fresh(), images)}


def bare_teachers(given: Parts, images: Tensor) -> Work:
    """The forward passes of all sources."""

    @torch.no_grad()
    def run() -> None:
        for source in given.sources:
            source.backbone(images)

    return run


def losses(given: Parts, images: Tensor) -> Work:
    """Forward and backward of all terms, down to the student's features."""
    with torch.no_grad():
        own = [each.clone().requires_grad_() for each in given.student.backbone(images)]
        theirs = [source.backbone(images) for source in given.sources]

    def run() -> None:
        sum(WEIGHT * loss(own[stage], each[stage]) for each in theirs for stage, loss in given.terms).backward()

    return run


def measure(point: dict[str, int], device: str, budget: float, clock: str) -> dict[str, Any]:
    """The record of a point."""
    found = interleaved(works(point, device), device, budget, clock)
    return {**point, "device": device, "clock": clock, "seconds": found}


def main() -> None:
    """Measure all points, or the processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seconds", type=float, default=6, help="that the rounds of a point may take")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: on a machine that others use")
    parser.add_argument("--processes", type=int, nargs="+", help="measure DDP on the CPU instead: how many processes")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    known = {**provenance(), "case": CASE}
    if arguments.processes:
        os.environ["OMP_NUM_THREADS"] = "1"
        for processes in arguments.processes:
            for name in (PLAIN, OURS):
                found = seconds_of_a_step(name, CASE, USUAL["batch"], processes, arguments.seconds)
                append(
                    arguments.results, {"processes": processes, "method": name, "seconds": found, "threads": 1, **known}
                )
        return
    for point in points():
        found = measure(point, arguments.device, arguments.seconds, arguments.clock)
        append(arguments.results, {**found, "threads": torch.get_num_threads(), **known})


if __name__ == "__main__":
    main()
