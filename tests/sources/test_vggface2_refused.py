"""Files and paths that the import of VGGFace2 networks refuses, and its command."""

from __future__ import annotations

import hashlib
import io
import math
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xtask_reg import cli
from xtask_reg.sources import load_weights, vggface2
from xtask_reg.sources.caffe_resnet import caffe_resnet50
from xtask_reg.sources.vggface2 import import_vggface2


@pytest.fixture(scope="module")
def dag(published_shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The published names and shapes, one value everywhere."""
    return {name: torch.full(shape, 0.5) for name, shape in published_shapes.items()}


def half(*shape: int, last: float = 0.5) -> Tensor:
    values = torch.full(shape, 0.5)
    values.flatten()[-1] = last
    return values


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv5_3_3x3_bn.running_var": None}, r"1 missing: layer4\.2\.bn2\.running_var"),
        ({"conv1_7x7_s2.weight": None}, r"1 missing: conv1\.weight"),
        ({"conv2_4_3x3.weight": half(1)}, r"1 extra .*: conv2_4_3x3\.weight"),
        ({"conv2_01_3x3.weight": half(1)}, r"1 extra .*: conv2_01_3x3\.weight"),
        (
            {"conv3_1_1x1_proj.weight": half(512, 128, 1, 1)},
            r"layer2\.0\.downsample\.0\.weight: \(512, 256, 1, 1\) in the module, \(512, 128, 1, 1\) in the file",
        ),
        ({"classifier.weight": torch.full((8631, 512, 2, 2), 0.5)}, r"1 of another shape: fc\.weight"),
        (
            {"classifier.weight": half(9, 2048, 1, 1), "classifier.bias": half(9)},
            r"2 of another shape: fc\.weight: \(8631, 2048\) in the module, \(9, 2048\) in the file, fc\.bias",
        ),
        ({"classifier.bias": torch.ones(8631, dtype=torch.int64)}, r"1 of another kind of number: fc\.bias"),
        ({"conv4_6_3x3.weight": half(256, 256, 3, 3, last=math.nan)}, r"layer3\.5\.conv2\.weight has .* not finite"),
        ({"classifier.bias": half(8631, last=-math.inf)}, r"fc\.bias has values that are not finite"),
        ({"classifier.bias": half(8631).double() * 1e39}, r"fc\.bias has values that are not finite"),
        ({"conv1_7x7_s2_bn.running_var": half(64, last=-1e-8)}, r"bn1\.running_var, a variance, has negative values"),
        ({"fc.weight": half(1)}, "with torchvision's names"),
    ],
)
def test_bad_state_dicts_are_refused_and_leave_an_older_file(changes, message: str, dag, tmp_path: Path) -> None:
    torch.save({name: value for name, value in (dag | changes).items() if value is not None}, tmp_path / "dag.pth")
    (tmp_path / "net.safetensors").write_bytes(b"older")
    with pytest.raises(ValueError, match=rf"(?s)dag\.pth.*({message})"):
        import_vggface2(tmp_path / "dag.pth", tmp_path / "net.safetensors")
    assert (tmp_path / "net.safetensors").read_bytes() == b"older"
    assert sorted(os.listdir(tmp_path)) == ["dag.pth", "net.safetensors"]


def torch_bytes(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def zipped_pickle() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("resnet50_ft_weight.pkl", pickle.dumps({"a": np.ones(2)}, 2))
    return buffer.getvalue()


def torchvision_names() -> dict[str, Tensor]:
    return {name: half(1) for name in caffe_resnet50().state_dict()}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: b"", "cannot be read: expected a pickle"),
        (lambda: b"<!DOCTYPE html>", "cannot be read: expected a pickle"),
        (lambda: b"version https://git-lfs", "cannot be read: expected a pickle"),
        (zipped_pickle, r"cannot be read: expected .*torch\.save"),
        (lambda: torch_bytes({"a": torch.ones(9)})[:-99], r"cannot be read: expected .*torch\.save"),
        (lambda: b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", r"cannot be read: expected .*torch\.save"),
        (lambda: torch_bytes(nn.Linear(1, 1)), "holds more than tensors"),
        (lambda: b"\x80\x02cos\nsystem\n.", r"refers to 'os\.system'"),
        (
            lambda: torch_bytes(torchvision_names()),
            "torchvision's names, .*does not say whether it expects RGB or BGR.*, reverse conv1.weight",
        ),
        (
            lambda: torch_bytes({"module.conv1_7x7_s2.weight": half(1)}),
            r"another network: expected names such as conv1_7x7_s2\.weight, got \['module\.conv1_7x7_s2",
        ),
        (lambda: pickle.dumps({"a.weight": np.ones(2)}, 2), "no entry matches; prefixes in the file: 'a.'"),
        (lambda: pickle.dumps({"bn1.bias": np.ones(64)}, 2), r"266 missing: conv1\.weight"),
        (
            lambda: pickle.dumps({"conv1.weight": np.ones((64, 3)), "b": np.ones(1)}, 2),
            r"1 of another shape: conv1\.weight: \(64, 3, 7, 7\) in the module, \(64, 3\).*1 extra .*: b",
        ),
    ],
    ids=[
        *("empty", "html", "git lfs", "zip", "truncated", "legacy", "module", "os.system", "torchvision", "wrapped"),
        *("another network", "few arrays", "wrong arrays"),
    ],
)
def test_other_files_are_refused(content: Callable[[], bytes], message: str, tmp_path: Path) -> None:
    (tmp_path / "file.pkl").write_bytes(content())
    with pytest.raises(ValueError, match=rf"(?s)file\.pkl.*{message}"):
        import_vggface2(tmp_path / "file.pkl", tmp_path / "net.safetensors")
    assert os.listdir(tmp_path) == ["file.pkl"]


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        ("net.pth", ValueError, r"net\.pth: expected a name that ends in \.safetensors"),
        ("no/net.safetensors", FileNotFoundError, r"there is no folder for .*/no/net\.safetensors; create it"),
    ],
)
def test_a_bad_output_path_is_refused_before_the_work(out, error, message, dag, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(vggface2, "caffe_resnet50", lambda *_: pytest.fail("the work began"))
    torch.save(dag, tmp_path / "dag.pth")
    with pytest.raises(error, match=message):
        import_vggface2(tmp_path / "dag.pth", tmp_path / out)
    assert os.listdir(tmp_path) == ["dag.pth"]


def test_command(dag, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "resnet50_ft_dag.pth", tmp_path / "net.safetensors"
    torch.save(dag, source)
    out.write_bytes(b"older")
    assert cli.main(["import-vggface2", str(source), str(out)]) == 0
    printed = capsys.readouterr().out
    for expected in (
        f"{source}: DAG state dict, 267 tensors, 8631 classes",
        hashlib.sha256(source.read_bytes()).hexdigest(),
        f"{out}: channels rgb, mean 131.0912,103.8827,91.4953, 0..255",
    ):
        assert expected in printed
    assert load_weights(out)["fc.weight"].shape == (8631, 2048)
    out.unlink()  # large
