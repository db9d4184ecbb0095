"""A real checkpoint, interpolated by ``xtask-reg wise-ft``, in MMPose's own tools."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from xtask_reg.cli import wise_ft
from xtask_reg.sources import load_weights


@pytest.fixture(scope="session")
def com(train, options) -> Path:
    return train("com", "ctd-com", options) / "epoch_2.pth"


@pytest.fixture(scope="session")
def between(shared, com, source) -> Path:
    """The folder of three interpolated checkpoints."""

    def make(folder: Path) -> None:
        parser = argparse.ArgumentParser()
        wise_ft.add_to(parser.add_subparsers())
        arguments = ["wise-ft", com, source, "--out", folder / "out.pth", "--alpha", 0, 0.25, 1]
        parsed = parser.parse_args([str(argument) for argument in arguments])
        parsed.run(parsed)

    return shared("wise-ft", make)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_encoder_is_between_and_the_rest_as_tuned(between, com, source, alpha):
    found, start = load_weights(between / f"out_alpha{alpha}.pth"), load_weights(source)
    tuned = torch.load(com, weights_only=True)["state_dict"]
    assert list(found) == list(tuned)
    for name, value in tuned.items():
        expected = value.numpy()
        if name.startswith("backbone.") and value.is_floating_point():
            expected = (1 - alpha) * start[name.removeprefix("backbone.")].double().numpy() + alpha * expected
        np.testing.assert_allclose(found[name].numpy(), expected, rtol=1e-5, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_init_model_takes_it_strictly(between, com, tiny_config, alpha):
    from mmpose.apis import init_model

    model = init_model(tiny_config({"model.backbone.init_cfg": None}), str(between / f"out_alpha{alpha}.pth"), "cpu")
    weights = load_weights(between / f"out_alpha{alpha}.pth")
    torch.testing.assert_close(dict(model.state_dict()), weights, rtol=0, atol=0)
    model.load_state_dict(weights, strict=True)
    names = torch.load(com, weights_only=True)["meta"]["dataset_meta"]["keypoint_id2name"]
    assert model.dataset_meta["keypoint_id2name"] == names


def test_tools_test_takes_it(between, tmp_path, tool_command, process, config_path, options, tiny_config):
    from mmpose.apis import inference_topdown, init_model

    file = str(between / "out_alpha0.25.pth")
    arguments = [config_path("ctd-com"), file, "--work-dir", str(tmp_path)]
    outfile = {"test_evaluator.outfile": tmp_path / "predictions.json"}
    result = process(tool_command("test", arguments, {**options, **outfile}), tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "unexpected key" not in result.stdout + result.stderr
    assert "missing keys" not in result.stdout + result.stderr
    model = init_model(tiny_config({"model.backbone.init_cfg": None}), file, "cpu")
    for image in json.loads((tmp_path / "predictions.json").read_text())["images"]:
        points = inference_topdown(model, image["image"])[0].pred_instances.keypoints
        np.testing.assert_allclose(points[0], image["predicted"], atol=1e-3)
