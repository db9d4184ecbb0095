"""The cost of a step with a cache of the teacher's outputs: plain FT, CTD-ED without cache, CTD-ED with a warm one.

SimpleBaseline over a ResNet, Adam, random images. Each round makes one step of each of the three on the same batch, in
a rotating order, so that a temporary load of the machine affects all; ratios are taken within a round.

OMP_NUM_THREADS=2 python benchmarks/cache_cost.py        # four minutes, on an idle machine
OMP_NUM_THREADS=1 python benchmarks/cache_cost.py --clock cpu        # on a shared one
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from provenance import provenance
from steps.measuring import CLOCKS, quartiles, seconds
from torch import Tensor, nn

import xtask_reg as xr

LANDMARKS, BATCHES, TARGET = 14, 6, 1.03
RESULTS = Path(__file__).parent / "results" / "cache_cost.json"
FT, ED, CACHED = "FT", "CTD-ED", "CTD-ED, warm cache"


@dataclass(frozen=True)
class Case:
    """A torchvision encoder, with images ``(batch, 3, side, side)``."""

    encoder: str
    channels: int
    batch: int
    side: int

    @property
    def name(self) -> str:
        """The key in the result file."""
        return f"{self.encoder}, {self.side} px, batch {self.batch}"


CASES = (Case("resnet18", 512, 8, 128), Case("resnet50", 2048, 2, 256))


class SimpleBaseline(nn.Module):
    """An encoder, three deconvolutions of 256 channels, and heatmaps at a quarter of the images' size."""

    def __init__(self, encoder: nn.Module, channels: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(*list(encoder.children())[:-2])
        layers = [layer for inputs in (channels, 256, 256) for layer in _deconvolution(inputs)]
        self.decoder = nn.Sequential(*layers, nn.Conv2d(256, LANDMARKS, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.decoder(self.encoder(images))


def _deconvolution(inputs: int) -> tuple[nn.Module, ...]:
    return nn.ConvTranspose2d(inputs, 256, 4, 2, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU(inplace=True)


def trainer(student: nn.Module, teacher: xr.FrozenTeacher | None) -> Callable[[Tensor], None]:
    """A function that makes a training step on a batch of images."""
    term = xr.Term(xr.CosineAlignmentLoss(), student="encoder.7", teacher="7", weight=0.002, name="ed")
    regularizer = xr.CrossTaskRegularizer(student, teacher, [] if teacher is None else [term])
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-5)

    def step(images: Tensor) -> None:
        heatmaps = student(images)
        loss = heatmaps.square().mean() + sum(regularizer().values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def measure(case: Case, duration: float, clock: str, folder: Path) -> dict[str, Any]:
    """Milliseconds of the three steps and of the teacher's outputs, and the ratios of the steps to FT."""
    network = SimpleBaseline(getattr(torchvision.models, case.encoder)(), case.channels)
    cache = xr.TeacherCache(folder, images=BATCHES * case.batch)
    teachers = {
        FT: None,
        ED: xr.FrozenTeacher(copy.deepcopy(network.encoder)),
        CACHED: xr.FrozenTeacher(copy.deepcopy(network.encoder), cache=cache),
    }
    steps = {name: trainer(copy.deepcopy(network), teacher) for name, teacher in teachers.items()}
    batches = [torch.randn(case.batch, 3, case.side, case.side) for _ in range(BATCHES)]
    for images in batches:
        teachers[CACHED].features(images, ["7"])
    for step in steps.values():
        step(batches[0])
    rounds: list[dict[str, float]] = []
    end = time.monotonic() + duration
    while time.monotonic() < end or len(rounds) < 3:
        images = batches[len(rounds) % BATCHES]
        names = np.roll(list(steps), len(rounds))
        works = {name: partial(steps[name], images) for name in names}
        works |= {f"teacher of {name}": partial(teachers[name].features, images, ["7"]) for name in (ED, CACHED)}
        rounds.append({name: seconds(work, "cpu", clock) for name, work in works.items()})
    times = {name: np.array([each[name] for each in rounds]) for name in rounds[0]}
    ratios = {name: quartiles(times[name] / times[FT]) for name in (ED, CACHED)}
    return {
        "rounds": len(rounds),
        "milliseconds": {name: quartiles(1000 * values) for name, values in times.items()},
        "ratio_to_ft": ratios,
        "target": TARGET,
        "meets_target": ratios[CACHED]["median"] <= TARGET,
    }


def markdown_table(cases: dict[str, Any]) -> str:
    """The steps of each case, with their ratio to plain FT."""
    lines = ["| case | step | milliseconds | ratio to FT | quartiles |", "|---|---|---|---|---|"]
    for name, case in cases.items():
        for step in (FT, ED, CACHED):
            ratio = case["ratio_to_ft"].get(step, {"median": 1, "lower": 1, "upper": 1})
            lines.append(
                f"| {name} | {step} | {case['milliseconds'][step]['median']:.0f} | {ratio['median']:.3f} "
                f"| {ratio['lower']:.3f} to {ratio['upper']:.3f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure both cases, print them and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=100, help="how long each case is measured")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="what is measured: wall time, or CPU time")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the result file")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    warnings.filterwarnings("ignore", message="the cache of the teacher's outputs")
    with tempfile.TemporaryDirectory() as folder:
        cases = {case.name: measure(case, arguments.seconds, arguments.clock, Path(folder)) for case in CASES}
    content = {"clock": arguments.clock, "threads": torch.get_num_threads(), "cases": cases, "provenance": provenance()}
    arguments.out.write_text(json.dumps(content, indent=1) + "\n")
    print(markdown_table(cases))


if __name__ == "__main__":
    main()
