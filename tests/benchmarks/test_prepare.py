"""The converters of published data, on files made here in the published formats."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from xtask_reg.data.coco import check_landmark_file, landmark_names
from xtask_reg.sources import dlib_resnet29

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def write_face(folder: Path, name: str, seed: int) -> np.ndarray:
    """A white image with a black dot at point 18, and its template."""
    points = np.random.default_rng(seed).uniform(250, 550, (189, 2))
    points[18] = (300, 400)
    image = np.full((800, 800, 3), 255, np.uint8)
    cv2.circle(image, (300, 400), 8, (0, 0, 0), -1)
    cv2.imwrite(str(folder / f"{name}.jpg"), image)
    rows = "\n".join(f"{x}\t{y}" for x, y in points)
    (folder / f"{name}.tem").write_text(f"# a comment\n189\n{rows}\n1\n0\n2\n0 1\n")
    return points


def test_frl(tmp_path):
    folder = tmp_path / "london"
    folder.mkdir()
    for number in range(10):
        for view in ("03", "08"):
            write_face(folder, f"{number:03}_{view}", number)
    result = run("prepare_frl.py", folder, tmp_path / "frl")
    assert result.returncode == 0, result.stderr
    people = {}
    for split in ("train", "val", "test"):
        path = tmp_path / "frl" / f"{split}.json"
        check_landmark_file(path)
        content = json.loads(path.read_text())
        people[split] = {image["file_name"].split("_")[1] for image in content["images"]}
        assert len(content["images"]) == 2 * len(people[split])
        for image, annotation in zip(content["images"], content["annotations"]):
            picture = cv2.imread(str(tmp_path / "frl" / image["file_name"]), cv2.IMREAD_GRAYSCALE)
            y, x = np.argwhere(picture < 128).mean(0)
            assert annotation["keypoints"][54:56] == pytest.approx([x, y], abs=0.5)
    assert [len(people[split]) for split in people] == [6, 1, 3]
    assert not people["train"] & people["test"]
    names = landmark_names(tmp_path / "frl" / "train.json")
    assert (names.flip[18], names.flip[27], names.flip[55]) == (27, 18, 55)


def test_frl_without_templates(tmp_path):
    result = run("prepare_frl.py", tmp_path, tmp_path / "frl")
    assert result.returncode == 2
    assert "no .tem files" in result.stderr


def test_dlib(tmp_path):
    """A manifest with 8-bit and float weights in TensorFlow's layout gives back the network it was made from."""
    torch.manual_seed(0)
    state = dlib_resnet29().state_dict()
    data, entries = b"", []
    for name, tensor in state.items():
        array = tensor.numpy()
        array = array.transpose((2, 3, 1, 0) if array.ndim == 4 else tuple(reversed(range(array.ndim))))
        entry = {"name": tensorflow_name(name), "shape": list(array.shape), "dtype": "float32"}
        if array.ndim == 4:
            low, scale = float(array.min()), float(np.ptp(array)) / 255
            stored = np.round((array - low) / scale).astype(np.uint8)
            entry["quantization"] = {"dtype": "uint8", "scale": scale, "min": low}
        else:
            stored = array
        data += stored.tobytes()
        entries.append(entry)
    (tmp_path / "weights.bin").write_bytes(data)
    manifest = [{"paths": ["weights.bin"], "weights": entries}]
    (tmp_path / "face_recognition_model-weights_manifest.json").write_text(json.dumps(manifest))
    out = tmp_path / "new" / "dlib.pth"
    result = run("prepare_dlib.py", tmp_path, out)
    assert result.returncode == 0, result.stderr
    converted = torch.load(out, weights_only=True)
    assert converted.keys() == state.keys()
    for name, tensor in state.items():
        step = float(np.ptp(tensor.numpy())) / 255 if tensor.ndim == 4 else 0
        torch.testing.assert_close(converted[name], tensor, rtol=0, atol=0.51 * step + 1e-7)


def tensorflow_name(name: str) -> str:
    if name == "fc.weight":
        return "fc"
    *place, leaf = name.replace("conv.weight", "filters").replace("conv.bias", "conv_bias").split(".")
    leaves = {"filters": "conv/filters", "conv_bias": "conv/bias", "weight": "scale/weights", "bias": "scale/biases"}
    layer = "conv32_down" if place == ["stem"] else f"conv{place[1]}/{place[2]}"
    return f"{layer}/{leaves[leaf]}"


def efficientnet_pytorch_names() -> dict[str, torch.Tensor]:
    """A random EfficientNet-Lite0 under the names of the EfficientNet-PyTorch package, written out from its table.

    (expansion, kernel, input and output channels, repeats) of the seven stages of EfficientNet-B0, without
    squeeze-and-excitation; stem and head are not scaled.
    """
    stages = [(1, 3, 32, 16, 1), (6, 3, 16, 24, 2), (6, 5, 24, 40, 2), (6, 3, 40, 80, 3), (6, 5, 80, 112, 3),
              (6, 5, 112, 192, 4), (6, 3, 192, 320, 1)]  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name: str, channels: int) -> None:
        shapes.update({f"{name}.{leaf}": (channels,) for leaf in ("weight", "bias", "running_mean", "running_var")})
        shapes[f"{name}.num_batches_tracked"] = ()

    def block(name: str, expansion: int, kernel: int, inputs: int, outputs: int) -> None:
        inner = inputs * expansion
        if expansion > 1:
            shapes[f"{name}._expand_conv.weight"] = (inner, inputs, 1, 1)
            norm(f"{name}._bn0", inner)
        shapes[f"{name}._depthwise_conv.weight"] = (inner, 1, kernel, kernel)
        norm(f"{name}._bn1", inner)
        shapes[f"{name}._project_conv.weight"] = (outputs, inner, 1, 1)
        norm(f"{name}._bn2", outputs)

    shapes["_conv_stem.weight"] = (32, 3, 3, 3)
    norm("_bn0", 32)
    number = 0
    for expansion, kernel, inputs, outputs, repeats in stages:
        for repeat in range(repeats):
            block(f"_blocks.{number}", expansion, kernel, outputs if repeat else inputs, outputs)
            number += 1
    shapes["_conv_head.weight"] = (1280, 320, 1, 1)
    norm("_bn1", 1280)
    shapes |= {"_fc.weight": (1000, 1280), "_fc.bias": (1000,)}
    return {name: torch.rand(shape) if name[-7:] != "tracked" else torch.tensor(1) for name, shape in shapes.items()}


def test_efficientnet_lite0(tmp_path):
    from xtask_reg.sources import load_weights

    weights, out = efficientnet_pytorch_names(), tmp_path / "new" / "e.safetensors"
    torch.save(weights, tmp_path / "e.pth")
    result = run("prepare_efficientnet_lite0.py", tmp_path / "e.pth", out)
    assert result.returncode == 0, result.stderr
    renamed = load_weights(out)
    assert len(renamed) == 296
    for theirs, ours in {
        "_bn0.weight": "bn1.weight",
        "_bn1.bias": "bn2.bias",
        "_blocks.0._bn2.running_var": "blocks.0.0.bn2.running_var",
        "_blocks.4._expand_conv.weight": "blocks.2.1.conv_pw.weight",
        "_blocks.15._bn1.weight": "blocks.6.0.bn2.weight",
        "_fc.bias": "classifier.bias",
    }.items():
        torch.testing.assert_close(renamed[ours], weights[theirs], rtol=0, atol=0)


def test_efficientnet_lite0_with_a_gap(tmp_path):
    weights = efficientnet_pytorch_names()
    del weights["_blocks.3._bn1.weight"]
    torch.save(weights, tmp_path / "e.pth")
    result = run("prepare_efficientnet_lite0.py", tmp_path / "e.pth", tmp_path / "e.safetensors")
    assert result.returncode != 0
    assert "1 missing: blocks.2.0.bn2.weight" in result.stderr
    assert not (tmp_path / "e.safetensors").exists()
