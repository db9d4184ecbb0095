"""Trains the demonstration's source network, which recognises synthetic people."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from xtask_reg.inputs import InputConvention
from xtask_reg.integrations.mmengine.source import untrained_source
from xtask_reg.sources import save_weights
from xtask_reg.sources.classification import accuracy, read_identities, train_classifier


def train_source(
    table: Path, out: Path, model: Any, held_out: int, epochs: int, progress: Callable[[float], None]
) -> float:
    """Train the source network of a config, and write its encoder and classifier (``fc.*``).

    Args:
        table: ``identities.csv`` of the images.
        out: the ``.safetensors`` to write.
        model: the config's ``model``; its backbone, its teacher's classifier and its data preprocessor are used.
        held_out: n, where every n-th image is held out for the accuracy.
        epochs: passes over the images.
        progress: called after each epoch with its mean loss.

    Returns:
        The accuracy on the held-out images.
    """
    torch.manual_seed(0)
    network = untrained_source(model).to("cuda" if torch.cuda.is_available() else "cpu")
    preprocessor = model.data_preprocessor
    convention = InputConvention(tuple(preprocessor.mean), tuple(preprocessor.std), value_range=255)
    images, labels, _ = read_identities(table)
    kept = torch.arange(len(images)) % held_out == 0
    for loss in train_classifier(network, images[~kept], labels[~kept], convention, epochs=epochs):
        progress(loss)
    score = accuracy(network, images[kept], labels[kept], convention)
    assert network.classifier is not None
    network.cpu()
    weights = {**network.backbone.state_dict(), **network.classifier.state_dict()}
    facts = {"task": "synthetic identities", "accuracy": f"{score:.4f}"}
    save_weights(weights, out, facts | convention.to_metadata())
    return score
