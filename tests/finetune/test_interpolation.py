"""WiSE-FT against the formula in NumPy."""

from __future__ import annotations

import copy
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xtask_reg.finetune import interpolate


def states(dtype: torch.dtype = torch.float32) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Before and after a step in training mode; with running statistics and an integer buffer."""
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).to(dtype)
    before = copy.deepcopy(network.state_dict())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(torch.randn(8, 4, dtype=dtype)).square().sum().backward()
    optimizer.step()
    return before, network.state_dict()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("alpha", [0.1, 0.25, Fraction(1, 2), 0.9])
def test_formula(alpha: float, dtype: torch.dtype) -> None:
    source, tuned = states(dtype)
    found = interpolate(source, tuned, alpha)
    assert list(found) == list(tuned)
    for name, value in tuned.items():
        a, b = (tensor.to(torch.float64).numpy() for tensor in (source[name], value))
        expected = float(1 - alpha) * a + float(alpha) * b if value.is_floating_point() else value.numpy()
        assert found[name].dtype == value.dtype
        rtol = 2 * torch.finfo(dtype).eps
        np.testing.assert_allclose(found[name].to(torch.float64).numpy(), expected, rtol=rtol, atol=rtol * 0.1)
    assert not torch.equal(found["1.running_mean"], tuned["1.running_mean"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_ends_are_exact(dtype: torch.dtype) -> None:
    source, tuned = states(dtype)
    for alpha, end in ((0, source), (1, tuned), (0.0, source), (np.float64(1), tuned)):
        found = interpolate(source, tuned, alpha)
        torch.testing.assert_close(
            found, {**end, "1.num_batches_tracked": tuned["1.num_batches_tracked"]}, rtol=0, atol=0
        )


def test_infinities_of_a_mask_stay() -> None:
    source, tuned = torch.tensor([-math.inf, 0.0]), torch.tensor([-math.inf, 1.0])
    for alpha in (0, 0.25, 1):
        found = interpolate({"mask": source}, {"mask": tuned}, alpha)
        assert found["mask"].tolist() == [-math.inf, alpha]


def test_complex_weights() -> None:
    found = interpolate({"weight": torch.tensor([1 + 1j])}, {"weight": torch.tensor([3 - 1j])}, 0.25)
    assert found["weight"].tolist() == [1.5 + 0.5j]


def test_result_is_new_and_detached() -> None:
    source, tuned = states()
    kept = copy.deepcopy((source, tuned))
    given = [{k: nn.Parameter(v, v.is_floating_point()) for k, v in state.items()} for state in (source, tuned)]
    for alpha in (0, 0.5, 1):
        for value in interpolate(*given, alpha).values():
            assert not value.requires_grad
            value.zero_()
    torch.testing.assert_close((source, tuned), kept, rtol=0, atol=0)


def test_integers_may_be_missing_in_the_source() -> None:
    source, tuned = states()
    del source["1.num_batches_tracked"]
    assert interpolate(source, tuned, 0.5)["1.num_batches_tracked"] == 1


def test_half_precision_source() -> None:
    source, tuned = states()
    half = {name: value.half() if value.is_floating_point() else value for name, value in source.items()}
    found = interpolate(half, tuned, 0)
    assert torch.equal(found["0.weight"], half["0.weight"].float())


@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan, math.inf, "0.5", None])
def test_bad_alpha(alpha) -> None:
    with pytest.raises(ValueError, match="alpha=.*from 0"):
        interpolate(*states(), alpha)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s, t: s.pop("0.weight"), "1 in the tuned network alone: 0.weight"),
        (lambda s, t: t.pop("1.running_var"), "1 in the source alone: 1.running_var"),
        (lambda s, t: s.update({"0.weight": torch.ones(3, 5)}), r"different shapes: 0.weight \(3, 5\) and \(3, 4\)"),
        (lambda s, t: s.update({"0.bias": torch.ones(3, dtype=torch.int64)}), "in the tuned network alone: 0.bias"),
    ],
)
def test_other_networks(change, match) -> None:
    source, tuned = states()
    change(source, tuned)
    with pytest.raises(ValueError, match=match):
        interpolate(source, tuned, 0.5)


class Counting(nn.Linear):
    """Keeps more than tensors in its state dict."""

    extra: Any = None

    def get_extra_state(self) -> Any:
        return self.extra

    def set_extra_state(self, state: Any) -> None:
        self.extra = state


@pytest.mark.parametrize(
    ("before", "after"),
    [({"steps": 1}, {"steps": 2}), (torch.zeros(2), torch.ones(3)), (None, "text"), ({"steps": 1}, torch.ones(1))],
)
def test_extra_state_is_the_tuned_one(before: Any, after: Any) -> None:
    source, tuned = (nn.Sequential(Counting(2, 2)) for _ in range(2))
    source[0].extra, tuned[0].extra = before, after
    found = interpolate(source.state_dict(), tuned.state_dict(), 0.25)
    assert torch.equal(found["0.weight"], source[0].weight.detach().lerp(tuned[0].weight.detach(), 0.25))
    source.load_state_dict(found)
    assert str(source[0].extra) == str(after)
    assert source[0].extra is not after or isinstance(after, str)
