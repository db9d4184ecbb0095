"""Tensors of a subclass that only adds attributes or methods, such as MONAI's MetaTensor, as plain tensors."""

from __future__ import annotations

import torch
from torch import Tensor


def computes_as_plain(tensor: Tensor) -> bool:
    """Whether PyTorch computes with it as with a plain tensor, which it may be (unlike DTensor, FakeTensor)."""
    return type(tensor).__torch_dispatch__ is Tensor.__torch_dispatch__


def plain(tensor: Tensor) -> Tensor:
    """The plain tensor of which one of such a subclass is an alias: the output of the operation, with all its gradient.

    After each operation PyTorch makes the alias from it. If the alias is later changed in place, or its gradient is to
    be measured, only the plain tensor is right. A view remains what it is, since the plain tensor would be another one.
    """
    if torch.compiler.is_compiling() or type(tensor) is Tensor or not computes_as_plain(tensor):
        return tensor
    with torch._C.DisableTorchFunctionSubclass():
        if not tensor.requires_grad:
            return tensor.as_subclass(Tensor)
        base, made_by = tensor._base, tensor.grad_fn
        if base is None or made_by is None or made_by.next_functions != ((base.grad_fn, base.output_nr),):
            return tensor
        return base
