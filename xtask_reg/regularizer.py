"""The regularizer that sums the terms.

total loss = task loss + sum over terms of weight * loss(student_connector(student tap), teacher_connector(teacher tap))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from xtask_reg.computed_again import ComputedAgain
from xtask_reg.copied_statistics import copied_statistics
from xtask_reg.held_student import HeldStudent
from xtask_reg.kinds import check_kind
from xtask_reg.measuring.meter import Meter
from xtask_reg.measuring.monitor import Monitor
from xtask_reg.modes import evaluating
from xtask_reg.monitored_stages import monitored_stages
from xtask_reg.parameters import CommonParameters
from xtask_reg.reused_terms import check_made_anew
from xtask_reg.sharing import check_nothing_shared
from xtask_reg.student_taps import StudentTaps
from xtask_reg.submodules import find_module, unwrap
from xtask_reg.synchronised import check_synchronised
from xtask_reg.taps import Seen
from xtask_reg.teacher import FrozenTeacher
from xtask_reg.teacher_ahead import TeacherAhead
from xtask_reg.teachers import FrozenTeachers
from xtask_reg.term import Read, Term, Weight, is_left_out
from xtask_reg.term_checks import TermChecks
from xtask_reg.term_list import check_balanced_apart, check_not_balanced, student_taps, teacher_taps, term_list
from xtask_reg.two_encoders import check_student
from xtask_reg.weights.balanced import Balanced


class CrossTaskRegularizer(nn.Module):
    """Keeps a student close to its source: a call returns the weighted terms of one step, scalars by name.

    One step is a call of the student and then a call of the regularizer. What a call of the student recorded, and the
    regularizer did not read, is discarded at the student's next call. The regularizer owns the parameters of the
    connectors: give them to the optimizer. :meth:`remove`, or deleting the regularizer, removes its hooks.

    Args:
        student: the network to train, wrapped or not. It gets hooks, but is not a submodule. None if every call is
            given the student's ``features``.
        teacher: the frozen source network; or several by name, with which a term's teacher path then begins. None if no
            term compares with a teacher.
        terms: what to compare. Terms of weight 0 are left out, and without any other the teacher never runs. A string
            names one or several regularizers, whose taps are found: see :func:`xtask_reg.shorthand`.
        monitor: what else to measure from time to time, for :attr:`report`.
        images: what the networks are called with if taps or stages have to be found, as in :func:`xtask_reg.shorthand`;
            they are not kept.

    Raises:
        ValueError: for an unknown path, a repeated name, an unknown name of a regularizer, or a teacher that is missing
            or shares a tensor with the student or a connector.
        TypeError: for a teacher that is not frozen, something that is not a term, or another argument of a wrong kind.

    Example:
        >>> regularizer = CrossTaskRegularizer(student, FrozenTeacher(source), "ctd-ed")
        >>> loss = criterion(student(images), target)
        >>> sum(regularizer().values(), loss).backward()
    """

    teacher: FrozenTeacher | FrozenTeachers | None
    terms: nn.ModuleDict
    __call__: Callable[..., dict[str, Tensor]]

    def __init__(
        self,
        student: nn.Module | None,
        teacher: FrozenTeacher | FrozenTeachers | Mapping[str, FrozenTeacher] | None,
        terms: str | Sequence[Term],
        monitor: Monitor | None = None,
        images: Tensor | None = None,
    ) -> None:
        super().__init__()
        expected = "xr.FrozenTeacher(source), several of them in a dict by name, or None"
        check_kind(teacher, (FrozenTeacher, FrozenTeachers, Mapping, type(None)), "the teacher", expected)
        check_kind(monitor, (Monitor, type(None)), "the monitor", "xr.Monitor(every=50) for instance, or None")
        if student is not None:
            check_student(student)
        terms = term_list(terms, student, teacher, images)
        self.teacher = FrozenTeachers(teacher) if isinstance(teacher, Mapping) else teacher
        self.terms = nn.ModuleDict({term.name: term for term in terms if not is_left_out(term.weighting)})
        self._meter = Meter(monitor, monitored_stages(monitor, student, self.teacher, images))
        self._progress: float | None = None
        self._check_teacher()
        student = None if student is None else unwrap(student)
        if student is not None:
            check_made_anew(terms, student)
        self._student = None if student is None else HeldStudent(student)
        self._parameters_of = {
            term.name: self._common_parameters(student, term) for term in self._terms() if term.reads_parameters
        }
        self._own_parameters()
        modules = {} if student is None else {path: find_module(student, path) for path in self.student_paths}
        self._checks = TermChecks(modules)
        ignored = partial(self._meter.idle_stages, student_taps(self._terms()))
        self._taps = StudentTaps(student, modules, ignored, at_calls=bool(self.terms or self._meter.stages))
        self._taps.may_compile(not self._measures())
        self._ahead: TeacherAhead | None = None
        self._computed_again = ComputedAgain()
        self.register_state_dict_pre_hook(_settle)  # type: ignore[no-untyped-call]  # torch's has no types

    def _check_teacher(self) -> None:
        paths = [*teacher_taps(self._terms()), *self._meter.stages.values()]
        if self.teacher is None:
            if any(term.teacher is not None for term in self._terms()) or paths:
                raise ValueError("the terms compare with a teacher: give the regularizer FrozenTeacher(source)")
            return
        check_nothing_shared(self.teacher.network, terms=self.terms)
        for path in paths:
            if isinstance(self.teacher, FrozenTeachers) and path in self.teacher.teachers:
                raise ValueError(f"the path {path!r} is a whole teacher; expected a submodule of it, '{path}.layer'")
            find_module(self.teacher.network, path)

    def _common_parameters(self, student: nn.Module | None, term: Term) -> CommonParameters:
        if student is None:
            raise ValueError(f"term {term.name!r} compares parameters: give the regularizer the student")
        assert self.teacher is not None
        assert term.teacher is not None
        return CommonParameters(student, self.teacher.network, term.student, term.teacher)

    def _own_parameters(self) -> Sequence[Tensor]:
        return () if self._student is None else self._student.own_parameters(self, self.teacher)

    def _measures(self) -> bool:
        return bool(self._meter.monitor) or any(isinstance(term.weighting, Balanced) for term in self._terms())

    def _terms(self) -> Iterator[Term]:
        for term in self.terms.values():
            assert isinstance(term, Term)
            yield term

    @property
    def needs_images(self) -> bool:
        """Whether a teacher is ever run: whether a term or the monitor compares with its outputs."""
        return bool(self._meter.stages or teacher_taps(self._terms()))

    @property
    def student_paths(self) -> set[str]:
        """Paths of the student's submodules whose outputs a step may read."""
        return student_taps(self._terms()) | self._meter.stages.keys()

    @property
    def reads_features(self) -> bool:
        """Whether, with the current weights, a term or the monitor reads outputs of the student."""
        return bool(self._meter.stages) or any(term.weight > 0 and not term.reads_parameters for term in self._terms())

    @property
    def progress(self) -> float | None:
        """How much of the training is over, 0 at its first step and 1 at its end; schedules depend on it.

        Set it before each step, ``regularizer.progress = step / steps``. None until it is set.
        """
        return self._progress

    @progress.setter
    def progress(self, progress: float) -> None:
        if not (isinstance(progress, Real) and 0 <= progress <= 1):
            raise ValueError(f"progress={progress!r}; expected a number from 0 (first step) to 1 (end of the training)")
        self._progress = progress
        for term in self._terms():
            term.progress = progress

    def forward(self, images: Tensor | None = None, features: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The weighted value of each term for the student's last call.

        Args:
            images: what the teacher is given, ``(B, C, H, W)``; by default the first tensor that the student was called
                with. Needed only if a teacher runs and that is not the images, or the student changes it in place.
            features: the student's outputs at the terms' taps, by path, if the student returns them itself. Hooks are
                then not read, and ``images`` must be given.

        Raises:
            TapError: if the student was not called, a tap did not give exactly one tensor, or a tapped module was
                replaced.
            ValueError: if ``images`` does not match what the student was called with, ``features`` lacks a tap, or the
                student has come to share a tensor with the teacher.
            RuntimeError: if a parameter that a term compares is no longer in the student, connectors would train
                unsynchronised in a distributed run, or a weight needs :attr:`progress` and it was never set.
        """
        ahead, self._ahead = self._ahead, None
        if not (self.terms or self._meter.stages):
            return {}
        check_synchronised(self)
        trained = self._own_parameters()
        step = self._meter.begin(self._terms(), trained)
        paths = student_taps(self._terms()) | step.stages.keys()
        images, outputs = self._taps.take(paths, images, features)
        active = [term for term in self._terms() if term.weight > 0 or term.name in step.terms]
        wanted = {*teacher_taps(active), *step.stages.values()}
        known = ahead.known(images, wanted) if ahead else None
        targets = self._targets(images, active, step.stages) if known is None else known
        step.compare(outputs, targets)
        outputs = step.watched(self._terms(), outputs)
        losses = {}
        for term in self._terms():
            if term in active:
                student, teacher = self._read(term, outputs, targets)
                self._checks.check(term, student, teacher, trained)
                losses[term.name] = step.weighted(term, student, teacher)
            else:
                losses[term.name] = term.nothing(next(iter((*outputs.values(), *trained))))
        return losses

    def on(self, images: Tensor, call: Callable[[Tensor], object] | None = None) -> dict[str, Tensor]:
        """The weighted value of each term on other images, without labels, such as the source was trained on.

        The student is called with a copy of them in eval mode: dropout is off, and batch norms use their running
        statistics and leave them unchanged. What another call in the same step left at the taps is discarded, though
        not for other regularizers of the student. If no term reads features, since all weights are 0 or of penalties,
        the student is not called.

        Args:
            images: what student and teacher are called with.
            call: what to call instead of the student, for instance the part of it that the terms read. By default a
                student wrapped by ``torch.compile`` is called without the wrapper.

        Raises:
            RuntimeError: if the regularizer was made without a student; if the backward pass computes parts of the
                student again (reentrant activation checkpointing), when they are no longer in eval mode; and what
                :meth:`forward` raises.
            ValueError: if a term that reads features is :class:`Balanced`: the task has no gradient on these images.
        """
        check_kind(images, Tensor, "the argument images", "a tensor (B, C, H, W)")
        if self._student is None:
            raise RuntimeError("the regularizer was made without a student: call regularizer(images, features={...})")
        check_not_balanced(self._terms())
        if not self.reads_features:
            return self(images, features=dict.fromkeys(self.student_paths, images))  # placeholders that no term reads
        student = self._student.module
        with copied_statistics(student), evaluating(student), self._taps.alone(student), self.recording(images):
            (student if call is None else call)(images.clone())
        terms = self(images)
        self._computed_again.check(self._terms(), terms)
        return terms

    def _targets(
        self, images: Tensor | None, active: Sequence[Term], stages: Mapping[str, str]
    ) -> Mapping[str, Tensor]:
        paths = set(teacher_taps(active))
        if not (paths or stages):
            return {}
        if images is None:
            raise ValueError(
                "the student was not called with a tensor, or changed it in place: give the images as they were "
                "before the call, regularizer(images)"
            )
        assert self.teacher is not None
        return self.teacher.features(images, sorted(paths), stages.values())

    def _read(
        self, term: Term, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]
    ) -> tuple[Read, Read | None]:
        if term.reads_parameters:
            assert self.teacher is not None
            assert self._student is not None
            return self._parameters_of[term.name].read(self._student.module, self.teacher.network)
        return outputs[term.student], None if term.teacher is None else targets.get(term.teacher)

    @property
    def report(self) -> dict[str, float]:
        """The last measurements, by name.

        ``value/<term>``, before it is weighted; ``weight/<term>``; ``ratio/<term>``, the norm of the weighted term's
        gradient at its tap over that of everything else, NaN if the latter is no more than rounding; ``cka/<stage>``
        between student and teacher, and ``cosine/<stage>`` if both have the same shape there. Terms are measured in the
        monitor's steps; balanced terms, and others at their taps, also when the balance measures. Of a term
        that has ended, the weight 0 is all that is left. In a distributed run, each process reads the numbers of its
        own batch until the next step begins.
        """
        return self._meter.report()

    @property
    def was_measured(self) -> bool:
        """Whether the last step was measured, so that :attr:`report` is new."""
        return self._meter.was_measured

    def set_weight(self, name: str, weight: Weight) -> None:
        """Change a term's weight during training. A weight of 0 ends the term: the teacher no longer runs for it.

        Raises:
            ValueError: for an unknown name (a term built with weight 0 does not exist), a bad weight, or the
                :class:`Balanced` of another term.
        """
        if name not in self.terms:
            raise ValueError(f"there is no term {name!r}; the terms are {list(self.terms)}")
        check_balanced_apart([weight, *(term.weighting for term in self._terms() if term.name != name)])
        next(term for term in self._terms() if term.name == name).set_weight(weight)
        self._taps.may_compile(not self._measures())

    @contextmanager
    def recording(self, images: Tensor | None = None) -> Iterator[None]:
        """Take what happens inside the block as one step, for a student that is not simply called.

        Args:
            images: what the student works on in the block: the very tensor that the teacher is to see. In training on a
                CPU the teacher sees it first, under the autocast at the block's beginning and before the student's
                activations fill the memory: faster for large batches, but not on a GPU. Set :attr:`progress` before the
                block. If the student is given another tensor, or this one is changed within the block, the teacher runs
                a second time.

        Raises:
            RuntimeError: without a student; and at the beginning, if a teacher runs there, what :meth:`forward` raises.
        """
        self._ahead = None
        check_kind(
            images, (Tensor, type(None)), "the argument images", "the tensor that the teacher is to see, or None"
        )
        try:
            with self._taps.recording(*(() if images is None else (images,))):
                if images is not None and _may_come_first(images):
                    upcoming = self._meter.upcoming(self._terms())
                    self._ahead = TeacherAhead(Seen(images), self._targets(images, *upcoming))
                yield
        except BaseException:
            self._ahead = None
            raise

    def remove(self) -> None:
        """Detach from the student: remove all hooks."""
        self._meter.close()
        self._ahead = None
        self._taps.remove()

    def __getstate__(self) -> dict[str, Any]:
        _settle(self)
        return {**self.__dict__, "_ahead": None}


def _may_come_first(images: Tensor) -> bool:
    """Whether the teacher may see them before the student; changes of inference tensors would go unnoticed."""
    return torch.is_grad_enabled() and images.device.type == "cpu" and not images.is_inference()


def _settle(regularizer: CrossTaskRegularizer, *unused: Any) -> None:
    """Complete pending measurements, so that a checkpoint or a copy contains those of all steps so far."""
    regularizer._meter.settle(regularizer._terms())
