"""The weights of a source network in the student's encoder, in MMEngine configs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn

from xtask_reg.integrations.mmengine.backbone import ModuleBackbone
from xtask_reg.sources import load_covering, load_weights

CLASSIFIER = "fc."


@WEIGHT_INITIALIZERS.register_module()
class SourceWeights:
    """``init_cfg`` of a backbone that starts as the source network's encoder.

    Unlike MMEngine's ``Pretrained`` it does not go on when keys are missing, and does not unpickle arbitrary objects.

    Args:
        checkpoint: path of a ``.safetensors`` file or of a PyTorch file with nothing but tensors.
        prefix: where the encoder's keys begin in it.
        ignore: beginnings of keys (after ``prefix``) that are not the encoder's; by default the classifier's, ``fc.``.
            A single one may be a string.
    """

    def __init__(self, checkpoint: str, prefix: str = "", ignore: str | Sequence[str] = (CLASSIFIER,)) -> None:
        self.checkpoint = checkpoint
        self.prefix = prefix
        self.ignore = (ignore,) if isinstance(ignore, str) else tuple(ignore)

    def __call__(self, module: nn.Module) -> None:
        self.fill(module, load_weights(self.checkpoint), self.ignore)

    def fill(self, backbone: nn.Module, weights: Mapping[str, Tensor], ignore: Sequence[str]) -> None:
        """Fill a backbone with the encoder's tensors of the file; see :func:`xtask_reg.sources.load_covering`."""
        network = backbone.net if isinstance(backbone, ModuleBackbone) else backbone
        load_covering(network, weights, prefix=self.prefix, ignore=ignore, name=str(self.checkpoint))
