"""A tiny network, data, modules and trainers for the Lightning tests."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

import xtask_reg as xr
from xtask_reg.integrations.lightning import CrossTaskMixin

BATCHES, BATCH, CLASSES, POINTS = 8, 4, 5, 6


class Net(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.layer2 = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.fc = nn.Linear(6, outputs)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.layer2(self.layer1(images)).mean(dim=(2, 3)))


def source() -> Net:
    torch.manual_seed(1)
    return Net(CLASSES)


def student() -> Net:
    net = source()
    net.fc = nn.Linear(6, POINTS)
    return net


def ed(weight: xr.term.Weight = 0.3) -> xr.Term:
    return xr.Term(xr.CosineAlignmentLoss(), student="layer2", teacher="layer2", weight=weight, name="ed")


def cd(weight: xr.term.Weight = 20.0) -> xr.Term:
    connector = xr.retained_classifier(source().fc)
    return xr.Term(
        xr.SoftmaxL2Loss(), student="layer2", teacher="fc", weight=weight, name="cd", student_connector=connector
    )


TERMS: dict[str, Callable[[], list[xr.Term]]] = {
    "ed": lambda: [ed()],
    "cd": lambda: [cd()],
    "balanced": lambda: [ed(xr.Balanced(0.5, every=2)), cd(xr.Balanced(xr.LinearDecay(0.5), every=2))],
    "scheduled": lambda: [ed(xr.CosineDecay(2.0))],
}
Make = Callable[[], list[xr.Term]]


def data(batches: int = BATCHES) -> TensorDataset:
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(batches * BATCH, 3, 12, 12, generator=generator)
    return TensorDataset(images, torch.randn(batches * BATCH, POINTS, generator=generator))


class Plain(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.student = student()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return mse_loss(self.student(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("error", mse_loss(self.student(batch[0]), batch[1]))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


class Detector(CrossTaskMixin, Plain):
    """The teacher is made when a training begins; ``make`` is None if it cannot be made."""

    def __init__(self, make: Make | None = None, monitor: int | None = None) -> None:
        super().__init__()
        self.make, self.monitor = make, monitor
        self.weights: list[dict[str, float]] = []
        self.values: list[dict[str, float]] = []
        self.reports: list[dict[str, float]] = []

    def setup(self, stage: str) -> None:
        if stage == "fit":
            monitor = xr.Monitor(["layer1", "layer2"], self.monitor) if self.monitor else None
            self.regularize(self.student, xr.FrozenTeacher(source()), self.make(), monitor=monitor)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        task = super().training_step(batch, batch_idx)
        total = task + self.regularization()
        self.weights.append({name: term.weight for name, term in self.regularizer.terms.items()})
        self.values.append({"sum": (total - task).item()})
        return total


class AtOnce(Detector):
    """Makes the regularizer in the constructor."""

    def __init__(self, make: Make = TERMS["cd"]) -> None:
        super().__init__(make)
        self.regularize(self.student, xr.FrozenTeacher(source()), make())

    def setup(self, stage: str) -> None:
        pass


def trainer(folder: Path, epochs: int = 2, **options: Any) -> lightning.Trainer:
    on_cpu = dict(accelerator="cpu", devices=1, default_root_dir=folder)
    quiet = dict(enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)
    defaults = dict(**on_cpu, **quiet, logger=CSVLogger(folder), log_every_n_steps=1)
    return lightning.Trainer(max_epochs=epochs, **{**defaults, **options})


def fit(
    module: lightning.LightningModule, folder: Path, epochs: int = 2, path: Path | None = None, **options: Any
) -> Any:
    run = trainer(folder, epochs, **options)
    loaders = [DataLoader(data(), BATCH), DataLoader(data(), BATCH)]
    run.fit(module, *loaders, ckpt_path=path)
    return run


def by_hand(terms: list[xr.Term], epochs: int = 2) -> tuple[nn.Module, xr.CrossTaskRegularizer]:
    """The same training as a loop by hand."""
    net = student()
    keep = xr.CrossTaskRegularizer(net, xr.FrozenTeacher(source()), terms)
    optimizer = torch.optim.Adam([*net.parameters(), *keep.parameters()], lr=0.01)
    for step, (images, points) in enumerate([*DataLoader(data(), BATCH)] * epochs):
        keep.progress = step / (epochs * BATCHES)
        total = mse_loss(net(images), points) + sum(keep().values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    return net, keep


def rows(run: lightning.Trainer) -> list[dict[str, float]]:
    with (Path(run.logger.log_dir) / "metrics.csv").open() as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
