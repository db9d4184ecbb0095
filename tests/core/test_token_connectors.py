"""Tokens of transformers, compared with NumPy loops over the place of each in the image."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

import xtask_reg as xr
from xtask_reg.connectors.class_token import ClassToken
from xtask_reg.connectors.tokens_to_map import TokensToMap


@pytest.mark.parametrize("index", [0, 4, -1, -5])
def test_class_token_against_numpy(index: int) -> None:
    tokens = torch.randn(3, 5, 4)
    np.testing.assert_array_equal(ClassToken(index)(tokens).numpy(), np.stack([image[index] for image in tokens]))


@pytest.mark.parametrize(
    ("skip", "size", "height", "width"),
    [(1, None, 3, 3), (0, None, 4, 4), (5, None, 2, 2), (1, (2, 5), 2, 5), (2, [5, 2], 5, 2), (1, None, 1, 1)],
)
def test_map_against_numpy(skip: int, size: tuple[int, int] | None, height: int, width: int) -> None:
    tokens = torch.randn(2, skip + height * width, 3)
    found = TokensToMap(skip, size)(tokens)
    assert found.shape == (2, 3, height, width)
    for row, column in np.ndindex(height, width):
        np.testing.assert_array_equal(found[:, :, row, column], tokens[:, skip + row * width + column])


def test_map_undoes_a_patch_embedding() -> None:
    """A convolution's map is flattened into tokens as ViT does it."""
    features = torch.nn.Conv2d(3, 8, 4, 4)(torch.rand(2, 3, 20, 12))
    tokens = torch.cat([torch.zeros(2, 1, 8), features.flatten(2).transpose(1, 2)], dim=1)
    assert torch.equal(TokensToMap(size=(5, 3))(tokens), features)


@pytest.mark.parametrize("shape", [(2, 5, 4), (2, 3, 5, 4), (2, 3, 5, 6, 4)], ids=str)
def test_channels_first_against_numpy(shape: tuple[int, ...]) -> None:
    """Each channel, as a map of its own; and back."""
    features = torch.randn(shape)
    found = xr.ChannelsFirst()(features)
    assert found.shape == (2, 4, *shape[1:-1])
    for channel in range(4):
        np.testing.assert_array_equal(found[:, channel].numpy(), features.numpy()[..., channel])
    assert torch.equal(xr.ChannelsLast()(found), features)


@pytest.mark.parametrize(
    ("connector", "message"),
    [
        (
            xr.ChannelsFirst(),
            "neither tokens nor maps; expected (images, tokens, channels) or (images, *spatial, channels)",
        ),
        (xr.ChannelsLast(), "not maps; expected (images, channels, *spatial)"),
    ],
)
def test_features_without_locations(connector: torch.nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        connector(torch.zeros(2, 4))
    assert "(2, 4)" in str(error.value)


@pytest.mark.parametrize("wrong", [1.0, "0", None, True])
def test_bad_index_is_named(wrong: object) -> None:
    with pytest.raises(ValueError, match=f"index={wrong!r}; expected a whole number"):
        ClassToken(wrong)


@pytest.mark.parametrize(("index", "shape"), [(0, (2, 4)), (0, (2, 4, 3, 3)), (5, (2, 5, 4)), (-6, (2, 5, 4))])
def test_no_such_token(index: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{shape} have no token {index}; expected (images, tokens, ")):
        ClassToken(index)(torch.zeros(shape))


@pytest.mark.parametrize("wrong", [-1, 1.0, "1", None, True])
def test_bad_skip_is_named(wrong: object) -> None:
    with pytest.raises(ValueError, match=f"skip={wrong!r}; expected the number of tokens"):
        TokensToMap(wrong)


@pytest.mark.parametrize("wrong", [4, (4,), (4, 0), (4, 2.0), "44", (1, 2, 3)])
def test_bad_size_is_named(wrong: object) -> None:
    with pytest.raises(ValueError, match=re.escape(f"size={wrong!r}; expected height and width")):
        TokensToMap(size=wrong)


@pytest.mark.parametrize(
    ("connector", "shape", "message"),
    [
        (TokensToMap(), (2, 4), "not tokens; expected (images, tokens, channels)"),
        (TokensToMap(), (2, 4, 3, 3), "not tokens; expected (images, tokens, channels)"),
        (TokensToMap(), (2, 21, 4), "20 tokens after the first 1; expected a square number: give skip=..., or size="),
        (TokensToMap(size=(4, 4)), (2, 21, 4), "20 tokens after the first 1; expected 4 x 4"),
        (TokensToMap(skip=5), (2, 5, 4), "0 tokens after the first 5"),
        (TokensToMap(skip=5), (2, 1, 4), "-4 tokens after the first 5"),
    ],
)
def test_tokens_that_make_no_map(connector: TokensToMap, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        connector(torch.zeros(shape))
    assert str(shape) in str(error.value)


CONNECTORS = [ClassToken(), TokensToMap(), TokensToMap(2, (3, 5)), xr.ChannelsFirst(), xr.ChannelsLast()]


@pytest.mark.parametrize("dynamic", [None, True, False])
@pytest.mark.parametrize("connector", CONNECTORS, ids=str)
def test_compiled_connector_gives_the_same(connector: torch.nn.Module, dynamic: bool | None) -> None:
    """Also when the number of images, or of tokens, changes."""
    torch.compiler.reset()
    compiled = torch.compile(connector, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    tokens = [torch.randn(images, 17, 8) for images in (2, 3)]
    tokens += [] if isinstance(connector, TokensToMap) and connector.size else [torch.randn(2, 26, 8)]
    for each in tokens:
        torch.testing.assert_close(compiled(each), connector(each), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("connector", CONNECTORS, ids=str)
def test_keeps_precision_and_gradient(connector: torch.nn.Module, dtype: torch.dtype) -> None:
    """Each value of the result is one value of the tokens, whose gradient is 1."""
    tokens = torch.randn(2, 17, 8, dtype=dtype, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = connector(tokens)
    found.sum().backward()
    assert found.dtype == dtype
    assert set(tokens.grad.unique().tolist()) <= {0.0, 1.0}
    assert tokens.grad.sum() == found.numel()


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("form", ["each token", "each patch", "class token", "mean of the patches"])
def test_forms_of_the_cosine_against_numpy(form: str) -> None:
    student, teacher = torch.randn(2, 3, 10, 4, dtype=torch.float64)
    connector, over = {
        "each token": (xr.ChannelsFirst(), "location"),
        "each patch": (TokensToMap(), "location"),
        "class token": (ClassToken(), "flatten"),
        "mean of the patches": (TokensToMap(), "pooled"),
    }[form]
    pairs = list(zip(student.numpy(), teacher.numpy()))
    expected = {
        "each token": [np.mean([cosine(*each) for each in zip(s, t)]) for s, t in pairs],
        "each patch": [np.mean([cosine(*each) for each in zip(s[1:], t[1:])]) for s, t in pairs],
        "class token": [cosine(s[0], t[0]) for s, t in pairs],
        "mean of the patches": [cosine(s[1:].mean(0), t[1:].mean(0)) for s, t in pairs],
    }[form]
    found = xr.CosineAlignmentLoss(over=over)(connector(student), connector(teacher))
    assert found.item() == pytest.approx(1 - np.mean(expected), rel=1e-10)


@pytest.mark.parametrize(
    "loss",
    [xr.GramAnchoringLoss(), xr.LocalSimilarityLoss(), xr.AttentionTransferLoss(), xr.PearsonLoss(), xr.HintLoss()],
    ids=lambda loss: type(loss).__name__,
)
def test_losses_on_maps_take_tokens(loss: torch.nn.Module) -> None:
    """The value is the same as on the map from which the tokens are made."""
    maps = torch.randn(2, 3, 6, 4, 4)
    tokens = torch.cat([torch.randn(2, 3, 1, 6), maps.flatten(3).transpose(2, 3)], dim=2)
    torch.testing.assert_close(loss(*map(TokensToMap(), tokens)), loss(*maps))
