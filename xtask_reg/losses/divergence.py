"""Distance of two softened distributions."""

from __future__ import annotations

from torch import Tensor


def softened_divergence(student: Tensor, teacher: Tensor, temperature: float, dim: int) -> Tensor:
    """KL divergence, in nats, of softmax(teacher / temperature) from softmax(student / temperature) along ``dim``."""
    student, teacher = ((logits / temperature).log_softmax(dim) for logits in (student, teacher))
    shares = teacher.exp()
    # both shares sum to 1: with their difference, the rounding of the logarithms does not outweigh a small divergence
    return (shares * (teacher - student) - shares + student.exp()).sum(dim)
