"""Terms, and the regularizer that sums them.

total loss = task loss + sum over terms of weight * loss(student_connector(student tap), teacher_connector(teacher tap))
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from xtask_reg.taps import TapRecorder, find_module, unwrap
from xtask_reg.teacher import FrozenTeacher


class Term(nn.Module):
    """One sentence of the grammar: compare a student's tap with a teacher's tap.

    Args:
        loss: a module called with ``(student, teacher)`` that returns a scalar.
        student: dotted path of the student's submodule whose output is read.
        teacher: dotted path of the teacher's submodule whose output is read.
        weight: lambda, finite and not negative. A term built with weight 0 is left out altogether.
        name: the key of its value in what the regularizer returns.
        student_connector: applied to the student's output; it trains if its parameters require gradients.
        teacher_connector: applied to the teacher's output, likewise.

    Raises:
        ValueError: for a weight that is negative or not finite, or a name that cannot be used as a key.
    """

    def __init__(
        self,
        loss: nn.Module,
        *,
        student: str,
        teacher: str,
        weight: float,
        name: str,
        student_connector: nn.Module | None = None,
        teacher_connector: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if not name or "." in name or hasattr(nn.ModuleDict, name):
            raise ValueError(
                f"term name {name!r}; expected a non-empty name without dots that nn.ModuleDict does not use"
            )
        self.name = name
        self.student = student
        self.teacher = teacher
        self.weight = check_weight(weight, name)
        self.loss = loss
        self.student_connector = student_connector if student_connector is not None else nn.Identity()
        self.teacher_connector = teacher_connector if teacher_connector is not None else nn.Identity()

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The weighted loss of the two taps' outputs."""
        try:
            return self.weight * self.loss(
                _connect(self.student_connector, student), _connect(self.teacher_connector, teacher)
            )
        except (ValueError, RuntimeError, TypeError) as error:
            error.add_note(
                f"in term {self.name!r}: student {self.student!r} {tuple(student.shape)}, "
                f"teacher {self.teacher!r} {tuple(teacher.shape)}"
            )
            raise

    def nothing(self, like: Tensor) -> Tensor:
        """Zero, in whose graph the connectors are: a term that ended leaves no parameter unused."""
        zero = like.new_zeros((), dtype=torch.float32)
        return sum((p.flatten()[:0].sum() for p in self.parameters() if p.requires_grad), zero)

    def extra_repr(self) -> str:
        return f"{self.name!r}, weight={self.weight}, student={self.student!r}, teacher={self.teacher!r}"


def _connect(connector: nn.Module, features: Tensor) -> Tensor:
    """Apply a connector; outside of autocast, which would see to it, the features take its precision."""
    parameter = next(connector.parameters(), features)
    within_autocast = torch.is_autocast_enabled(features.device.type)
    return connector(features if within_autocast else features.to(parameter.dtype))


def check_weight(weight: float, name: str) -> float:
    """``weight`` as a float.

    Raises:
        ValueError: if it is negative or not finite.
    """
    if not (isinstance(weight, Real) and weight >= 0 and math.isfinite(weight)):
        raise ValueError(f"term {name!r} has weight {weight!r}; expected a finite number >= 0")
    return float(weight)


class CrossTaskRegularizer(nn.Module):
    """Keeps a student near its source: the weighted terms of one step, as a dict of scalars.

    Call the student, then the regularizer: that is one step. What a call of the student leaves unread is forgotten at
    the next one. The parameters of the connectors are the regularizer's own: give them to the optimizer.

    Args:
        student: the network that is trained, wrapped or not. Hooks are put on it; it is not a submodule. None if every
            call is given the student's ``features``.
        teacher: the frozen source network.
        terms: what to compare. Those of weight 0 are left out, and without any the teacher never runs.

    Raises:
        ValueError: for an unknown tap path, a repeated name, or a teacher that shares a tensor with the
            student or a connector.

    Example:
        >>> losses = {"task": criterion(student(images), target), **regularizer()}
        >>> sum(losses.values()).backward()
    """

    def __init__(self, student: nn.Module | None, teacher: FrozenTeacher, terms: Sequence[Term]) -> None:
        super().__init__()
        names = [term.name for term in terms]
        if len(set(names)) < len(names):
            raise ValueError(f"term names {names} are not unique")
        self.teacher = teacher
        self.terms = nn.ModuleDict({term.name: term for term in terms if term.weight > 0})
        self._without_gradient: set[str] = set()
        _check_nothing_shared(teacher, terms=self.terms)
        for term in self._terms():
            find_module(teacher.network, term.teacher)
        self._recorder = self._attached(unwrap(student)) if student is not None else None

    def _attached(self, student: nn.Module) -> TapRecorder:
        _check_nothing_shared(self.teacher, student=student)
        taps = {term.student: find_module(student, term.student) for term in self._terms()}
        recorder = TapRecorder(taps, owner="student")
        if taps:
            recorder.attach_to_calls(student)
        return recorder

    def _terms(self) -> Iterator[Term]:
        for term in self.terms.values():
            assert isinstance(term, Term)
            yield term

    def forward(self, images: Tensor | None = None, features: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The weighted value of each term for the student's last call.

        Args:
            images: what the teacher is given, ``(B, 3, H, W)``; by default the first tensor that the student was called
                with. Only needed where that is not the images, or the student changes it in place.
            features: the student's outputs at the terms' taps, by path, where the student returns them itself: then no
                hook is read, and ``images`` must be given.

        Raises:
            TapError: if the student was not called, or a tap did not give exactly one tensor.
            ValueError: if ``images`` does not match what the student was called with, or ``features`` lacks a tap.
            RuntimeError: if connectors would train unsynchronised in a distributed run.
        """
        if not self.terms:
            return {}
        self._check_distributed()
        images, outputs = self._student(images, features)
        self._warn_of_missing_gradients(outputs)
        active = {term.teacher for term in self._terms() if term.weight > 0}
        targets = self.teacher.features(images, active) if active else {}
        return {
            term.name: term(outputs[term.student], targets[term.teacher]) if term.weight > 0 else term.nothing(images)
            for term in self._terms()
        }

    def _student(
        self, images: Tensor | None, features: Mapping[str, Tensor] | None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        paths = {term.student for term in self._terms()}
        if features is None and self._recorder is not None:
            called_with, outputs = self._recorder.take(paths)
            return _same_images(images, called_with), outputs
        if features is None or images is None:
            raise ValueError("without hooks on the student both are needed: regularizer(images, features={path: ...})")
        missing = sorted(paths - features.keys())
        if missing:
            raise ValueError(f"features lacks the student's taps {missing}; it has {sorted(features)}")
        return images, features

    def _warn_of_missing_gradients(self, outputs: Mapping[str, Tensor]) -> None:
        """Once a term: it costs a forward pass of the teacher and does nothing."""
        if not torch.is_grad_enabled():
            return
        for term in self._terms():
            idle = term.weight > 0 and not outputs[term.student].requires_grad
            if idle and term.name not in self._without_gradient:
                self._without_gradient.add(term.name)
                warnings.warn(
                    f"term {term.name!r} cannot act on the student: its tap {term.student!r} carries no gradient (the "
                    "layers up to it are frozen, or the output is detached); tap a layer that trains, or leave it out"
                )

    def set_weight(self, name: str, weight: float) -> None:
        """Change a term's weight during training. With 0 the term ends: the teacher no longer runs for it.

        Raises:
            ValueError: for an unknown name (a term built with weight 0 does not exist) or a bad weight.
        """
        if name not in self.terms:
            raise ValueError(f"there is no term {name!r}; the terms are {list(self.terms)}")
        self.terms[name].weight = check_weight(weight, name)

    @contextmanager
    def recording(self, images: Tensor | None = None) -> Iterator[None]:
        """Take the student's taps inside the block as one step, where the student is not simply called.

        Args:
            images: what the student works on in the block.
        """
        if self._recorder is None:
            raise RuntimeError("the regularizer was made without a student: there is nothing to record")
        with self._recorder.recording(*(() if images is None else (images,))):
            yield

    def remove(self) -> None:
        """Detach from the student: take all hooks away."""
        if self._recorder is not None:
            self._recorder.remove()

    def _check_distributed(self) -> None:
        distributed = torch.distributed
        if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
            return
        trains = any(parameter.requires_grad for parameter in self.parameters())
        if trains and not self._is_synchronised():
            raise RuntimeError(
                "the regularizer has trainable connectors but is called outside DistributedDataParallel, which would "
                "let them drift apart between the processes: wrap xtask_reg.Regularized(student, regularizer) in DDP, "
                "or shard it, fully_shard(regularizer), before what owns it"
            )

    def _is_synchronised(self) -> bool:
        if getattr(DistributedDataParallel, "_active_ddp_module", None) is not None:
            return True
        from torch.distributed.fsdp import FSDPModule

        return isinstance(self, FSDPModule)


def _same_images(given: Tensor | None, called_with: tuple[Tensor, ...]) -> Tensor:
    if given is None and not called_with:
        raise ValueError(
            "the student was not called with a tensor, or changed it in place: name the images, regularizer(images)"
        )
    if given is None:
        return called_with[0]
    if called_with and (given.shape, given.device) not in {(tensor.shape, tensor.device) for tensor in called_with}:
        found = ", ".join(f"{tuple(tensor.shape)} on {tensor.device}" for tensor in called_with)
        raise ValueError(
            f"the images given, {tuple(given.shape)} on {given.device}, are not what the student was called with: "
            f"{found}"
        )
    return given


def _check_nothing_shared(teacher: FrozenTeacher, **others: nn.Module) -> None:
    own = {place for tensor in _tensors(teacher.network).values() if (place := _storage(tensor))}
    for owner, module in others.items():
        for name, tensor in _tensors(module).items():
            if _storage(tensor) in own:
                raise ValueError(
                    f"{name!r} of the {owner} is the teacher's own tensor: give one of them a copy, "
                    "FrozenTeacher(copy.deepcopy(source)) or retained_classifier(source.fc)"
                )


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _storage(tensor: Tensor) -> tuple[torch.device, int] | None:
    """Where a tensor's memory begins; None if it has none (empty, or on the meta device)."""
    address = tensor.untyped_storage().data_ptr()
    return (tensor.device, address) if address else None


class Regularized(nn.Module):
    """A student and its regularizer as one module: what is wrapped in ``DistributedDataParallel``.

    Under FSDP, ``fully_shard`` its ``regularizer`` as well as the student's layers, before the whole.

    Calling it returns ``(the student's output, the dict of weighted terms)``.
    """

    def __init__(self, student: nn.Module, regularizer: CrossTaskRegularizer) -> None:
        super().__init__()
        self.student = student
        self.regularizer = regularizer

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Tensor]]:
        output = self.student(*args, **kwargs)
        return output, self.regularizer()
