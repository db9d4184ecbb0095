"""The cost of each loss: forward and backward, relative to one forward pass of a frozen ResNet-50 teacher.

Features (32, 2048, 8, 8), logits (32, 1000), the parameters of a ResNet-50 for L2SPPenalty; the teacher sees images
(32, 3, 256, 256). Each repetition times the teacher and then every loss once, so that a temporary load of the machine
affects all; ratios are taken within a repetition. On the CPU with one thread; on a GPU also under bfloat16 autocast.

OMP_NUM_THREADS=1 python benchmarks/loss_cost.py        # several minutes
python benchmarks/loss_cost.py --device cuda
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from provenance import provenance
from steps.measuring import quartiles, seconds
from torch import Tensor, nn

import xtask_reg as xr

BATCH, SIDE, CHANNELS, CELLS, CLASSES = 32, 256, 2048, 8, 1000
LOGITS = ("KDLoss", "LwFLoss", "SoftmaxL2Loss")
NAMES = [name for name in xr.__all__ if name.endswith(("Loss", "Penalty")) and name != "Penalty"]
REPETITIONS = {"cpu": 11, "cuda": 101}
TARGET, TARGET_OF_BATCH = 5, 15
"""Percent of the teacher's forward pass; the second for losses that compare all images of a batch."""
RESULTS = {"cpu": "loss_cost.json", "cuda": "loss_cost_gpu.json"}


def target(name: str) -> int:
    """The percentage that a loss should stay below."""
    return TARGET_OF_BATCH if name.startswith(("RKD", "BSS")) else TARGET


def tensors(shape: tuple[int, ...], device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Features of student (with gradient) and teacher, after a ReLU like most features."""
    student, teacher = torch.randn(2, *shape, device=device).relu().to(dtype)
    return student.requires_grad_(), teacher


def step(name: str, device: str, dtype: torch.dtype) -> Callable[[], object]:
    """The forward and backward pass of a loss, down to its inputs."""
    loss = getattr(xr, name)()
    if isinstance(loss, xr.Penalty):
        student, teacher = (dict(torchvision.models.resnet50().to(device).named_parameters()) for _ in range(2))
        teacher = {path: parameter.detach() for path, parameter in teacher.items()}
        return lambda: torch.autograd.grad(loss(student, teacher), list(student.values()))
    shape = (BATCH, CLASSES) if name in LOGITS else (BATCH, CHANNELS, CELLS, CELLS)
    student, teacher = tensors(shape, device, dtype)
    given = (student,) if name == "BSSLoss" else (student, teacher)
    return lambda: torch.autograd.grad(loss(*given), student)


def teacher_pass(device: str) -> Callable[[], object]:
    """The forward pass of a frozen ResNet-50."""
    network: nn.Module = torchvision.models.resnet50().to(device).eval().requires_grad_(False)
    images = torch.randn(BATCH, 3, SIDE, SIDE, device=device)

    def run() -> Tensor:
        with torch.no_grad():
            return network(images)

    return run


def measure(device: str, dtype: torch.dtype) -> dict[str, Any]:
    """Milliseconds and percentages of every loss."""
    works = {"teacher": teacher_pass(device), **{name: step(name, device, dtype) for name in NAMES}}
    with torch.autocast(device, torch.bfloat16, enabled=dtype == torch.bfloat16):
        for work in works.values():
            work()
        rounds = [[seconds(work, device) for work in works.values()] for _ in range(REPETITIONS[device])]
    times = dict(zip(works, np.array(rounds).T))
    losses = {}
    for name in NAMES:
        percent = quartiles(100 * times[name] / times["teacher"])
        losses[name] = {
            "percent": percent,
            "milliseconds": quartiles(1000 * times[name]),
            "target": target(name),
            "meets_target": percent["median"] < target(name),
        }
    return {
        "repetitions": REPETITIONS[device],
        "teacher_milliseconds": quartiles(1000 * times["teacher"]),
        "losses": losses,
    }


def settings(device: str) -> Iterator[tuple[str, torch.dtype]]:
    """The settings to measure on a device: name and precision of the features."""
    if device == "cpu":
        yield "cpu, float32, 1 thread", torch.float32
    else:
        yield "cuda, float32", torch.float32
        yield "cuda, bfloat16 autocast", torch.bfloat16


def markdown_table(measured: Mapping[str, Any]) -> str:
    """The losses of one setting, the cheapest first."""
    lines = ["| loss | % of the teacher's forward pass | quartiles | target |", "|---|---|---|---|"]
    for name, cost in sorted(measured["losses"].items(), key=lambda item: item[1]["percent"]["median"]):
        percent = cost["percent"]
        met = "met" if cost["meets_target"] else "missed"
        lines.append(
            f"| `{name}` | {percent['median']:.2f} | {percent['lower']:.2f} to {percent['upper']:.2f} "
            f"| below {cost['target']}: {met} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure everything, print it and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=RESULTS, default="cpu")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results", help="folder of the file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    measured = {name: measure(arguments.device, dtype) for name, dtype in settings(arguments.device)}
    file = arguments.results / RESULTS[arguments.device]
    file.write_text(json.dumps({"settings": measured, "provenance": provenance()}, indent=1) + "\n")
    for name, each in measured.items():
        print(f"{name}: the teacher takes {each['teacher_milliseconds']['median']:.2f} ms\n\n{markdown_table(each)}\n")


if __name__ == "__main__":
    main()
