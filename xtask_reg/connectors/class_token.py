"""One token of a transformer, usually the class token."""

from __future__ import annotations

from torch import Tensor, nn


class ClassToken(nn.Module):
    """``(B, N, C)`` to ``(B, C)``: takes the token at ``index`` for the features of the image.

    Args:
        index: which token; negative numbers count from the end. In most vision transformers the class token is the
            first.

    Raises:
        ValueError: for an index that is not a whole number; in the call, for features that are not tokens, or have no
            token at the index.

    Example:
        >>> ClassToken()(torch.ones(2, 197, 384)).shape
        torch.Size([2, 384])
    """

    def __init__(self, index: int = 0) -> None:
        super().__init__()
        if type(index) is not int:
            raise ValueError(f"index={index!r}; expected a whole number, the place of the class token among the tokens")
        self.index = index

    def forward(self, tokens: Tensor) -> Tensor:
        if tokens.ndim != 3 or not -tokens.shape[1] <= self.index < tokens.shape[1]:
            raise ValueError(
                f"features of shape {tuple(tokens.shape)} have no token {self.index}; expected (images, tokens, "
                "channels) with that many tokens"
            )
        return tokens[:, self.index]

    def extra_repr(self) -> str:
        return f"index={self.index}"
