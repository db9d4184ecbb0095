"""``xtask-reg wise-ft`` on files that need no MMEngine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from xtask_reg.cli import wise_ft
from xtask_reg.sources import load_weights, save_weights


def run(*arguments: object) -> None:
    parser = argparse.ArgumentParser()
    wise_ft.add_to(parser.add_subparsers())
    options = parser.parse_args(["wise-ft", *map(str, arguments)])
    options.run(options)


def weights(seed: int, prefix: str, others: Sequence[str]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    names = [f"{prefix}conv.weight", f"{prefix}bn.running_mean", *others]
    tensors = {name: torch.rand(3, 2, generator=generator) for name in names}
    return {**tensors, f"{prefix}bn.num_batches_tracked": torch.tensor(seed)}


@pytest.fixture
def tuned(tmp_path) -> Path:
    torch.save({"state_dict": weights(5, "backbone.", ["head.weight", "backbonehead"])}, tmp_path / "tuned.pth")
    return tmp_path / "tuned.pth"


@pytest.fixture
def source(tmp_path) -> Path:
    save_weights(weights(3, "", ["fc.weight"]), tmp_path / "source.safetensors")
    return tmp_path / "source.safetensors"


def assert_between(out: Path, alpha: float, prefix: str = "backbone.") -> None:
    source, tuned = weights(3, "", []), weights(5, "backbone.", ["head.weight", "backbonehead"])
    found = load_weights(out)
    assert found.keys() == tuned.keys()
    for name, value in found.items():
        expected = tuned[name].numpy()
        if name.startswith(prefix) and value.is_floating_point():
            expected = (1 - alpha) * source[name.removeprefix(prefix)].numpy() + alpha * expected
        np.testing.assert_allclose(value.numpy(), expected, rtol=1e-6, err_msg=name)


def test_one_alpha(tmp_path, tuned, source, capsys) -> None:
    run(tuned, source, "--out", tmp_path / "out.pth", "--alpha", "0.25")
    assert_between(tmp_path / "out.pth", 0.25)
    assert f"{tmp_path / 'out.pth'}: 3 tensors of the encoder at alpha 0.25, 2 as tuned" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"out.pth", "tuned.pth", "source.safetensors"}


def test_default_alpha(tmp_path, tuned, source) -> None:
    run(tuned, source, "--out", tmp_path / "out.pth")
    assert_between(tmp_path / "out.pth", 0.5)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_several_alphas(tmp_path, tuned, source, suffix) -> None:
    run(tuned, source, "--out", tmp_path / f"out.{suffix}", "--alpha", 0, 0.25, 1, 0.25)
    for alpha in (0.0, 0.25, 1.0):
        assert_between(tmp_path / f"out_alpha{alpha}.{suffix}", alpha)
    assert len(list(tmp_path.iterdir())) == 2 + 3


@pytest.mark.parametrize(("prefix", "source_prefix"), [("net.", ""), ("", "module.encoder."), ("net.", "module.")])
def test_prefixes_and_ignored_names(tmp_path, prefix, source_prefix) -> None:
    torch.save(weights(5, prefix, []), tmp_path / "tuned.pth")
    extra = [f"{source_prefix}fc.weight", f"{source_prefix}norm.weight", "epoch"]
    torch.save({"model": weights(3, source_prefix, extra if source_prefix else extra[:2])}, tmp_path / "source.pth")
    names = ["--prefix", prefix, "--source-prefix", source_prefix, "--ignore", "fc.,norm."]
    run(tmp_path / "tuned.pth", tmp_path / "source.pth", "--out", tmp_path / "out.pth", *names, "--alpha", "0")
    assert torch.equal(load_weights(tmp_path / "out.pth")[f"{prefix}conv.weight"], weights(3, "", [])["conv.weight"])


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (["gone.pth", "source.safetensors"], FileNotFoundError, "no file .*gone.pth"),
        (["tuned.pth", "gone.pth"], FileNotFoundError, "no file .*gone.pth"),
        (["tuned.pth", "hostile.pth"], ValueError, "hostile.pth holds more than tensors"),
        (["hostile.pth", "source.safetensors"], ValueError, "hostile.pth holds more than tensors"),
        (["tuned.pth", "other.pth"], ValueError, "other.pth and .*tuned.pth: .*2 in the source alone: a, b;.*see --p"),
        (["other.pth", "source.safetensors"], ValueError, "other.pth has no tensor under 'backbone.'; .* a., b."),
        (["tuned.pth", "source.safetensors", "--prefix", "back"], ValueError, "not the same network"),
        (["tuned.pth", "source.safetensors", "--ignore", ""], ValueError, "in the source alone: fc.weight"),
        (["tuned.pth", "source.safetensors", "--source-prefix", "x."], ValueError, "has no tensor under 'x.'"),
        (["tuned.pth", "source.safetensors", "--out", "tuned.pth"], FileExistsError, "tuned.pth exists"),
        (["tuned.pth", "source.safetensors", "--out", "no/out.pth"], FileNotFoundError, "no folder for no/out.pth"),
    ],
)  # fmt: skip
def test_bad_input_leaves_nothing_behind(tmp_path, monkeypatch, tuned, source, arguments, error, match) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": torch.ones(2), "b": torch.ones(2)}, "other.pth")
    torch.save({"state_dict": {"a": argparse.Namespace()}}, "hostile.pth")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    with pytest.raises(error, match=match) as raised:
        run(*([] if "--out" in arguments else ["--out", "out.pth"]), *arguments)
    assert "\n" not in str(raised.value)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_failure_while_writing_leaves_nothing_behind(tmp_path, monkeypatch, tuned, source) -> None:
    def half(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[:4])
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="no space"):
        run(tuned, source, "--out", tmp_path / "out.pth")
    assert {path.name for path in tmp_path.iterdir()} == {"tuned.pth", "source.safetensors"}


@pytest.mark.parametrize("alpha", ["-0.1", "1.01", "nan", "half"])
def test_bad_alpha(tmp_path, tuned, source, alpha, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(tuned, source, "--out", tmp_path / "out.pth", f"--alpha={alpha}")
    assert stopped.value.code == 2
    assert f"'{alpha}'; expected a number from 0 to 1" in capsys.readouterr().err


@pytest.mark.parametrize("stated", [{"landmarks": '["a"]', "flip_index": "[0]"}, {}])
def test_what_a_safetensors_file_states_is_kept(tmp_path, source, stated) -> None:
    """The names of the landmarks that ``xtask-reg export`` wrote, without which ``predict`` takes no file."""
    save_weights(weights(5, "backbone.", []), tmp_path / "tuned.safetensors", stated)
    run(tmp_path / "tuned.safetensors", source, "--out", tmp_path / "out.safetensors")
    with safe_open(tmp_path / "out.safetensors", framework="pt") as file:
        assert (file.metadata() or {}) == stated
