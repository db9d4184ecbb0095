"""The bytes of a tensor, without NumPy."""

from __future__ import annotations

import ctypes
import hashlib

from torch import Tensor

KEY_BYTES = 16


def raw_bytes(tensor: Tensor) -> memoryview:
    """The values in row-major order; copied only if the CPU's memory does not have them so.

    For a tensor on another device this waits for pending computations.
    """
    values = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    if not values.nbytes:
        return memoryview(b"")
    array = (ctypes.c_char * values.nbytes).from_address(values.data_ptr())
    array.owner = values  # type: ignore[attr-defined]  # keeps the memory alive as long as the view
    return memoryview(array).cast("B")


def image_key(image: Tensor) -> bytes:
    """The BLAKE2b hash of an image's values, dtype and shape, whatever its device and memory layout."""
    content = hashlib.blake2b(f"{image.dtype} {tuple(image.shape)}".encode(), digest_size=KEY_BYTES)
    content.update(raw_bytes(image))
    return content.digest()
