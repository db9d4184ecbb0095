"""The precision in which every loss is computed."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Bring both to one dtype: float32, or float64 where one of them is float64 (never lowered).

    Raises:
        TypeError: if one of them is not a floating-point tensor.
    """
    for name, tensor in (("student", student), ("teacher", teacher)):
        if not tensor.is_floating_point():
            raise TypeError(f"the {name} tensor has dtype {tensor.dtype}; a floating-point tensor was expected")
    dtype = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)
    return student.to(dtype), teacher.to(dtype)


def outside_autocast(tensor: Tensor) -> torch.autocast:
    """A block in which autocast does not lower matrix products to half precision; other operations do not need it."""
    return torch.autocast(tensor.device.type, enabled=False)
