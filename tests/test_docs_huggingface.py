"""docs/huggingface.md: its code runs, and its tables are true of networks made from tiny configs."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
import transformers
from torch import Tensor, nn

import xtask_reg as xr

PAGE = (Path(__file__).parent.parent / "docs/huggingface.md").read_text()
SIDE = 64
PLAIN = dict(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, image_size=SIDE)
STAGED = dict(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1])
SWIN = dict(image_size=SIDE, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=2)
CONFIGS: dict[str, dict[str, Any]] = {
    "ConvNextModel": STAGED,
    "ConvNextV2Model": STAGED,
    "ResNetModel": {**STAGED, "embedding_size": 8, "layer_type": "basic"},
    "SegformerModel": {**STAGED, "num_attention_heads": [1, 1, 2, 2]},
    "PvtV2Model": {**STAGED, "num_attention_heads": [1, 1, 2, 2]},
    "SwinModel": SWIN,
    "Swinv2Model": SWIN,
    "DINOv3ViTModel": {**PLAIN, "patch_size": 16, "num_register_tokens": 4},
}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*unused: Any) -> None:
        raise AssertionError("the page asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    torch.manual_seed(0)


def made(name: str) -> nn.Module:
    kind = getattr(transformers, name)
    return kind(kind.config_class(**CONFIGS.get(name, {**PLAIN, "patch_size": 16}))).eval()


def rows(heading: str) -> list[tuple[str, list[str]]]:
    """The other columns of a table, once for each network named in the first column."""
    table = PAGE.split(heading)[1].split("\n\n")[0].splitlines()[2:]
    found = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
    return [(name, cells) for first, *cells in found for name in re.findall(r"`(\w+Model)`", first)]


FOUND, BY_HAND = rows("| network | `find_stages` finds |"), rows("| network | taps | gives |")
TOKENS = [row for row in FOUND if row[1][2] != "–"]


def test_tables_are_read() -> None:
    assert (len(FOUND), len(TOKENS), len(BY_HAND)) == (12, 8, 4)


def skip(cells: list[str]) -> int:
    return int(re.search(r"TokensToMap\(skip=(\d)\)", cells[2])[1])


def test_code_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "docs/huggingface.md", "exec"), namespace)
    assert namespace["curves"].keys() == namespace["forms"].keys()
    assert (tmp_path / "huggingface.png").stat().st_size > 10_000
    (found,) = {line for line in capsys.readouterr().out.splitlines() if line.startswith("ctd_cd: ")}
    assert f"```text\n{found}\n```" in PAGE
    form = next(iter(namespace["forms"]))
    loaded = transformers.ViTForImageClassification.from_pretrained(tmp_path / form)
    assert loaded.state_dict().keys() == namespace["source"].state_dict().keys()


@pytest.mark.parametrize(("name", "cells"), FOUND, ids=lambda value: value if isinstance(value, str) else "")
def test_stages_are_those_of_the_table(name: str, cells: list[str]) -> None:
    network = made(name)
    stages = xr.find_stages(network)
    first = re.match(r"`([\w.]+)`", cells[0])[1]
    layers = 4 if "to `.3`" in cells[0] else 3
    assert stages == [first.removesuffix("0") + str(layer) for layer in range(layers)]
    shapes = [each.shape for each in xr.FrozenTeacher(network).features(torch.rand(2, 3, SIDE, SIDE), stages).values()]
    if layers == 4:
        assert [shape[2:] for shape in shapes] == [(SIDE // stride, SIDE // stride) for stride in (4, 8, 16, 32)]
    else:
        assert shapes == [(2, skip(cells) + (SIDE // 16) ** 2, 16)] * 3


FOLLOWED = re.findall(r"`(\w+ForImageClassification)`", PAGE.split("It is the same for")[1].split("joins")[0])


@pytest.mark.parametrize("name", FOLLOWED)
def test_class_scores_by_name(name: str) -> None:
    """The copy gives the source's class scores; or the name is refused, as the page says."""
    kind = getattr(transformers, name)
    config = CONFIGS.get(name.replace("ForImageClassification", "Model"), {**PLAIN, "patch_size": 16})
    source = kind(kind.config_class(**config, num_labels=5)).eval()
    for parameter in source.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter)
    if name == FOLLOWED[-1]:
        with pytest.raises(ValueError, match="could not be followed"):
            xr.shorthand(source, source, "ctd-cd")
        return
    (term,) = xr.shorthand(source, source, "ctd-cd")
    images = torch.rand(2, 3, SIDE, SIDE)
    tap = xr.FrozenTeacher(source).features(images, [term.student])[term.student]
    torch.testing.assert_close(term.student_connector.eval()(tap), source(images).logits)


class Embedded(nn.Module):
    """Returns the input of the first layer."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images, output_hidden_states=True).hidden_states[0]


@pytest.mark.parametrize(("name", "cells"), TOKENS, ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize("patch", [(0, 0), (0, 3), (2, 1), (3, 3)])
def test_patches_are_where_the_table_says(name: str, cells: list[str], patch: tuple[int, int]) -> None:
    """Another patch of the image changes that cell of the map, and no other."""
    network, (row, column) = Embedded(made(name)), patch
    images = torch.rand(1, 3, SIDE, SIDE)
    changed = images.clone()
    changed[:, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] += 1
    with torch.no_grad():
        before, after = (xr.TokensToMap(skip(cells))(network(each)) for each in (images, changed))
    where = (after - before).abs().sum(dim=(0, 1)) > 1e-5
    assert where.nonzero().tolist() == [[row, column]]


@pytest.mark.parametrize(("name", "cells"), BY_HAND, ids=lambda value: value if isinstance(value, str) else "")
def test_taps_by_hand(name: str, cells: list[str]) -> None:
    network = made(name)
    with pytest.raises(ValueError, match="no stages were found"):
        xr.find_stages(network)
    paths = re.findall(r"`([\w.]+)`", cells[0])
    strides = [int(number) for number in re.findall(r"\d+", cells[1])] or [16] * len(paths)
    taps = xr.FrozenTeacher(network).features(torch.rand(2, 3, SIDE, SIDE), paths)
    sizes = [xr.TokensToMap(skip(cells))(tap).shape[2:] for tap in taps.values()]
    assert sizes == [(SIDE // stride, SIDE // stride) for stride in strides]
