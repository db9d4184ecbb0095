"""Distance of the parameters from their starting point (Li, Grandvalet, Davoine 2018, L2-SP)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from xtask_reg.losses.half_squared_distance import HalfSquaredDistance
from xtask_reg.losses.penalty import Penalty
from xtask_reg.losses.precision import at_least_float32


def l2_sp_penalty(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
    r"""Half the squared distance of the student's parameters from the teacher's, its starting point.

    .. math:: \Omega = \frac{1}{2} \lVert w_S - w_S^0 \rVert_2^2

    Source: Li, Grandvalet, Davoine, "Explicit Inductive Bias for Transfer Learning with Convolutional Networks", ICML
    2018 (L2-SP). The weight of the term is the paper's :math:`\alpha`, 0.1 in the authors' training script. Their code
    penalizes the weights of convolutions alone, or all parameters in another mode; this takes all it is given.

    The paper adds :math:`\frac{\beta}{2} \lVert w_{\bar S} \rVert_2^2` for the parameters that the source lacks, the
    new head's, with :math:`\beta` = 0.01. That is ``weight_decay=0.01`` of their parameter group: exactly so for
    ``SGD`` and ``Adam``, not for ``AdamW``, which decays apart from the gradient. The shared parameters get
    ``weight_decay=0``: decay would pull them to zero, and this pulls them to the source.

    Args:
        student: the parameters by name.
        teacher: those of the source by the same names, of the same shapes.

    Returns:
        A scalar, at least float32 even under autocast, float64 if any parameter is. Its gradient is
        :math:`w_S - w_S^0`.

    Raises:
        ValueError: if there are no parameters, or names or shapes differ.

    Example:
        >>> l2_sp_penalty({"weight": torch.ones(2, 2)}, {"weight": torch.zeros(2, 2)})
        tensor(2.)
    """
    _check_names(student, teacher)
    pairs = [_pair(name, weight, teacher[name]) for name, weight in student.items()]
    student_first = [*(own for own, _ in pairs), *(other for _, other in pairs)]
    return HalfSquaredDistance.apply(*student_first)  # type: ignore[no-untyped-call]  # torch's has no types


def _check_names(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> None:
    if not student and not teacher:
        raise ValueError("there are no parameters to compare: name a submodule that has some")
    missing = {
        "teacher": [name for name in student if name not in teacher],
        "student": [name for name in teacher if name not in student],
    }
    lacks = [f"the {owner} lacks {_some(names)}" for owner, names in missing.items() if names]
    if lacks:
        raise ValueError(f"the parameters of student and teacher differ in name: {'; '.join(lacks)}")


def _some(names: Sequence[str]) -> str:
    listed = sorted(names)[:3]
    return ", ".join(map(repr, listed)) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _pair(name: str, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    if student.shape != teacher.shape:
        raise ValueError(
            f"the parameter {name!r} has shape {tuple(student.shape)} in the student and {tuple(teacher.shape)} in the "
            "teacher; expected the same"
        )
    return at_least_float32(student, teacher)


class L2SPPenalty(Penalty):
    """Module form of :func:`l2_sp_penalty`, L2-SP of Li, Grandvalet, Davoine 2018.

    In an MMPose config: ``loss=dict(type='L2SPPenalty')``.
    """

    def forward(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
        """See :func:`l2_sp_penalty`."""
        return l2_sp_penalty(student, teacher)
