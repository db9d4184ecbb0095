"""Filling a module from weights: all of it, or nothing and a message that says why."""

from __future__ import annotations

import pytest
import torch
from same_tensors import assert_same
from torch import Tensor, nn

from xtask_reg.sources import load_covering


class Net(nn.Module):
    """Parameters, persistent buffers of two kinds, a counter, a buffer that is not saved, and a tied parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("index", torch.tensor([0, 1]))
        self.register_buffer("scratch", torch.zeros(4), persistent=False)
        self.tied = self.conv.weight


def other_weights(prefix: str = "") -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    weights = {
        key: torch.randint(7, value.shape, generator=generator).to(value.dtype) + 3
        for key, value in Net().state_dict().items()
    }
    weights["tied"] = weights["conv.weight"]
    return {prefix + key: value for key, value in weights.items()}


def changed(**changes: Tensor | None) -> dict[str, Tensor]:
    weights = other_weights() | {key.replace("__", "."): value for key, value in changes.items()}
    return {key: value for key, value in weights.items() if value is not None}


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_every_saved_tensor_is_filled(prefix: str) -> None:
    net = Net()
    rest = {"head.weight": torch.ones(1)} if prefix else {}
    load_covering(net, other_weights(prefix) | rest, prefix=prefix)
    assert_same(net.state_dict(), other_weights())
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in net.parameters())


def test_the_module_keeps_its_dtype_and_memory() -> None:
    net = Net().to(torch.bfloat16)
    pointer = net.conv.weight.data_ptr()
    load_covering(net, other_weights())
    assert (net.conv.weight.dtype, net.conv.weight.data_ptr()) == (torch.bfloat16, pointer)
    assert_same({"w": net.conv.weight.detach().float()}, {"w": other_weights()["conv.weight"]})


def test_old_files_lack_num_batches_tracked() -> None:
    net = Net()
    load_covering(net, changed(norm__num_batches_tracked=None))
    assert net.norm.num_batches_tracked == 0
    assert_same({"mean": net.norm.running_mean}, {"mean": other_weights()["norm.running_mean"]})


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (changed(conv__bias=None), r"1 missing: conv\.bias$"),
        (changed(norm__running_mean=None, tied=None), r"2 missing: tied, norm\.running_mean$"),
        (changed(conv__weight=torch.ones(3, 2)), r"shape: conv\.weight: \(2, 3\) in the module, \(3, 2\) in the file$"),
        (changed(conv__bias=torch.ones(1)), r"conv\.bias: \(2,\) in the module, \(1,\) in the file$"),
        (changed(index=torch.ones(2)), r"index: torch\.int64 in the module, torch\.float32 in the file$"),
        (changed(conv__bias=torch.ones(2).int()), r"conv\.bias: torch\.float32 in the module, torch\.int32 in the"),
        (changed(fc__weight=torch.ones(1)), r"1 extra \(ignore=.*\): fc\.weight$"),
        (changed(scratch=torch.zeros(4)), r"1 extra .*: scratch$"),
        (changed(**{f"fc{i}": torch.ones(1) for i in range(12)}), r"12 extra .*: fc0, .*fc9, \.\.\.$"),
        (changed(conv__bias=None, fc=torch.ones(1)), r"1 missing: conv\.bias.*1 extra .*: fc$"),
        ({}, r"no entry matches; prefixes in the file: none$"),
        ({"b.x": torch.ones(1), "a.y.z": torch.ones(1)}, r"no entry matches; prefixes in the file: 'a\.', 'b\.'$"),
        (other_weights("module."), r"no entry matches.*'module\.'.*prefix='module\.' would fit$"),
        (other_weights("a.") | {"a.norm.bias": torch.ones(3)}, r"prefixes in the file: 'a\.'$"),
        (other_weights("a.") | other_weights("b.c."), r"prefix='a\.', 'b\.c\.' would fit$"),
        (other_weights("a.") | {"conv.bias": torch.ones(2)}, r"missing: tied, conv\.weight, .*prefix='a\.' would fit$"),
    ],
)
def test_weights_that_do_not_cover_change_nothing(weights: dict[str, Tensor], message: str) -> None:
    net = Net()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(ValueError, match=r"(?s)^file\.pth \(prefix ''\) does not fit Net\n.*" + message):
        load_covering(net, weights, name="file.pth")
    assert_same(net.state_dict(), before)


@pytest.mark.parametrize(
    ("in_file", "asked", "fit"), [("", "encoder.", ""), ("encoder.", "encoder", "encoder."), ("a.b.", "a.", "a.b.")]
)
def test_another_prefix_is_suggested(in_file: str, asked: str, fit: str) -> None:
    with pytest.raises(
        ValueError, match=rf"\(prefix '{asked}'\)(?s:.*)no entry matches(?s:.*)\n  prefix='{fit}' would fit$"
    ):
        load_covering(Net(), other_weights(in_file), prefix=asked)


@pytest.mark.parametrize("prefix", ["", "backbone."])
@pytest.mark.parametrize("ignore", ["fc.", ("head.", "fc")])
def test_what_is_ignored_is_left_out(prefix: str, ignore: str | tuple[str, ...]) -> None:
    net = Net()
    load_covering(net, other_weights(prefix) | {f"{prefix}fc.weight": torch.ones(1)}, prefix=prefix, ignore=ignore)
    assert_same(net.state_dict(), other_weights())


def test_what_the_module_needs_is_not_to_be_ignored() -> None:
    with pytest.raises(ValueError, match=r"2 missing: norm\.weight, norm\.bias"):
        load_covering(Net(), other_weights(), ignore=("norm.weight", "norm.bias"))


@pytest.mark.parametrize(
    ("module", "message"), [(nn.ReLU(), "ReLU has no parameters"), (nn.Linear(2, 2, device="meta"), "meta device")]
)
def test_modules_that_cannot_be_filled_are_refused(module: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_covering(module, {"weight": torch.ones(2, 2), "bias": torch.ones(2)})
