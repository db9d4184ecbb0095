"""Networks by name: of timm, of segmentation_models_pytorch, or returned by a function."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from typing import Any

from torch import nn

EXPECTED = "'timm/<model name>' or 'package.module:function', or 'smp/<architecture>/<encoder>'"


def build_module(name: str, **kwargs: Any) -> nn.Module:
    """The module that a name stands for, with random weights unless ``kwargs`` ask for others.

    Args:
        name: ``'timm/<model name>'``, in its ``features_only`` form; ``'smp/<architecture>/<encoder>'`` of
            segmentation_models_pytorch, ``'smp/Unet/resnet18'`` for instance; or ``'package.module:function'``.
        **kwargs: arguments of ``timm.create_model``, ``segmentation_models_pytorch.create_model``, or the function.

    Raises:
        ValueError: if there is no such model or function.
        ImportError: if timm or segmentation_models_pytorch is not installed.
    """
    kind, slash, model = name.partition("/")
    if kind in ("timm", "smp") and slash:
        return _timm_features(model, **kwargs) if kind == "timm" else _segmentation(model, **kwargs)
    package, colon, function = name.partition(":")
    if not (package and colon and function):
        raise ValueError(f"module={name!r}; expected {EXPECTED}")
    try:
        factory = getattr(importlib.import_module(package), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"module={name!r} cannot be imported: {error}") from error
    return factory(**kwargs)


def _package(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ImportError(f"{name} is not installed: pip install 'xtask-reg[{extra}]'") from error


def _timm_features(model: str, **kwargs: Any) -> nn.Module:
    timm = _package("timm", "timm")
    if not timm.is_model(model.split(".")[0]):
        raise ValueError(f"timm has no model {model!r}{_similar(model, timm.list_models())}")
    network: nn.Module = timm.create_model(model, **{"features_only": True, "pretrained": False, **kwargs})
    return network


def _segmentation(model: str, **kwargs: Any) -> nn.Module:
    smp = _package("segmentation_models_pytorch", "smp")
    architecture, _, encoder = model.partition("/")
    try:
        network: nn.Module = smp.create_model(architecture, encoder, **{"encoder_weights": None, **kwargs})
    except KeyError as error:  # unknown architecture or encoder
        if architecture.lower() in smp.MODEL_ARCHITECTURES_MAPPING:
            missing = f"encoder {encoder!r}{_similar(encoder, smp.encoders.get_encoder_names())}"
        else:
            names = [each.__name__ for each in smp.MODEL_ARCHITECTURES_MAPPING.values()]
            missing = f"architecture {architecture!r}{_similar(architecture, names)}"
        raise ValueError(
            f"segmentation_models_pytorch has no {missing}; expected 'smp/<architecture>/<encoder>'"
        ) from error
    return network


def _similar(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=5)
    return f", similar ones are {', '.join(near)}" if near else ""
