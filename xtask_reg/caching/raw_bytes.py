"""The bytes of a tensor, without NumPy."""

from __future__ import annotations

import ctypes
import hashlib

from torch import Tensor

KEY_BYTES = 16


def raw_bytes(tensor: Tensor) -> memoryview:
    """The values in row-major order; a copy only where they do not lie so in the CPU's memory.

    From another device this waits for what the device still computes.
    """
    values = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    if not values.nbytes:
        return memoryview(b"")
    array = (ctypes.c_char * values.nbytes).from_address(values.data_ptr())
    array.owner = values  # type: ignore[attr-defined]  # the memory lives as long as the view
    return memoryview(array).cast("B")


def image_key(image: Tensor) -> bytes:
    """Which image it is: BLAKE2b of its values, dtype and shape, wherever it is and however it is laid out."""
    content = hashlib.blake2b(f"{image.dtype} {tuple(image.shape)}".encode(), digest_size=KEY_BYTES)
    content.update(raw_bytes(image))
    return content.digest()
