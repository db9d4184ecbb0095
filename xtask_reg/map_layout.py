"""Which dimension of a feature map is that of the channels: the second, or the last one as in Swin."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from xtask_reg.first_call import Call

Shape = tuple[int, ...]


def with_channels_last(call: Call) -> set[str]:
    """The paths of the modules whose outputs are maps ``(B, H, W, C)`` or ``(B, D, H, W, C)``, in one call.

    A map is a smaller image: all its sides have the same ratio to the image's, up to rounding, and its channels do not.
    Where both orders fit, as for ``(1, 16, 16, 16)``, the majority of the sibling modules decides; if that is a tie,
    channels come first. This is about shapes, not about PyTorch's memory format ``channels_last``.
    """
    side_by_side: dict[str, dict[str, Shape]] = defaultdict(dict)
    for tap in call.taps:
        if tap.shape is not None:
            side_by_side[tap.path.rpartition(".")[0]][tap.path] = tap.shape
    image = tuple(call.images.shape[2:])
    found = set()
    for shapes in side_by_side.values():
        found |= {path for path, last in zip(shapes, channels_are_last(list(shapes.values()), image)) if last}
    return found


def channels_are_last(shapes: Sequence[Shape], image: Shape) -> list[bool]:
    """Whether channels are last, for each of the shapes that sibling modules give for an image of these sides."""
    fits = [(_fits(shape[2:], image), _fits(shape[1:-1], image)) for shape in shapes]
    most = sum(last - first for first, last in fits)
    return [last and (most > 0 or not first) for first, last in fits]


def _fits(size: Shape, image: Shape) -> bool:
    """Whether all sides have one ratio, each possibly rounded up or down. A single side proves nothing."""
    if len(size) != len(image) or len(size) < 2:
        return False
    sides = list(zip(size, image))
    return max((now - 1) / whole for now, whole in sides) < min((now + 1) / whole for now, whole in sides)


def last_width(module: nn.Module) -> int | None:
    """The number of channels of the module's last layer, if that acts on the last dimension."""
    layers = [part for part in module.modules() if isinstance(part, (nn.Linear, nn.LayerNorm, _ConvNd, _NormBase))]
    last = layers[-1] if layers else None
    if isinstance(last, nn.Linear):
        return last.out_features
    return last.normalized_shape[-1] if isinstance(last, nn.LayerNorm) else None
