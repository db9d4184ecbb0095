"""A mixin that adds regularizing terms to any MMEngine model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Literal

from mmengine.model import BaseModel, initialize
from torch import Tensor, nn

from xtask_reg.connectors import PooledClassifier
from xtask_reg.finetune import freeze
from xtask_reg.inputs import InputConvention
from xtask_reg.integrations.mmengine.random_state import preserved_random_state
from xtask_reg.integrations.mmengine.scope import own_scope
from xtask_reg.integrations.mmengine.source import SourceTeacher
from xtask_reg.integrations.mmengine.source_weights import SourceWeights
from xtask_reg.integrations.mmengine.terms import active_terms, build_teacher, build_terms, classifier_copy
from xtask_reg.measuring import Monitor
from xtask_reg.plain_state import keep_out_of_state_dict
from xtask_reg.regularizer import CrossTaskRegularizer
from xtask_reg.shorthands import compares
from xtask_reg.submodules import find_module
from xtask_reg.term import Term


class CrossTaskModel(BaseModel):
    """A mixin: put before a model's class, it adds regularizing terms to the model's losses.

    .. code:: python

        @MODELS.register_module()
        class CrossTaskFCOS(CrossTaskModel, FCOS): ...

    ``forward(inputs, ..., mode='loss')`` then returns the model's losses and the weighted terms. Every other mode, and
    ``state_dict()``, are the model's own. Trainable connectors are saved beside it by :class:`CrossTaskHook`.

    The model is any class whose ``forward`` has the arguments of ``BaseModel``'s, ``(inputs, data_samples, mode)``, and
    returns a dict of losses in the mode ``'loss'``. Arguments that are given by position may have other names. The
    inputs are the batch of images as the data preprocessor made it, one tensor ``(B, C, H, W)``; for others override
    :meth:`teacher_images`.

    Args:
        *args: positional arguments of the model.
        teacher: config of the ``FrozenTeacher``; not built if nothing needs it. Without a ``backbone`` and
            ``checkpoint`` of its own it is the network that the student starts from (the model's argument
            ``backbone``). Several teachers are a dict of such configs by name, and their tap paths begin with the name.
        terms: one dict a term: ``loss``, ``student`` and ``teacher`` (tap paths), ``weight`` (a number, or the config
            of a schedule or of ``Balanced``), ``name`` (it must contain "loss", or MMEngine would not add it up), and
            perhaps ``student_connector`` and ``teacher_connector``. The connector ``dict(type='RetainedClassifier')``
            is a copy of the teacher's module at the term's tap. Or the name of a whole regularizer, ``terms='ctd-ed'``,
            see :func:`xtask_reg.shorthand`.
        monitor: arguments of :class:`xtask_reg.Monitor`: ``stages`` at which student and teacher are compared each
            ``every`` steps. :class:`CrossTaskHook` logs what it finds.
        frozen: dotted paths of submodules that do not train, ``['backbone']`` for instance.
        frozen_but: dotted paths of submodules within these that train nevertheless.
        **kwargs: every other argument of the model.

    Raises:
        TypeError: when a class is defined with no model behind this one.
        ValueError: for terms or stages without a teacher, a bad name or weight, or an unknown path.
    """

    regularizer: CrossTaskRegularizer | None
    compared_on: Tensor | None = None
    """The images that :meth:`compare_on` set for the next step."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if super().forward is BaseModel.forward:
            raise TypeError(
                f"class {cls.__name__}: CrossTaskModel must be followed by a base class that can be trained without "
                "it: first write class Net(BaseModel), then class CrossTaskNet(CrossTaskModel, Net)"
            )

    def __init__(
        self,
        *args: Any,
        teacher: dict[str, Any] | None = None,
        terms: str | Sequence[dict[str, Any]] = (),
        monitor: dict[str, Any] | None = None,
        frozen: Sequence[str] = (),
        frozen_but: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        freeze(self, frozen, frozen_but)
        self.regularizer = None
        watch = Monitor(**monitor) if monitor else None
        with own_scope(self):
            active = active_terms(terms)
            _check_teacher(teacher, active, watch)
            if active or (watch and watch.stages):
                self.regularizer = self._build(active, teacher, kwargs.get("backbone"), watch)
        keep_out_of_state_dict(self, "regularizer")

    @preserved_random_state()
    def _build(
        self,
        terms: str | Sequence[dict[str, Any]],
        teacher: dict[str, Any] | None,
        backbone: Any,
        watch: Monitor | None,
    ) -> CrossTaskRegularizer:
        student = {"student_backbone": backbone, "student_input": input_convention(self.data_preprocessor)}
        source = None if teacher is None else build_teacher(teacher, student)
        return CrossTaskRegularizer(self, source, build_terms(terms, self, source), watch)

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
            assert isinstance(term, Term)
            own = classifier_copy(term)
            if own is not None:
                classifier = find_module(self.regularizer.teacher.network, str(term.teacher))
                filled = own if isinstance(classifier, PooledClassifier) else own.fc
                filled.load_state_dict(classifier.state_dict())

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = "tensor") -> Any:
        """What the model returns; in the mode ``'loss'`` with the weighted terms.

        Raises:
            TypeError: in that mode, if a teacher runs and the inputs are no batch of images, or the model returns no
                dict.
            ValueError: if a term has the name of one of the model's losses.
        """
        if self.regularizer is None or mode != "loss":
            return super().forward(inputs, data_samples, mode=mode)
        others, self.compared_on = self.compared_on, None
        images = self.teacher_images(inputs) if others is None and self.regularizer.needs_images else None
        with self.regularizer.recording(images) if others is None else nullcontext():
            losses = super().forward(inputs, data_samples, mode=mode)
        if not isinstance(losses, Mapping):
            raise TypeError(f"forward(mode='loss') returned a {type(losses).__name__}; expected a dict of losses")
        terms = self.regularizer() if others is None else self.regularizer.on(others, self._features)
        taken = sorted(losses.keys() & terms)
        if taken:
            raise ValueError(f"term names {taken} are taken by losses of the model; rename the terms")
        return {**losses, **terms}

    def _features(self, images: Tensor) -> None:
        """Call only the part of the student that the terms need: ``extract_feat`` in OpenMMLab's models."""
        paths = set() if self.regularizer is None else self.regularizer.student_paths
        if hasattr(self, "extract_feat") and {path.partition(".")[0] for path in paths} <= {"backbone", "neck"}:
            self.extract_feat(images)
        else:
            super().forward(images, None, mode="tensor")

    def compare_on(self, images: Tensor) -> None:
        """Let the terms of the next step read the student on these images instead of on its batch.

        As :meth:`xtask_reg.CrossTaskRegularizer.on` does; the student is called by its ``extract_feat``, if it has one
        and the terms read backbone and neck alone, or else by ``forward`` in the mode ``'tensor'`` without data
        samples. See :class:`UnlabelledImagesHook`.

        Args:
            images: as the data preprocessor makes them, ``(B, C, H, W)``.
        """
        self.compared_on = images

    def teacher_images(self, inputs: Any) -> Tensor:
        """What the teacher is given, ``(B, C, H, W)``: the model's ``inputs``.

        Override it where these are something else, such as a dict, a list of views or clips; the student's taps must
        have as many samples.

        Raises:
            TypeError: if it is not one tensor of four dimensions.
        """
        if isinstance(inputs, Tensor) and inputs.ndim == 4:
            return inputs
        found = (
            f"a tensor of shape {tuple(inputs.shape)}" if isinstance(inputs, Tensor) else f"a {type(inputs).__name__}"
        )
        raise TypeError(
            f"the inputs of {type(self).__name__} are {found}; the teacher needs one tensor of images (B, C, H, W): "
            "stack them with a data preprocessor (ImgDataPreprocessor), or override teacher_images(inputs)"
        )


def _check_teacher(
    teacher: dict[str, Any] | None, terms: str | Sequence[dict[str, Any]], monitor: Monitor | None
) -> None:
    if teacher is not None:
        return
    if isinstance(terms, str):
        needing = [terms] if compares(terms) else []
    else:
        needing = [term["name"] for term in terms if term.get("teacher") is not None]
    if needing:
        raise ValueError(f"terms {needing} need a teacher=dict(type='FrozenTeacher', ...)")
    if monitor and monitor.stages:
        raise ValueError("model.monitor.stages needs a teacher=dict(type='FrozenTeacher', ...) to compare with")


def _load_source_weights_again(model: nn.Module) -> None:
    """Some backbones change what ``init_cfg`` loaded: by default, ResNet zeroes the last norm of each block."""
    for module in model.modules():
        config = getattr(module, "init_cfg", None)
        if isinstance(config, dict) and config["type"] in ("SourceWeights", SourceWeights):
            initialize(module, config)


def input_convention(preprocessor: Any) -> InputConvention:
    """The output convention of an ``ImgDataPreprocessor``, for BGR input in 0..255; others are assumed to keep that."""
    channels: Literal["rgb", "bgr"] = "rgb" if getattr(preprocessor, "_channel_conversion", False) else "bgr"
    if not getattr(preprocessor, "_enable_normalize", False):
        return InputConvention(mean=(0, 0, 0), std=(1, 1, 1), channels=channels, value_range=255)
    mean, std = (tuple(values.flatten().expand(3).tolist()) for values in (preprocessor.mean, preprocessor.std))
    return InputConvention(mean=mean, std=std, channels=channels, value_range=255)
