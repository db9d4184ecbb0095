"""The source network of an MMEngine config as a frozen teacher."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from xtask_reg.caching import TeacherCache
from xtask_reg.connectors import PooledClassifier
from xtask_reg.inputs import InputAdapter, InputConvention
from xtask_reg.integrations.mmengine.random_state import preserved_random_state
from xtask_reg.integrations.mmengine.source_weights import CLASSIFIER, SourceWeights
from xtask_reg.integrations.timm import input_convention
from xtask_reg.sources import load_covering, load_metadata, load_weights
from xtask_reg.teacher import FrozenTeacher

RANDOM = "random"
PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
BY_ITSELF = "the backbone's own (pretrained=True)"


class SourceNetwork(nn.Module):
    """An encoder and, if the source task was classification, its classifier after global average pooling.

    Attributes:
        has_weights: whether the source's weights were read.
        stated_input: the input convention that their file states, if the student's images must be converted to it.
    """

    def __init__(self, backbone: nn.Module, classifier: PooledClassifier | None) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = classifier
        self.has_weights = False
        self.stated_input: InputConvention | None = None

    def forward(self, images: Tensor) -> Tensor:
        features = self.backbone(images)
        features = features if isinstance(features, Tensor) else features[-1]
        return features if self.classifier is None else self.classifier(features)


def untrained_source(model: dict[str, Any]) -> SourceNetwork:
    """The source network of a ``model`` config before its training, with trainable parameters.

    Its parts are built in the default scope.
    """
    teacher = {**model["teacher"], "student_backbone": model["backbone"], "checkpoint": RANDOM}
    network: SourceNetwork = MODELS.build(teacher).network
    return network.requires_grad_(True)


@MODELS.register_module(name="FrozenTeacher")
class SourceTeacher(FrozenTeacher):
    """:class:`xtask_reg.FrozenTeacher` over a backbone of an MMEngine model; ``type='FrozenTeacher'`` in configs.

    Its taps are ``backbone.<path>`` and ``classifier``. The weights are read when training starts, not in the
    constructor: testing and inference do without the file.

    Args:
        backbone: config of the source's encoder; None for the student's, the model's argument ``backbone``.
        checkpoint: file with the source's weights; None for what the backbone starts from (by its
            ``init_cfg=dict(type='SourceWeights', ...)``, or timm's ``pretrained=True``), or else the student's
            backbone; the word ``'random'`` for an untrained control.
        classifier: ``dict(in_channels=C, num_classes=N)``, its weights are ``fc.weight`` and ``fc.bias``; perhaps with
            the ``window`` of :class:`xtask_reg.PooledClassifier`.
        prefix: where the source's keys begin in ``checkpoint``.
        ignore: beginnings of keys (after ``prefix``) that belong to neither encoder nor classifier.
        input: what the source expects of its images, as arguments of :class:`xtask_reg.InputConvention`; None for what
            the metadata of ``checkpoint`` (or timm, for its pretrained models) say, or else for what the student's data
            preprocessor makes.
        dtype: the precision that the source runs in, ``'bfloat16'`` or ``'float16'``, if not float32.
        channels_last: whether it runs in that memory format.
        compile: whether it is compiled, or the mode of ``torch.compile``; see :class:`xtask_reg.FrozenTeacher`.
        cache: arguments of :class:`xtask_reg.TeacherCache`, if outputs are to be kept on disk: ``dict(folder='cache',
            images=50, versions=6, dtype='float16')``. :class:`CrossTaskHook` checks the augmentation against it.
        student_backbone: filled in by the model.
        student_input: what the student's images are, as arguments of :class:`xtask_reg.InputConvention`; filled in by
            the model from its data preprocessor: the images are taken for BGR in 0..255 before it.

    Raises:
        ValueError: if neither the config nor the student has a backbone, or the precision is unknown.
    """

    def __init__(
        self,
        backbone: dict[str, Any] | None = None,
        checkpoint: str | None = None,
        classifier: dict[str, int] | None = None,
        prefix: str = "",
        ignore: str | Sequence[str] = (),
        input: dict[str, Any] | None = None,
        dtype: str | None = None,
        channels_last: bool = False,
        compile: bool | str = False,
        cache: dict[str, Any] | None = None,
        student_backbone: dict[str, Any] | None = None,
        student_input: InputConvention | Mapping[str, Any] | None = None,
    ) -> None:
        if not (backbone or student_backbone):
            raise ValueError(
                "the teacher has no backbone, and the model was not built from a config with backbone=dict(...): "
                "set teacher.backbone"
            )
        if dtype not in (None, *PRECISIONS):
            raise ValueError(f"teacher.dtype={dtype!r}; expected one of {list(PRECISIONS)}")
        encoder, initial = _without_init(backbone or student_backbone or {})
        if checkpoint:
            encoder = _untrained(encoder) if checkpoint == RANDOM else encoder
            initial = {"checkpoint": checkpoint, "prefix": prefix, "ignore": ignore}
        by_itself = initial is None and classifier is None and _comes_with_weights(encoder)
        if initial is None and not by_itself:
            initial = (student_backbone or {}).get("init_cfg")
        with preserved_random_state():
            head = _classifier(**classifier) if classifier else None
            network = SourceNetwork(MODELS.build(encoder), head)
        given = student_input or {}
        self.student_input = InputConvention(**given) if isinstance(given, Mapping) else given
        self._input = InputConvention(**input) if input else None
        adapter = InputAdapter(self.student_input, self._input) if self._input else None
        kept = TeacherCache(**cache) if cache else None
        super().__init__(network, adapter, PRECISIONS[dtype] if dtype else None, channels_last, compile, kept)
        network.has_weights = checkpoint == RANDOM
        self._comes_with_weights, self._given = by_itself, initial

    @property
    def network(self) -> SourceNetwork:
        """The source network."""
        network = super().network
        assert isinstance(network, SourceNetwork)
        return network

    @property
    def origin(self) -> str:
        """Where the weights come from: a file, the word ``'random'``, or the backbone itself."""
        return BY_ITSELF if self._comes_with_weights else str(_weights(self._given).checkpoint)

    def load_source(self) -> None:
        """Read the source's weights from the checkpoint.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if nothing says where the weights are, or the file's tensors do not cover the network.
        """
        network = self.network
        if network.has_weights:
            return
        if self._comes_with_weights:
            self._take_input_from(_timm_convention(network.backbone), "timm")
        else:
            where = _weights(self._given)
            tensors, name = load_weights(where.checkpoint), str(where.checkpoint)
            where.fill(network.backbone, tensors, (CLASSIFIER, *where.ignore))
            if network.classifier is not None:
                load_covering(network.classifier.fc, tensors, prefix=where.prefix + CLASSIFIER, name=name)
            self._take_input_from(InputConvention.from_metadata(load_metadata(where.checkpoint)), name)
        network.has_weights = True

    def _take_input_from(self, stated: InputConvention | None, origin: str) -> None:
        """Convert the student's images to the stated convention, unless the config gives another."""
        if stated is None or InputAdapter(self._input or self.student_input, stated).changes_nothing:
            return
        if self._input is not None:
            warnings.warn(f"teacher.input is {self._input}, but {origin} says {stated}: the config's is used")
            return
        warnings.warn(
            f"the data preprocessor makes {self.student_input}, but {origin} says that the source expects {stated}: "
            "the teacher's images are converted, the student's are not; set model.data_preprocessor accordingly if "
            "the student starts from that source"
        )
        self.network.stated_input = stated
        self._convert_to_stated()

    def _convert_to_stated(self) -> None:
        """Called in each pass: a deep copy from before the weights were read, as EMA's, shares only the network."""
        stated = self.network.stated_input
        if stated is not None and self.adapter is None:
            self.use_adapter(InputAdapter(self.student_input, stated))

    def prepared(self, images: Tensor) -> Tensor:
        if not self.network.has_weights:
            raise RuntimeError(
                "the teacher's weights were not read: call the model's init_weights() before training "
                "(MMEngine's Runner.train does)"
            )
        self._convert_to_stated()
        return super().prepared(images)


def _classifier(in_channels: int, num_classes: int, window: int | None = None) -> PooledClassifier:
    return PooledClassifier(nn.Linear(in_channels, num_classes), window)


def _timm_convention(backbone: nn.Module) -> InputConvention | None:
    """The convention that timm states for the model in a :class:`ModuleBackbone`; None if it is not timm's."""
    network: Any = getattr(backbone, "net", None)
    return input_convention(network) if getattr(network, "pretrained_cfg", None) else None


def _without_init(backbone: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    encoder = dict(backbone)
    return encoder, encoder.pop("init_cfg", None)


def _untrained(encoder: dict[str, Any]) -> dict[str, Any]:
    """The config without the options that fetch trained weights: timm's ``pretrained``, torchvision's ``weights``."""
    kwargs = {
        key: value for key, value in (encoder.get("kwargs") or {}).items() if key not in ("pretrained", "weights")
    }
    return {**encoder, "kwargs": kwargs} if encoder.get("kwargs") else encoder


def _comes_with_weights(encoder: dict[str, Any]) -> bool:
    return bool((encoder.get("kwargs") or {}).get("pretrained"))


def _weights(given: Any) -> SourceWeights:
    if not (isinstance(given, dict) and given.get("type", "SourceWeights") in ("SourceWeights", SourceWeights)):
        raise ValueError(
            f"the teacher has no checkpoint, and the student's backbone has init_cfg={given!r}: give "
            "teacher.checkpoint (a file, or 'random' for an untrained control), or the backbone "
            "init_cfg=dict(type='SourceWeights', checkpoint=...)"
        )
    return SourceWeights(**{key: value for key, value in given.items() if key != "type"})
