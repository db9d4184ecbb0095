"""Trains a face-recognition network as source, and segmentation networks that start from it."""

from __future__ import annotations

from collections.abc import Iterator

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import xtask_reg as xr
from parts.datasets import Case, Identities
from xtask_reg.inputs import PIXELS
from xtask_reg.integrations.smp import load_encoder
from xtask_reg.sources.classification import accuracy, train_classifier

RATIO = 0.1
"""Ratio of L_ED's gradient at the tap to the task's (``xr.Balanced``)."""
DECODER = (64, 48, 32, 24, 16)
BATCH, LR, POWER = 4, 1e-3, 0.9
CONVENTION = xr.InputConvention()
TO_STUDENT = xr.InputAdapter(PIXELS, CONVENTION)


def train_source(people: Identities, epochs: int) -> tuple[nn.Module, float]:
    """A ResNet-18 trained from scratch to recognise the people, and its accuracy on held-out images."""
    torch.manual_seed(0)
    source = torchvision.models.resnet18(num_classes=int(people.labels.max()) + 1)
    kept = people.held_out
    for epoch, loss in enumerate(
        train_classifier(source, people.images[~kept], people.labels[~kept], CONVENTION, epochs=epochs), start=1
    ):
        print(f"source network, epoch {epoch}: loss {loss:.2f}", flush=True)
    return source, accuracy(source, people.images[kept], people.labels[kept], CONVENTION)


def train(method: str, source: nn.Module, case: Case, seed: int, epochs: int) -> nn.Module:
    """A Unet whose encoder starts as the source, trained for ``epochs``, with L_ED if that is the method.

    Cross entropy and Dice loss, Adam with polynomial decay; half of the images are mirrored. The seed determines the
    decoder and the batches.
    """
    torch.manual_seed(seed)
    model = smp.Unet("resnet18", encoder_weights=None, decoder_channels=DECODER, classes=len(case.classes))
    load_encoder(model.encoder, source.state_dict())
    keep = xr.ctd(model, source, "ctd-ed", weight=xr.Balanced(RATIO), quiet=True) if method == "CTD-ED" else None
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, fused=True)
    steps = epochs * -(-len(case.train.images) // BATCH)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, steps, POWER)
    soft_dice = smp.losses.DiceLoss("multiclass")
    for images, masks in _batches(case, seed, epochs):
        logits = model(images)
        loss = F.cross_entropy(logits, masks) + soft_dice(logits, masks)
        if keep is not None:
            loss = loss + sum(keep().values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    if keep is not None:
        keep.remove()
    return model


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Labels ``(N, S, S)`` of images ``(N, 3, S, S)`` uint8."""
    model.eval()
    return torch.cat([model(TO_STUDENT(batch.float())).argmax(1) for batch in images.split(16)])


def _batches(case: Case, seed: int, epochs: int) -> Iterator[tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for chosen in torch.randperm(len(case.train.images), generator=random).split(BATCH):
            images, masks = TO_STUDENT(case.train.images[chosen].float()), case.train.masks[chosen]
            flip = (torch.rand(len(chosen), generator=random) < 0.5)[:, None, None]
            yield torch.where(flip[..., None], images.flip(3), images), torch.where(flip, masks.flip(2), masks)
