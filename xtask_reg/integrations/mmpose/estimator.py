"""The top-down pose estimator that stays near its source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import initialize
from mmpose.models.pose_estimators import TopdownPoseEstimator
from mmpose.registry import MODELS
from torch import Tensor, nn

from xtask_reg.connectors import PooledClassifier
from xtask_reg.finetune import freeze
from xtask_reg.inputs import InputConvention
from xtask_reg.integrations.mmpose.source import SourceTeacher, SourceWeights
from xtask_reg.integrations.mmpose.terms import active_terms, build_teacher, build_terms
from xtask_reg.integrations.random_state import preserved_random_state
from xtask_reg.measuring import Monitor
from xtask_reg.plain_state import keep_out_of_state_dict
from xtask_reg.regularizer import CrossTaskRegularizer
from xtask_reg.taps import find_module


@MODELS.register_module()
class CrossTaskTopdownPoseEstimator(TopdownPoseEstimator):
    """MMPose's ``TopdownPoseEstimator`` with regularizing terms in its loss.

    Prediction, and ``state_dict()``, are those of the plain estimator. Trainable connectors are saved beside it by
    :class:`CrossTaskHook`.

    Args:
        backbone: config of the student's encoder.
        teacher: config of the ``FrozenTeacher``; not built if nothing needs it. Without a ``backbone`` and
            ``checkpoint`` of its own it is the network that the student starts from. Several teachers are a dict of
            such configs by name, and their tap paths begin with the name.
        terms: one dict a term: ``loss``, ``student`` and ``teacher`` (tap paths), ``weight`` (a number, or the config
            of a schedule or of ``Balanced``), ``name`` (it must contain "loss", or MMEngine would not add it up), and
            perhaps ``student_connector`` and ``teacher_connector``. The connector ``dict(type='RetainedClassifier')``
            is a copy of the teacher's module at the term's tap. Or the name of a whole regularizer,
            ``terms='ctd-ed'``, see :func:`xtask_reg.shorthand`.
        monitor: arguments of :class:`xtask_reg.Monitor`: ``stages`` at which student and teacher are compared each
            ``every`` steps. :class:`CrossTaskHook` logs what it finds.
        frozen: dotted paths of submodules that do not train, ``['backbone']`` for instance.
        frozen_but: dotted paths of submodules within these that do.
        **kwargs: every other argument of ``TopdownPoseEstimator``.

    Raises:
        ValueError: for terms or stages without a teacher, a bad name or weight, or an unknown path.
    """

    regularizer: CrossTaskRegularizer | None

    def __init__(
        self,
        *,
        backbone: dict[str, Any],
        teacher: dict[str, Any] | None = None,
        terms: str | Sequence[dict] = (),
        monitor: dict[str, Any] | None = None,
        frozen: Sequence[str] = (),
        frozen_but: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone=backbone, **kwargs)
        freeze(self, frozen, frozen_but)
        self.regularizer = None
        watch = Monitor(**monitor) if monitor else None
        active = active_terms(terms)
        _check_teacher(teacher, active, watch)
        if active or (watch and watch.stages):
            with preserved_random_state():
                student = {"student_backbone": backbone, "student_input": _convention(self.data_preprocessor)}
                source = None if teacher is None else build_teacher(teacher, student)
                built = build_terms(active, self, source)
            self.regularizer = CrossTaskRegularizer(self, source, built, watch)
        keep_out_of_state_dict(self, "regularizer")

    def init_weights(self) -> None:
        """Initialise the student, then read the teacher's weights and copy its classifier where a term retains it."""
        super().init_weights()
        _load_source_weights_again(self)
        if self.regularizer is None or self.regularizer.teacher is None:
            return
        for module in self.regularizer.teacher.modules():
            if isinstance(module, SourceTeacher):
                module.load_source()
        for term in self.regularizer.terms.values():
            if isinstance(term.student_connector, PooledClassifier):
                classifier = find_module(self.regularizer.teacher.network, term.teacher)
                term.student_connector.load_state_dict(classifier.state_dict())

    def loss(self, inputs: Tensor, data_samples: Any) -> dict[str, Tensor]:
        """The head's losses and the weighted terms."""
        if self.regularizer is None:
            return super().loss(inputs, data_samples)
        with self.regularizer.recording(inputs):
            losses = super().loss(inputs, data_samples)
        terms = self.regularizer()
        taken = sorted(losses.keys() & terms)
        if taken:
            raise ValueError(f"term names {taken} are taken by losses of the head; rename the terms")
        return {**losses, **terms}


def _check_teacher(teacher: dict[str, Any] | None, terms: str | Sequence[dict], monitor: Monitor | None) -> None:
    if teacher is not None:
        return
    needing = terms if isinstance(terms, str) else [term["name"] for term in terms if term.get("teacher") is not None]
    if needing:
        raise ValueError(f"terms {needing} need a teacher=dict(type='FrozenTeacher', ...)")
    if monitor and monitor.stages:
        raise ValueError("model.monitor.stages needs a teacher=dict(type='FrozenTeacher', ...) to compare with")


def _load_source_weights_again(model: nn.Module) -> None:
    """Some backbones change what their ``init_cfg`` loaded: ResNet zeroes the last norm of each block by default."""
    for module in model.modules():
        config = getattr(module, "init_cfg", None)
        if isinstance(config, dict) and config["type"] in ("SourceWeights", SourceWeights):
            initialize(module, config)


def _convention(preprocessor: nn.Module) -> InputConvention:
    """What MMEngine's and MMPose's data preprocessors make of images that were read as BGR, 0..255."""
    channels = "rgb" if getattr(preprocessor, "_channel_conversion", False) else "bgr"
    if not getattr(preprocessor, "_enable_normalize", False):
        return InputConvention(mean=(0, 0, 0), std=(1, 1, 1), channels=channels, value_range=255)
    mean, std = (tuple(values.flatten().tolist()) for values in (preprocessor.mean, preprocessor.std))
    return InputConvention(mean=mean, std=std, channels=channels, value_range=255)
