"""Trains a source network on a recognition task, from a table of images and identities."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xtask_reg.data.conversion.formats.csv_table import read_rows
from xtask_reg.inputs import PIXELS, InputAdapter, InputConvention


def read_identities(table: str | os.PathLike[str]) -> tuple[Tensor, Tensor, list[str]]:
    """Images and labels of a CSV with the columns ``file`` (relative to the table) and ``identity``.

    Columns are separated by commas, semicolons or tabs; others are ignored.

    Returns:
        Images ``(N, 3, H, W)`` uint8 RGB, labels ``(N,)``, and the identities in the order of the labels.

    Raises:
        FileNotFoundError: if the table does not exist.
        ValueError: if it lacks a column, rows or an identity, or an image is unreadable or of another size.
    """
    table = Path(table)
    header, numbered = read_rows(table)
    if not {"file", "identity"} <= set(header):
        raise ValueError(f"{table} has the columns {header}; expected 'file' and 'identity' among them")
    nobody = [line for line, row in numbered if not row["identity"]]
    if nobody:
        raise ValueError(f"{table}, line {nobody[0]}: the column 'identity' is empty")
    rows = [row for _, row in numbered]
    identities = sorted({row["identity"] for row in rows})
    images = [_read_rgb(table.parent / row["file"]) for row in rows]
    sizes = {image.shape for image in images}
    if len(sizes) > 1:
        raise ValueError(
            f"{table}: the images have different shapes {sorted(map(tuple, sizes))}; bring them to one size"
        )
    labels = torch.tensor([identities.index(row["identity"]) for row in rows])
    return torch.stack(images), labels, identities


def _read_rgb(path: Path) -> Tensor:
    import cv2

    image = cv2.imread(str(path))
    if image is None:
        raise ValueError(f"{path} does not exist or is not a readable image")
    return torch.from_numpy(image[:, :, ::-1].copy()).permute(2, 0, 1)


def train_classifier(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    convention: InputConvention,
    *,
    epochs: int,
    lr: float = 1e-3,
    batch_size: int = 32,
    seed: int = 0,
) -> Iterator[float]:
    """Train ``network`` to give the labels' logits; yields the mean loss of each epoch.

    Adam with a one-cycle learning rate, random horizontal flips, cross entropy.

    Args:
        network: maps images ``(B, 3, H, W)`` in ``convention`` to logits ``(B, classes)``.
        images: ``(N, 3, H, W)`` uint8 RGB.
        labels: ``(N,)``.
        convention: what the network expects of its input.
        epochs: passes over the images.
        lr: highest learning rate.
        batch_size: images a step; a single image that is left over joins the last batch.
        seed: of the order of the images and of the flips.
    """
    device = next(network.parameters()).device
    adapter = InputAdapter(PIXELS, convention).to(device)
    random = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    ends = list(range(batch_size, len(images) - 1, batch_size))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=max(epochs * (len(ends) + 1), 1))
    for _ in range(epochs):
        network.train()
        total = 0.0
        for chosen in torch.randperm(len(images), generator=random).tensor_split(ends):
            flip = (torch.rand(len(chosen), generator=random) < 0.5).to(device)[:, None, None, None]
            batch = adapter(images[chosen].to(device).float())
            loss = F.cross_entropy(network(torch.where(flip, batch.flip(3), batch)), labels[chosen].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
        yield total / len(images)


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor, convention: InputConvention) -> float:
    """Fraction of ``images`` ``(N, 3, H, W)`` whose highest logit is their label's; leaves the network in eval mode."""
    device = next(network.parameters()).device
    adapter = InputAdapter(PIXELS, convention).to(device)
    network.eval()
    hits = [network(adapter(batch.to(device).float())).argmax(1).cpu() for batch in images.split(64)]
    return (torch.cat(hits) == labels).float().mean().item()
