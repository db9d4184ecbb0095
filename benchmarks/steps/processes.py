"""Times a training step in several processes, each with one thread and its own batch."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch
import torch.multiprocessing
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

import xtask_reg as xr
from steps.methods import Parts, parts, regularizer, task_loss
from steps.names import OURS
from steps.networks import CASES

WARM_UP = 3


class Plain(nn.Module):
    """A student alone, with the interface of :class:`xtask_reg.Regularized`: it returns no terms."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student = student

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.student(images), {}


def seconds_of_a_step(method: str, case: str, batch: int, processes: int, budget: float) -> list[float]:
    """Seconds of each step, measured by the first process.

    Args:
        method: FT or ours.
        case: the name of the network.
        batch: images per process.
        processes: their number; a single one runs without ``DistributedDataParallel``.
        budget: seconds to spend on steps; there are at least three.
    """
    with tempfile.TemporaryDirectory() as folder:
        arguments = (method, case, batch, processes, budget, folder)
        torch.multiprocessing.spawn(_process, arguments, nprocs=processes)
        return torch.load(Path(folder) / "seconds.pt")


def _process(rank: int, method: str, case: str, batch: int, processes: int, budget: float, folder: str) -> None:
    torch.set_num_threads(1)
    if processes > 1:
        distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=processes)
    found = _steps(rank, method, case, batch, budget)
    if rank == 0:
        torch.save(found, Path(folder) / "seconds.pt")
    if processes > 1:  # the wrapped model must be gone by now: as the group's last owner it can hang (PyTorch 2.11)
        distributed.destroy_process_group()


def _steps(rank: int, method: str, case: str, batch: int, budget: float) -> list[float]:
    model = _model(method, parts(CASES[case]))
    if distributed.is_initialized():
        model = DistributedDataParallel(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    torch.manual_seed(rank)
    images, target = CASES[case].batch(batch)
    found: list[float] = []
    while _goes_on(found, budget):
        start = time.perf_counter()
        heatmaps, terms = model(images)
        loss = sum(terms.values(), task_loss(heatmaps, target))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(time.perf_counter() - start)
    return found[WARM_UP:]


def _model(method: str, given: Parts) -> nn.Module:
    return xr.Regularized(given.student, regularizer(given)) if method == OURS else Plain(given.student)


def _goes_on(found: list[float], budget: float) -> bool:
    """Whether the first process continues with another step."""
    more = torch.tensor(len(found) < WARM_UP + 3 or sum(found[WARM_UP:]) < budget)
    if distributed.is_initialized():
        distributed.broadcast(more, 0)
    return bool(more)
