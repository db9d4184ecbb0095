"""Distance of two softened distributions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def softened_divergence(student: Tensor, teacher: Tensor, temperature: float, dim: int) -> Tensor:
    """KL divergence, in nats, of softmax(teacher / temperature) from softmax(student / temperature) along ``dim``."""
    student, teacher = ((logits / temperature).log_softmax(dim) for logits in (student, teacher))
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim)
