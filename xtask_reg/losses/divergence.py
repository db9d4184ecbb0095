"""KL divergence between two softened distributions."""

from __future__ import annotations

from torch import Tensor


def softened_divergence(student: Tensor, teacher: Tensor, temperature: float, dim: int) -> Tensor:
    """KL(softmax(teacher / temperature) || softmax(student / temperature)) along ``dim``, in nats."""
    student, teacher = ((logits / temperature).log_softmax(dim) for logits in (student, teacher))
    shares = teacher.exp()
    # both sum to 1, so adding their difference changes nothing but rounding, which would outweigh a small divergence
    return (shares * (teacher - student) - shares + student.exp()).sum(dim)
