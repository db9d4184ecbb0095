"""Any PyTorch module or timm model as a backbone."""

from __future__ import annotations

from typing import Any, Self

from mmengine.model import BaseModule, initialize
from mmengine.registry import MODELS
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from xtask_reg.integrations.named import build_module


@MODELS.register_module()
class ModuleBackbone(BaseModule):
    """A backbone around a module that maps images ``(B, 3, H, W)`` to feature maps.

    The module is the submodule ``net``: its layers are tapped as ``backbone.net.<path>``. Timm models whose channels
    are last (Swin) have them brought to the front for the head.

    Args:
        module: its name, ``'timm/<model name>'`` (the ``features_only`` form) or ``'package.module:function'``, as in
            :func:`xtask_reg.integrations.named.build_module`.
        kwargs: arguments of ``timm.create_model`` or of that function.
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
        """Apply ``init_cfg`` alone: the module is already initialised, and its own ``init_weights`` would undo that."""
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
        maps = (features,) if isinstance(features, Tensor) else tuple(features)
        channels_last = getattr(self.net, "output_fmt", None) == "NHWC"  # timm's attribute
        return tuple(each.movedim(-1, 1) for each in maps) if channels_last else maps
