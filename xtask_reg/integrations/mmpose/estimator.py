"""The top-down pose estimator that stays near its source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import initialize
from mmpose.models.pose_estimators import TopdownPoseEstimator
from mmpose.registry import MODELS
from torch import Tensor, nn

from xtask_reg.connectors import retained_classifier
from xtask_reg.finetune import freeze
from xtask_reg.inputs import InputConvention
from xtask_reg.integrations.mmpose.source import SourceTeacher, SourceWeights
from xtask_reg.integrations.random_state import preserved_random_state
from xtask_reg.plain_state import keep_out_of_state_dict
from xtask_reg.regularizer import CrossTaskRegularizer
from xtask_reg.taps import find_module
from xtask_reg.term import Term, check_weight


@MODELS.register_module()
class CrossTaskTopdownPoseEstimator(TopdownPoseEstimator):
    """MMPose's ``TopdownPoseEstimator`` with regularizing terms in its loss.

    Prediction, and ``state_dict()``, are those of the plain estimator. Trainable connectors are saved beside it by
    :class:`CrossTaskHook`.

    Args:
        backbone: config of the student's encoder.
        teacher: config of the ``FrozenTeacher``; not built if no term has a weight. Without a ``backbone`` and
            ``checkpoint`` of its own it is the network that the student starts from.
        terms: one dict a term: ``loss``, ``student`` and ``teacher`` (tap paths), ``weight``, ``name`` (it must contain
            "loss", or MMEngine would not add it up), and perhaps ``student_connector`` and ``teacher_connector``.
            The connector ``dict(type='RetainedClassifier')`` is a copy of the teacher's module at the term's tap.
        frozen: dotted paths of submodules that do not train, ``['backbone']`` for instance.
        frozen_but: dotted paths of submodules within these that do.
        **kwargs: every other argument of ``TopdownPoseEstimator``.

    Raises:
        ValueError: for terms without a teacher, a bad name or weight, or an unknown tap path.
    """

    regularizer: CrossTaskRegularizer | None

    def __init__(
        self,
        *,
        backbone: dict[str, Any],
        teacher: dict[str, Any] | None = None,
        terms: Sequence[dict] = (),
        frozen: Sequence[str] = (),
        frozen_but: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone=backbone, **kwargs)
        freeze(self, frozen, frozen_but)
        active = [term for term in terms if _checked(term)["weight"] > 0]
        if active and teacher is None:
            raise ValueError(
                f"terms {[term['name'] for term in active]} need a teacher=dict(type='FrozenTeacher', ...)"
            )
        self._retained = [term["name"] for term in active if _is_retained(term.get("student_connector"))]
        self.regularizer = None
        if active:
            with preserved_random_state():
                student = {"student_backbone": backbone, "student_input": _convention(self.data_preprocessor)}
                source = MODELS.build({**teacher, **student})
                built = [_build_term(term, source) for term in active]
            self.regularizer = CrossTaskRegularizer(self, source, built)
        keep_out_of_state_dict(self, "regularizer")

    def init_weights(self) -> None:
        """Initialise the student, then read the teacher's weights and copy its classifier where a term retains it."""
        super().init_weights()
        _load_source_weights_again(self)
        if self.regularizer is None:
            return
        source = self.regularizer.teacher
        assert isinstance(source, SourceTeacher)
        source.load_source()
        for name in self._retained:
            term = self.regularizer.terms[name]
            term.student_connector.load_state_dict(find_module(source.network, term.teacher).state_dict())

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


def _checked(term: dict[str, Any]) -> dict[str, Any]:
    missing = {"loss", "student", "teacher", "weight", "name"} - set(term)
    if missing:
        raise ValueError(f"term {dict(term)} lacks {sorted(missing)}")
    if "loss" not in term["name"]:
        raise ValueError(f"term name {term['name']!r} must contain 'loss', else MMEngine does not add it to the total")
    check_weight(term["weight"], term["name"])
    if _is_retained(term.get("teacher_connector")):
        raise ValueError(f"term {term['name']!r}: RetainedClassifier is the student's; tap teacher='classifier'")
    return term


def _build_term(term: dict[str, Any], teacher: SourceTeacher) -> Term:
    connectors = {
        key: _build_connector(term[key], teacher, term["teacher"])
        for key in ("student_connector", "teacher_connector")
        if term.get(key)
    }
    return Term(**{**term, "loss": MODELS.build(term["loss"]), **connectors})


def _build_connector(config: dict[str, Any], teacher: SourceTeacher, tap: str) -> nn.Module:
    if not _is_retained(config):
        return MODELS.build(config)
    options = {key: value for key, value in config.items() if key != "type"}
    return retained_classifier(find_module(teacher.network, tap), **options)


def _load_source_weights_again(model: nn.Module) -> None:
    """Some backbones change what their ``init_cfg`` loaded: ResNet zeroes the last norm of each block by default."""
    for module in model.modules():
        config = getattr(module, "init_cfg", None)
        if isinstance(config, dict) and config["type"] in ("SourceWeights", SourceWeights):
            initialize(module, config)


def _is_retained(config: dict[str, Any] | None) -> bool:
    return bool(config) and MODELS.get(config["type"]) is retained_classifier


def _convention(preprocessor: nn.Module) -> InputConvention:
    """What MMEngine's and MMPose's data preprocessors make of images that were read as BGR, 0..255."""
    channels = "rgb" if getattr(preprocessor, "_channel_conversion", False) else "bgr"
    if not getattr(preprocessor, "_enable_normalize", False):
        return InputConvention(mean=(0, 0, 0), std=(1, 1, 1), channels=channels, value_range=255)
    mean, std = (tuple(values.flatten().tolist()) for values in (preprocessor.mean, preprocessor.std))
    return InputConvention(mean=mean, std=std, channels=channels, value_range=255)
