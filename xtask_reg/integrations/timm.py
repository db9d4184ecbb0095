"""What timm says of its own models."""

from __future__ import annotations

from torch import nn

from xtask_reg.inputs import InputConvention


def input_convention(model: nn.Module) -> InputConvention:
    """How a timm model wants its images: mean, std, and the size where it takes no other one.

    Args:
        model: from ``timm.create_model``, trained or not, with ``features_only=True`` or without.

    Raises:
        ValueError: if the model does not say, as one that is not timm's.
    """
    settings = getattr(model, "pretrained_cfg", None) or {}
    if not {"mean", "std"} <= settings.keys():
        raise ValueError(f"{type(model).__name__} has no pretrained_cfg with mean and std: it is no model of timm")
    size = tuple(settings["input_size"][1:]) if settings.get("fixed_input_size") else None
    return InputConvention(mean=tuple(settings["mean"]), std=tuple(settings["std"]), size=size)


def feature_stages(model: nn.Module) -> list[str]:
    """Paths of the stages that timm itself names, from shallow to deep; a stem may be the first.

    Unlike :func:`xtask_reg.find_stages`, which looks at the sizes of the maps, this reads ``feature_info``.

    Args:
        model: from ``timm.create_model``, with ``features_only=True`` or without.

    Raises:
        ValueError: if the model does not name them, or has no such modules.
    """
    known = dict(model.named_modules())
    stages = [str(each.get("module")) for each in getattr(model, "feature_info", None) or []]
    # features_only=True makes one name of the path
    found = [name if name in known else name.replace(".", "_") for name in stages]
    if not found or not all(name in known for name in found):
        raise ValueError(
            f"{type(model).__name__} has no feature_info that names its modules; find stages with xtask_reg.find_stages"
        )
    return found
