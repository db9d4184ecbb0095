"""Two optimizers, one for the encoder and one for the rest; in MMEngine the model itself must step them."""

from __future__ import annotations

from typing import Any

from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmpose.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from torch import Tensor, nn, optim

from xtask_reg.integrations.mmpose import CrossTaskTopdownPoseEstimator


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TwoOptimizers:
    """SGD for the backbone, Adam for the head and the connectors."""

    def __init__(self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None) -> None:
        self.lr = optim_wrapper_cfg["optimizer"]["lr"]

    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        encoder = list(model.backbone.parameters())
        rest = [p for name, p in model.named_parameters() if not name.startswith("backbone.")]
        return OptimWrapperDict(
            encoder=OptimWrapper(optim.SGD(encoder, lr=self.lr)), rest=OptimWrapper(optim.Adam(rest, lr=self.lr))
        )


@MODELS.register_module()
class SteppedSeparately(CrossTaskTopdownPoseEstimator):
    """One backward pass, then a step of each optimizer."""

    def train_step(self, data: Any, optim_wrapper: OptimWrapperDict) -> dict[str, Tensor]:
        losses = self._run_forward(self.data_preprocessor(data, True), mode="loss")
        total, logged = self.parse_losses(losses)
        optim_wrapper.zero_grad()
        total.backward()
        for wrapper in optim_wrapper.values():
            wrapper.step()
        return logged
