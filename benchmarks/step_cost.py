"""What the teacher adds to a training step, compared with the floor: plain FT plus a bare forward pass of the teacher.

One process per setting, in which the methods alternate; times and peak memory are appended to
benchmarks/results/step_cost.jsonl, from which step_report.py makes the report:

    OMP_NUM_THREADS=2 python benchmarks/step_cost.py --case "ResNet-50, 256 px" --batch 2
    python benchmarks/step_cost.py --batch 2 --measure memory
    python benchmarks/step_cost.py --batch 2 --measure options      # of FrozenTeacher
    python benchmarks/step_cost.py --batch 32 --device cuda --precision bfloat16 --channels-last

torchdistill is measured if it is installed: uv sync --group benchmarks
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from provenance import provenance
from result_lines import append
from steps.measuring import CLOCKS, Work, interleaved, peak_bytes
from steps.methods import METHODS, ON_A_GPU, OPTIONS, WEIGHT, Parts, beside, kept, parts, regularizer, step
from steps.names import FLOOR, OURS
from steps.networks import CASES
from torch import Tensor

RESULTS = Path(__file__).parent / "results" / "step_cost.jsonl"
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Setting:
    """What all methods share: network, batch, device, precision, memory format."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.case = CASES[arguments.case]
        self.device: str = arguments.device
        self.precision = PRECISIONS[arguments.precision]
        self.format = torch.channels_last if arguments.channels_last else torch.contiguous_format
        torch.manual_seed(1)
        images, self.target = (each.to(self.device) for each in self.case.batch(arguments.batch))
        self.images = images.contiguous(memory_format=self.format)

    def parts(self) -> Parts:
        """A new student and source, with the same weights each time."""
        given = parts(self.case)
        for network in (given.student, *given.sources):
            network.to(self.device, memory_format=self.format)
        return given

    def step(self, method: Callable[[Parts], Callable[[Tensor, Tensor], Tensor]]) -> Work:
        """A step that can be called repeatedly; each call returns the loss."""
        return partial(step(method, self.parts(), self.precision), self.images, self.target)

    def optional(self, options: Mapping[str, Any]) -> tuple[float, Work]:
        """L_ED at the start and the step, with these options of the teacher."""
        given = self.parts()
        keep = regularizer(given, **options)
        for _ in range(2):  # compiled passes begin with the second
            with torch.autocast(self.device, self.precision, enabled=self.precision != torch.float32):
                given.student(self.images)
                found = keep()
        work = partial(step(partial(kept, keep=keep), given, self.precision), self.images, self.target)
        return sum(found.values()).item() / WEIGHT, work


def of_teacher(setting: Setting, names: Sequence[str]) -> tuple[dict[str, float], dict[str, Work]]:
    """L_ED and the step for each set of teacher options, for the floor and for the default teacher."""
    chosen = {name: OPTIONS[name] for name in names if setting.device == "cuda" or name not in ON_A_GPU}
    made = {name: setting.optional(options) for name, options in ({OURS: {}} | chosen).items()}
    works = {FLOOR: setting.step(METHODS[FLOOR])} | {name: work for name, (_, work) in made.items()}
    if setting.device == "cuda":
        last = list(chosen)[-1]
        works[f"{last}, on a second stream"] = setting.step(partial(beside, **chosen[last]))
    return {name: term for name, (term, _) in made.items()}, works


def measure(what: str, setting: Setting, budget: float, clock: str, options: Sequence[str]) -> dict[str, Any]:
    """One record: ``times`` of all methods, ``options`` of the teacher, or ``memory`` of all methods."""
    if what == "memory":
        build = {name: partial(setting.step, method) for name, method in METHODS.items()}
        return {"peak_bytes": {name: peak_bytes(each, setting.device) for name, each in build.items()}}
    found: dict[str, Any] = {}
    if what == "options":
        found["term"], works = of_teacher(setting, options)
    else:
        works = {name: setting.step(method) for name, method in METHODS.items()}
    found["first_loss"] = {name: float(work()) for name, work in works.items()}
    times = interleaved(works, setting.device, budget, clock)
    return found | {"clock": clock, "seconds": {name: [*map(_rounded, each)] for name, each in times.items()}}


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def made_by(device: str) -> dict[str, Any]:
    """Provenance, with torchdistill's version if it was measured."""
    known = provenance()
    try:
        known["versions"]["torchdistill"] = version("torchdistill")
    except PackageNotFoundError:
        print("torchdistill is not installed: its column is left out (uv sync --group benchmarks)")
    return known | ({"threads": torch.get_num_threads()} if device == "cpu" else {})


def main() -> None:
    """Measure one setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, default=next(iter(CASES)))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="bfloat16 is by autocast")
    parser.add_argument("--channels-last", action="store_true", help="of images, student and teacher")
    parser.add_argument("--measure", choices=("times", "options", "memory"), default="times")
    parser.add_argument("--options", nargs="+", choices=OPTIONS, default=list(OPTIONS), help="some of the options")
    parser.add_argument("--seconds", type=float, default=60, help="that the rounds may take; three are made anyway")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: on a machine that others use")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    known = made_by(arguments.device)
    chosen = {name: getattr(arguments, name) for name in ("case", "batch", "device", "precision", "channels_last")}
    found = measure(arguments.measure, Setting(arguments), arguments.seconds, arguments.clock, arguments.options)
    append(arguments.results, {"measured": arguments.measure, **chosen, **found, **known})


if __name__ == "__main__":
    main()
