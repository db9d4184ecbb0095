"""`xtask-reg export`: its files, run without MMPose, compared with MMPose's own output."""

from __future__ import annotations

import json

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from mmpose.apis import inference_topdown
from mmpose.registry import MODELS

from xtask_reg.inputs import InputConvention
from xtask_reg.integrations.mmpose import export
from xtask_reg.integrations.mmpose.student import load_student
from xtask_reg.sources import load_metadata, load_weights


@pytest.fixture(scope="module")
def files(tmp_path_factory, config_file, checkpoint):
    from xtask_reg import cli

    out = tmp_path_factory.mktemp("export") / "student.safetensors"
    assert cli.main(["export", str(config_file), str(checkpoint), str(out), "--onnx", "--torch-export"]) == 0
    assert sorted(path.name for path in out.parent.iterdir()) == ["student.onnx", "student.pt2", "student.safetensors"]
    return {path.suffix: path for path in out.parent.iterdir()}


@pytest.fixture(scope="module")
def model(config_file, checkpoint):
    return load_student(config_file, checkpoint)


@pytest.fixture(scope="module")
def expected(model, photographs):
    """Heatmaps of photographs by MMPose's inference."""
    model.test_cfg["output_heatmaps"] = True
    results = [inference_topdown(model, str(file))[0] for file in photographs[:5]]
    return np.stack([result.pred_fields.heatmaps.numpy() for result in results])


@pytest.fixture(scope="module")
def pixels(photographs):
    """The same whole photographs, RGB from 0 to 255, which have the size of the network's input."""
    images = [cv2.imread(str(file))[..., ::-1].transpose(2, 0, 1) for file in photographs[:5]]
    return np.stack(images).astype(np.float32)


def test_onnx(files, pixels, expected):
    session = onnxruntime.InferenceSession(str(files[".onnx"]), providers=["CPUExecutionProvider"])
    for count in (1, 5):
        (heatmaps,) = session.run(None, {"images": pixels[:count]})
        np.testing.assert_allclose(heatmaps, expected[:count], atol=1e-4 * np.abs(expected).max())
    stated = {entry.key: entry.value for entry in onnx.load(files[".onnx"]).metadata_props}
    assert len(json.loads(stated["landmarks"])) == 14
    assert InputConvention.from_metadata(stated) == InputConvention((0, 0, 0), (1, 1, 1), "rgb", 255, (64, 64))


def test_torch_export(files, pixels, expected):
    extra = {"metadata.json": ""}
    network = torch.export.load(files[".pt2"], extra_files=extra).module()
    for count in (1, 5):
        with torch.no_grad():
            heatmaps = network(torch.from_numpy(pixels[:count])).numpy()
        np.testing.assert_allclose(heatmaps, expected[:count], atol=1e-4 * np.abs(expected).max())
    assert len(json.loads(json.loads(extra["metadata.json"])["landmarks"])) == 14


def test_safetensors_are_the_plain_student(files, model, checkpoint):
    """Exactly the tensors of the checkpoint, which MMPose's plain estimator can load."""
    weights, trained = load_weights(files[".safetensors"]), load_weights(checkpoint)
    assert weights.keys() == trained.keys()
    assert all(torch.equal(weights[name], trained[name]) for name in trained)
    plain = {key: value for key, value in model.cfg.model.items() if key not in ("teacher", "terms", "monitor")}
    MODELS.build({**plain, "type": "TopdownPoseEstimator"}).load_state_dict(weights, strict=True)
    stated = load_metadata(files[".safetensors"])
    assert json.loads(stated["landmarks"])[0] == "left_eye_outer"
    expected = InputConvention((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "rgb", 255)
    found = InputConvention.from_metadata(stated)
    assert found.channels == expected.channels
    np.testing.assert_allclose([*found.mean, *found.std], [*expected.mean, *expected.std], rtol=1e-6)


def test_predict_takes_what_export_wrote(files, config_file, checkpoint, photographs, command, tmp_path):
    for name, weights in (("a", checkpoint), ("b", files[".safetensors"])):
        assert command("predict", config_file, weights, *photographs, "--out", tmp_path / name, "--no-pictures") == 0
    for name in ("landmarks.csv", "landmarks.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_json_and_an_older_file(config_file, checkpoint, command, tmp_path, capsys):
    out = tmp_path / "s.safetensors"
    out.write_text("old")
    assert command("export", config_file, checkpoint, out, "--json") == 0
    ((file, difference),) = json.loads(capsys.readouterr().out).items()
    assert file == str(out)
    assert difference < 1e-5
    assert out.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("wrong", "message"),
    [(1, "heatmaps differ from the model's by"), (float("nan"), "head.final_layer.weight has NaN")],
)
def test_a_file_that_differs_is_not_kept(
    wrong, message, monkeypatch, config_file, checkpoint, command, tmp_path, capsys
):
    true = export.save_weights

    def damaged(weights, *arguments):
        name, value = next((name, value) for name, value in weights.items() if name.endswith("final_layer.weight"))
        true({**weights, name: value + wrong}, *arguments)

    monkeypatch.setattr(export, "save_weights", damaged)
    out = tmp_path / "s.safetensors"
    out.write_text("old")
    assert command("export", config_file, checkpoint, out) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_bgr_and_no_normalisation(config_file, checkpoint):
    """A network that was trained with BGR as it is read."""
    from xtask_reg.integrations.mmpose.tools import read_config

    config = read_config(config_file)
    preprocessor = MODELS.build({"_scope_": "mmpose", **config.model.data_preprocessor, "bgr_to_rgb": False})
    model = load_student(config_file, checkpoint)
    model.data_preprocessor = preprocessor
    assert export.compare(model, export.HeatmapNetwork(model)) < 1e-6
    model.data_preprocessor = MODELS.build(dict(type="mmpose.PoseDataPreprocessor"))
    assert export.compare(model, export.HeatmapNetwork(model)) < 1e-6


def test_paths_as_strings(config_file, checkpoint, tmp_path):
    model = load_student(str(config_file), str(checkpoint))
    assert export.save_student(model, str(config_file), str(tmp_path / "s.safetensors")) < export.LIMIT
    assert export.save_torch_export(model, str(tmp_path / "s.pt2")) < export.LIMIT


def test_missing_package(monkeypatch, config_file, checkpoint, command, tmp_path, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert command("export", config_file, checkpoint, tmp_path / "s.safetensors", "--onnx") == 1
    assert "ONNX needs onnxruntime: pip install 'xtask-reg[export]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
