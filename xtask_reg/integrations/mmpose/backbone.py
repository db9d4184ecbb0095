"""Any PyTorch module or timm model as an MMPose backbone."""

from __future__ import annotations

import importlib
from typing import Any, Self

from mmengine.model import initialize
from mmpose.models.backbones.base_backbone import BaseBackbone
from mmpose.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@MODELS.register_module()
class ModuleBackbone(BaseBackbone):
    """A backbone around a module that maps images ``(B, 3, H, W)`` to feature maps.

    The module is the submodule ``net``: its layers are tapped as ``backbone.net.<path>``.

    Args:
        module: ``'timm/<model name>'`` (its ``features_only`` form), or ``'package.module:function'``, called without
            arguments but ``kwargs`` to make the module.
        kwargs: arguments of that function or of ``timm.create_model``.
        norm_eval: keep batch norms in eval mode in training: they use and keep the source's running statistics.
        init_cfg: for instance ``dict(type='SourceWeights', checkpoint=...)``.

    Raises:
        ValueError: for a name that cannot be resolved.
    """

    def __init__(
        self, module: str, kwargs: dict[str, Any] | None = None, norm_eval: bool = False, init_cfg: Any = None
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.net = build_module(module, **(kwargs or {}))
        self.norm_eval = norm_eval

    def init_weights(self) -> None:
        """Follow ``init_cfg``; the module has made its own start, which a method of its own would undo."""
        if self.init_cfg:
            initialize(self, self.init_cfg)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features = self.net(images)
        return (features,) if isinstance(features, Tensor) else tuple(features)


def build_module(name: str, **kwargs: Any) -> nn.Module:
    """The module that ``'timm/<model name>'`` or ``'package.module:function'`` names.

    Raises:
        ValueError: if there is no such model or function.
    """
    kind, slash, model = name.partition("/")
    if kind == "timm" and slash:
        return _timm_features(model, **kwargs)
    package, colon, function = name.partition(":")
    if not (package and colon and function):
        raise ValueError(f"module={name!r}; expected 'timm/<model name>' or 'package.module:function'")
    try:
        factory = getattr(importlib.import_module(package), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"module={name!r} cannot be imported: {error}") from error
    return factory(**kwargs)


def _timm_features(model: str, **kwargs: Any) -> nn.Module:
    import timm

    if not timm.is_model(model.split(".")[0]):
        near = ", ".join(timm.list_models(f"*{model[:6]}*")[:5])
        raise ValueError(f"timm has no model {model!r}" + (f"; similar ones are {near}" if near else ""))
    return timm.create_model(model, features_only=True, **{"pretrained": False, **kwargs})
