"""Input convention and stages of timm models, by timm's own metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from xtask_reg.inputs import InputConvention


def input_convention(model: nn.Module) -> InputConvention:
    """What a timm model expects of its images: RGB in 0..1, its mean and std, and its size if it takes no other.

    The size is the one that the model was made for, ``timm.create_model(..., img_size=64)``, not the published one.

    Args:
        model: from ``timm.create_model``, trained or not, with ``features_only=True`` or without.

    Raises:
        ValueError: if the model does not state it, for instance one that is not timm's.
    """
    settings = getattr(model, "pretrained_cfg", None) or {}
    if not {"mean", "std"} <= settings.keys():
        raise ValueError(f"{type(model).__name__} has no pretrained_cfg with mean and std: it is not a timm model")
    mean, std = tuple(settings["mean"]), tuple(settings["std"])
    return InputConvention(mean=mean, std=std, size=_only_size(model, settings))


def _only_size(model: nn.Module, settings: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width in pixels of the only images that a model accepts; None if it accepts others."""
    embedding = getattr(getattr(model, "model", model), "patch_embed", None)
    if not settings.get("fixed_input_size") or not getattr(embedding, "strict_img_size", True):
        return None
    return tuple(getattr(embedding, "img_size", None) or settings["input_size"][1:])


def feature_stages(model: nn.Module) -> list[str]:
    """Paths of the stages that timm itself names, from shallow to deep; a stem may be the first.

    Unlike :func:`xtask_reg.find_stages`, which looks at the sizes of the maps, this reads ``feature_info``. With
    ``features_only=True`` they are the stages whose features the model returns.

    Args:
        model: from ``timm.create_model``, with ``features_only=True`` or without.

    Raises:
        ValueError: if the model does not name them, or has no such modules.
    """
    known = dict(model.named_modules())
    info = getattr(model, "feature_info", None) or []
    stages = info.module_name() if hasattr(info, "module_name") else [str(each.get("module")) for each in info]
    found = [_as_registered(stage, known) for stage in stages]
    if not found or None in found:
        raise ValueError(
            f"{type(model).__name__} has no feature_info that names its modules; find stages with xtask_reg.find_stages"
        )
    return [path for path in found if path is not None]


def _as_registered(stage: str, known: Mapping[str, nn.Module]) -> str | None:
    """The registered path of a stage: ``features_only=True`` joins its parts, or puts the model under ``model``."""
    return next((path for path in (stage, stage.replace(".", "_"), f"model.{stage}") if path in known), None)
