"""A mixin that gives a LightningModule a regularizer."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from xtask_reg.integrations.checkpoint import restore_state, save_state
from xtask_reg.measuring import Monitor
from xtask_reg.plain_state import keep_out_of_state_dict
from xtask_reg.regularizer import CrossTaskRegularizer
from xtask_reg.teacher import FrozenTeacher
from xtask_reg.term import Term

HOOKS = {
    "on_save_checkpoint": "connectors and balanced weights are not saved",
    "on_load_checkpoint": "connectors and balanced weights are not resumed",
    "on_train_batch_end": "measurements are not logged",
}
"""What is lost if a module overrides a hook of the mixin without calling ``super()``'s."""


class CrossTaskMixin:
    """Gives a ``LightningModule`` a regularizer: one line makes it, another adds its terms to the loss.

    In checkpoints ``'state_dict'`` is that of the module without the regularizer. Trainable connectors and balanced
    weights are under ``'xtask_reg'``: ``trainer.fit(ckpt_path=...)`` restores them from there, and nothing else needs
    them. A module that overrides ``on_save_checkpoint``, ``on_load_checkpoint`` or ``on_train_batch_end`` must call
    ``super()``'s; :meth:`regularize` warns of one that does not.

    Attributes:
        regularizer: the :class:`xtask_reg.CrossTaskRegularizer`, a submodule, once there is one: its connectors are in
            ``self.parameters()``, the teacher is not.

    Example:
        >>> class Detector(CrossTaskMixin, LightningModule):
        ...     def setup(self, stage):
        ...         if stage == "fit":
        ...             self.regularize(self.student, FrozenTeacher(load_source()), "ctd-ed")
        ...
        ...     def training_step(self, batch):
        ...         images, points = batch
        ...         return mse_loss(self.student(images), points) + self.regularization()
    """

    regularizer: CrossTaskRegularizer

    def regularize(
        self,
        student: nn.Module,
        teacher: FrozenTeacher | Mapping[str, FrozenTeacher] | None,
        terms: str | Sequence[Term],
        monitor: Monitor | None = None,
        images: Tensor | None = None,
    ) -> None:
        """Make the regularizer, in ``setup("fit")`` or at the end of ``__init__``; a second call replaces it.

        In ``setup("fit")`` the teacher is needed for training alone: ``load_from_checkpoint`` and testing do without
        it.

        Args:
            student: what ``training_step`` calls, a submodule or the module itself.
            teacher: the frozen source network, or several by name; None if no term compares with one.
            terms: as :class:`xtask_reg.CrossTaskRegularizer` takes them, ``"ctd-ed"`` for instance.
            monitor: what else to measure from time to time, for the log.
            images: what the networks are called with to find taps, if black images will not do.

        Raises:
            ValueError: if the regularizer cannot be made of these.
            TypeError: if the mixin stands behind ``LightningModule``, whose hooks would hide its own.
        """
        if not hasattr(super(), "on_save_checkpoint"):
            raise TypeError(
                f"CrossTaskMixin must stand before LightningModule: class {type(self).__name__}(CrossTaskMixin, "
                "LightningModule)"
            )
        _warn_of_hidden_hooks(type(self))
        replaced = self._regularizer()
        if replaced is None:
            keep_out_of_state_dict(self, "regularizer")
        else:
            replaced.remove()
        self.regularizer = CrossTaskRegularizer(student, teacher, terms, monitor, images)

    def regularization(self, images: Tensor | None = None, unlabelled: Tensor | None = None) -> Tensor:
        """The sum of the weighted terms for the student's last call, to be added to the task's loss.

        Each term is logged as ``loss/<term>``, for the batch of the process that writes the log.

        Args:
            images: what the teacher is given, where that is not the first tensor that the student was called with.
            unlabelled: images without labels, on which the terms are then compared instead:
                :meth:`xtask_reg.CrossTaskRegularizer.on`.

        Raises:
            RuntimeError: if :meth:`regularize` was not called, or a scheduled weight has no end to go by
                (``max_epochs=-1``, data without a length): set ``self.regularizer.progress`` then.
            TapError: if the student was not called.
            ValueError: if there are both ``images`` and ``unlabelled`` ones.
        """
        regularizer = self._regularizer()
        if regularizer is None:
            raise RuntimeError("there is no regularizer: call self.regularize(student, teacher, terms) in setup('fit')")
        progress = self._progress()
        if progress is not None:
            regularizer.progress = progress
        if images is not None and unlabelled is not None:
            raise ValueError("regularization(images, unlabelled) got both: give only the images that the terms read")
        terms = regularizer(images) if unlabelled is None else regularizer.on(unlabelled)
        for name, value in terms.items():
            self.log(f"loss/{name}", value.detach(), on_step=True, on_epoch=False)
        return sum(terms.values(), torch.zeros((), device=self.device))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the last measurements, after every step, since the logger does not record every step."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        regularizer = self._regularizer()
        for name, value in {} if regularizer is None else regularizer.report.items():
            if math.isfinite(value):
                self.log(name, value, on_step=True, on_epoch=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store connectors and balanced weights."""
        super().on_save_checkpoint(checkpoint)
        save_state(checkpoint, self._regularizer())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore connectors and balanced weights where a training is resumed."""
        super().on_load_checkpoint(checkpoint)
        if self._trainer is not None and self._trainer.state.fn == "fit":
            restore_state(checkpoint, self._regularizer(), "and call super().on_save_checkpoint if you override it")

    def _regularizer(self) -> CrossTaskRegularizer | None:
        return getattr(self, "regularizer", None)

    def _progress(self) -> float | None:
        """How much of the training is over; None without a trainer, or if the training has no end.

        Optimizer steps are counted; under manual optimization batches, each of which may step several optimizers.
        """
        trainer = self._trainer
        if trainer is None:
            return None
        total = trainer.estimated_stepping_batches
        done = trainer.global_step if self.automatic_optimization else trainer.fit_loop.epoch_loop.total_batch_idx
        return min(done / total, 1.0) if 0 < total < math.inf else None


def _warn_of_hidden_hooks(kind: type) -> None:
    """Warn of a module's hooks whose code neither calls ``super()`` nor the hook by its name."""
    order = kind.__mro__
    for name, loss in HOOKS.items():
        for owner in order[: order.index(CrossTaskMixin)]:
            code = getattr(inspect.unwrap(vars(owner).get(name)), "__code__", None)
            if code is not None and "__class__" not in code.co_freevars and name not in code.co_names:
                warnings.warn(f"{owner.__name__}.{name} does not call super().{name}(...): {loss}")
