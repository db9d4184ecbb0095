"""What a teacher's outputs depend on, besides the teacher and the values of the images."""

from __future__ import annotations

import torch
from torch import Tensor

_PRECISIONS = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")


def circumstances(images: Tensor) -> dict[str, str]:
    """Shape of one image, dtype and device type of a batch, the precision it is computed in, and PyTorch's version."""
    device = images.device.type
    autocast = str(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else "off"
    return {
        "image": f"{images.dtype} {tuple(images.shape[1:])}",
        "device": device,
        "autocast": autocast,
        "precision": " ".join(map(_precision, _PRECISIONS)),
        "torch": torch.__version__,
    }


def _precision(operation: str) -> str:
    """PyTorch's setting for float32 arithmetic: per operation from 2.9 on, before that for all of them."""
    backend, kind = operation.split(".")
    setting = getattr(getattr(torch.backends, backend), kind, None)
    precision = getattr(setting, "fp32_precision", None) or torch.get_float32_matmul_precision()
    return "ieee" if precision == "none" else precision  # "none" if it was never set
