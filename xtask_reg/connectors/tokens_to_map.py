"""The patch tokens of a transformer as a feature map."""

from __future__ import annotations

from torch import Tensor, nn

from xtask_reg.sizes import checked_size


class TokensToMap(nn.Module):
    """``(B, skip + H * W, C)`` to ``(B, C, H, W)``: the patch tokens of a transformer as a feature map, row by row.

    For losses that need maps, and wherever only the patches are to be compared. The tokens before the patches are
    dropped: the class token and any register or distillation tokens.

    Args:
        skip: how many tokens come before the first patch: 1 in a plain ViT, 0 without a class token, 5 with a class
            token and four registers.
        size: height and width of the map in cells; None for a square. Give it where the images are not square: 4 x 9
            patches are as many as 6 x 6, and would be taken for these.

    Raises:
        ValueError: for a skip or size that is not of whole numbers (from 0, from 1); in the call, for features that are
            not tokens, or tokens that do not fill the map.

    Example:
        >>> TokensToMap()(torch.ones(2, 197, 384)).shape
        torch.Size([2, 384, 14, 14])
    """

    size: tuple[int, int] | None

    def __init__(self, skip: int = 1, size: tuple[int, int] | None = None) -> None:
        super().__init__()
        if type(skip) is not int or skip < 0:
            raise ValueError(f"skip={skip!r}; expected the number of tokens before the first patch, 0 or more")
        self.skip = skip
        self.size = None if size is None else checked_size(size, "height and width in cells", "None for a square")

    def forward(self, tokens: Tensor) -> Tensor:
        if tokens.ndim != 3:
            raise ValueError(
                f"features of shape {tuple(tokens.shape)} are not tokens; expected (images, tokens, channels)"
            )
        patches = tokens.shape[1] - self.skip
        height, width = self.size or _square(patches)
        if patches < 1 or height * width != patches:
            raise ValueError(
                f"features of shape {tuple(tokens.shape)} have {patches} tokens after the first {self.skip}; expected "
                f"{f'{height} x {width}' if self.size else 'a square number: give skip=..., or size=(height, width)'}"
            )
        return tokens[:, self.skip :].transpose(1, 2).unflatten(2, (height, width))

    def extra_repr(self) -> str:
        return f"skip={self.skip}, size={self.size}"


def _square(cells: int) -> tuple[int, int]:
    side = round(max(cells, 0) ** 0.5)
    return side, side
