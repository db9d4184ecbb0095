"""What a network expects of its input images, and the conversion from one convention to another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

import torch
from torch import Tensor, nn

from xtask_reg.resized import resized
from xtask_reg.sizes import checked_size

Triple = tuple[float, float, float]


def _are_three(values: Iterable[float]) -> bool:
    """Whether these are three numbers, of Python, NumPy or PyTorch."""
    try:
        return len([math.isfinite(value) for value in values]) == 3
    except TypeError:
        return False


@dataclass(frozen=True)
class InputConvention:
    """What a network expects of its images: ``(pixel / 255 * value_range - mean) / std`` in each channel.

    Args:
        mean: subtracted from each channel, in units of ``value_range``, in the order of ``channels``.
        std: divides each channel, likewise.
        channels: channel order of the tensor, ``'rgb'`` or ``'bgr'``.
        value_range: the value of a white pixel before the mean is subtracted: 255 or 1, usually.
        size: ``(height, width)`` in pixels that the network needs; None if any size will do.

    Raises:
        ValueError: for another channel order, a number that is not finite, a std or value range that is not positive,
            or a bad size.

    Example:
        >>> vggface2 = InputConvention(mean=(131.0912, 103.8827, 91.4953), std=(1, 1, 1), value_range=255)
    """

    mean: Triple = (0.485, 0.456, 0.406)
    std: Triple = (0.229, 0.224, 0.225)
    channels: Literal["rgb", "bgr"] = "rgb"
    value_range: float = 1.0
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.channels not in ("rgb", "bgr"):
            raise ValueError(f"channels={self.channels!r}; expected 'rgb' or 'bgr'")
        if not (_are_three(self.mean) and _are_three(self.std)):
            raise ValueError(f"mean={self.mean!r} and std={self.std!r} must have three values, one per channel")
        if not isinstance(self.value_range, Real):
            raise ValueError(f"value_range={self.value_range!r}; expected the value of a white pixel, 255 or 1 usually")
        finite = all(math.isfinite(value) for value in (*self.mean, *self.std, self.value_range))
        if not finite or min(self.std) <= 0 or self.value_range <= 0:
            raise ValueError(
                f"mean={self.mean!r}, std={self.std!r} and value_range={self.value_range!r} must be finite, "
                "std and value_range positive"
            )
        if self.size is not None:
            checked_size(self.size, "height and width in pixels", "None for any size")

    def to_metadata(self) -> dict[str, str]:
        """The convention as strings, for the metadata of a ``.safetensors`` file."""
        numbers = {"mean": self.mean, "std": self.std, "value_range": (self.value_range,), "size": self.size}
        texts = {name: ",".join(f"{value:.9g}" for value in values) for name, values in numbers.items() if values}
        return {"channels": self.channels, **texts}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> InputConvention | None:
        """The convention that a file's metadata states; None if the metadata lack a part of it.

        Raises:
            ValueError: if the values do not make a convention.
        """
        needed = {"channels", "mean", "std", "value_range"}
        if not needed <= metadata.keys():
            return None
        try:
            channels: Any = metadata["channels"]
            (value_range,) = _numbers(metadata["value_range"])
            size: Any = tuple(map(int, _numbers(metadata["size"]))) if "size" in metadata else None
            return cls(_numbers(metadata["mean"]), _numbers(metadata["std"]), channels, value_range, size)
        except (ValueError, OverflowError) as error:
            stated = {name: metadata[name] for name in sorted(needed)}
            raise ValueError(f"the metadata {stated} do not state an input convention: {error}") from error


PIXELS = InputConvention(mean=(0, 0, 0), std=(1, 1, 1), value_range=255)
"""RGB images as they are read, 0..255."""


class InputAdapter(nn.Module):
    """Converts images ``(B, 3, H, W)`` from the student's input convention to the teacher's.

    If the conventions agree, it returns the very tensor that it was given.

    Args:
        student: what the student expects, and so what the images are.
        teacher: what the source expects, and so what it is given; the images are resized to its ``size``, if it has
            one.

    Raises:
        ValueError: in the call, if the images are not ``(B, 3, H, W)``.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, student: InputConvention, teacher: InputConvention) -> None:
        super().__init__()
        self.student = student
        self.teacher = teacher
        self.swap: bool = student.channels != teacher.channels
        mean_s, std_s = (_in_order(values, self.swap) / student.value_range for values in (student.mean, student.std))
        mean_t, std_t = (_in_order(values, False) / teacher.value_range for values in (teacher.mean, teacher.std))
        self.register_buffer("scale", (std_s / std_t).float().view(3, 1, 1))
        self.register_buffer("shift", ((mean_s - mean_t) / std_t).float().view(3, 1, 1))
        self._same_values = not self.swap and torch.allclose(mean_s, mean_t) and torch.allclose(std_s, std_t)

    @property
    def changes_nothing(self) -> bool:
        """Whether both conventions are the same, whatever the size of the images."""
        return self._same_values and self.teacher.size is None

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images of shape {tuple(images.shape)}; expected (images, 3, height, width)")
        if not self._same_values:
            images = (images.flip(1) if self.swap else images) * self.scale + self.shift
        size = self.teacher.size
        if size is not None and tuple(images.shape[2:]) != tuple(size):
            images = resized(images, size)
        return images

    def extra_repr(self) -> str:
        return f"student={self.student}, teacher={self.teacher}"


def _numbers(text: str) -> Any:
    return tuple(map(float, text.split(",")))


def _in_order(values: Triple, reverse: bool) -> Tensor:
    tensor = torch.tensor(values, dtype=torch.float64)
    return tensor.flip(0) if reverse else tensor
