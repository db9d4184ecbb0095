"""A source network's weights in an encoder of segmentation_models_pytorch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from segmentation_models_pytorch.encoders import TimmUniversalEncoder
from torch import Tensor, nn

from xtask_reg.sources import load_covering

CLASSIFIERS = ("fc.", "classifier.", "head.")


def load_encoder(
    encoder: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    prefix: str = "",
    ignore: str | Sequence[str] = CLASSIFIERS,
    name: str = "source checkpoint",
) -> None:
    """Fill an encoder with the weights of a source network: all of it, or nothing at all.

    SMP's ResNets have torchvision's names. For ``tu-...`` encoders the weights are those of the timm model, whose
    ``stages.0`` is ``stages_0`` within a feature extractor. ``encoder.load_state_dict(weights)`` takes the classifier
    out of the dict that it is given, and ``strict=False`` accepts anything.

    Args:
        encoder: ``model.encoder`` of an SMP network.
        weights: the source's tensors by name, from :func:`xtask_reg.sources.load_weights` for instance.
        prefix: where the names of the network begin in it: ``"encoder."`` in a checkpoint of an SMP network,
            ``"encoder.model."`` with a ``tu-...`` encoder.
        ignore: beginnings of names (after ``prefix``) to leave out, for which the encoder has no part; by default a
            classifier's.
        name: what error messages call the weights.

    Raises:
        ValueError: for weights that are missing, left over (a ResNet-34's in a ResNet-18) or of another shape.

    Example:
        >>> load_encoder(smp.Unet("resnet18", encoder_weights=None).encoder, torchvision.models.resnet18().state_dict())
    """
    network = encoder.model if isinstance(encoder, TimmUniversalEncoder) else encoder
    parts = dict(network.named_children())
    renamed = {_renamed(key, prefix, parts): value for key, value in weights.items()}
    load_covering(network, renamed, prefix=prefix, ignore=ignore, name=name)


def _renamed(key: str, prefix: str, parts: Collection[str]) -> str:
    return prefix + _flat(key.removeprefix(prefix), parts) if key.startswith(prefix) else key


def _flat(key: str, parts: Collection[str]) -> str:
    """``stages_0.conv.weight`` for ``stages.0.conv.weight``, if timm's feature extractor has the former."""
    container, _, rest = key.partition(".")
    part, _, rest = rest.partition(".")
    joined = f"{container}_{part}"
    return f"{joined}.{rest}" if container not in parts and joined in parts else key
