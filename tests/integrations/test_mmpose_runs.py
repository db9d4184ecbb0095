"""Runs of MMPose's own tools/train.py and tools/test.py on the shipped configs."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmpose.registry import MODELS
from same_tensors import assert_same

from xtask_reg.sources import load_weights

CONNECTORS = {f"terms.loss_cd.student_connector.fc.{kind}" for kind in ("weight", "bias")}
EPOCHS, STEPS = 2, 2
PAGE = Path(__file__).parents[2] / "docs" / "mmpose.md"


@pytest.fixture(scope="session")
def ft(train, ft_options) -> Path:
    return train("ft", "ft", ft_options)


@pytest.fixture(scope="session")
def com(train, options) -> Path:
    return train("com", "ctd-com", options)


@pytest.fixture(scope="session")
def fe(train, ft_options) -> Path:
    return train("fe", "fe", ft_options)


@pytest.fixture(scope="session")
def ftp(train, ft_options) -> Path:
    return train("ftp", "fe", {**ft_options, "model.frozen_but": "['backbone.layer4']"})


@pytest.fixture(scope="session")
def weightless(train, options) -> Path:
    return train("weightless", "ctd-com", {**options, "model.terms.0.weight": 0, "model.terms.1.weight": 0.0})


@pytest.fixture(scope="session")
def ema(train, options) -> Path:
    return train("ema", "ctd-com", {**options, "default_hooks.ema.type": "EMAHook", "default_hooks.ema.momentum": 0.5})


@pytest.fixture(scope="session")
def resumed(train, options, com) -> Path:
    return train("resumed", "ctd-com", options, "--resume", str(com / "epoch_1.pth"))


def seen(run: Path) -> dict[str, Any]:
    """The probe's records of the run."""
    return torch.load(run / "probe.pt", weights_only=True)


def checkpoint(run: Path, epoch: int = EPOCHS) -> dict[str, Any]:
    return torch.load(run / f"epoch_{epoch}.pth", weights_only=True)


@pytest.fixture
def plain_model(tiny_config) -> Any:
    model = tiny_config({}).model
    del model["teacher"], model["terms"], model["monitor"]
    return MODELS.build({**model, "type": "TopdownPoseEstimator"})


# -- checkpoints -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", ["ft", "fe", "com", "weightless", "ema", "resumed"])
def test_checkpoint_has_the_keys_of_the_plain_estimator(request, plain_model, run):
    content = checkpoint(request.getfixturevalue(run))
    assert list(content["state_dict"]) == list(plain_model.state_dict())
    plain_model.load_state_dict(content["state_dict"], strict=True)


@pytest.mark.parametrize(
    ("run", "connectors"),
    [("ft", None), ("weightless", None), ("com", CONNECTORS), ("ema", CONNECTORS), ("resumed", CONNECTORS)],
)
def test_connectors_have_a_place_of_their_own(request, run, connectors):
    folder = request.getfixturevalue(run)
    content = checkpoint(folder)
    assert set(content.get("xtask_reg", ())) == (connectors or set())
    if connectors:
        assert_same(content["xtask_reg"], seen(folder)["last_connectors"])


def test_ema_checkpoint_has_averages_and_no_teacher(ema, com):
    """The averaged weights are the student's; MMEngine keeps the others, those of the run itself, beside them."""
    content, own = checkpoint(ema), checkpoint(com)
    others = {key.removeprefix("module."): value for key, value in content["ema_state_dict"].items() if key != "steps"}
    assert_same(others, own["state_dict"])
    assert not torch.equal(
        content["state_dict"]["head.final_layer.weight"], own["state_dict"]["head.final_layer.weight"]
    )


def test_resume_restores_the_connectors(com, resumed, source):
    assert "resumed epoch: 1, iter: 2" in (resumed / "output.txt").read_text()
    start = seen(resumed)
    assert start["epoch"] == 1
    assert_same(start["connectors"], checkpoint(com, 1)["xtask_reg"])
    assert_same(start["start"], checkpoint(com, 1)["state_dict"])
    fc = load_weights(source)["fc.weight"]
    assert not torch.equal(start["connectors"]["terms.loss_cd.student_connector.fc.weight"], fc)
    assert len(start["inputs"]) == STEPS


def test_plain_checkpoint_can_be_the_start_of_a_run_with_connectors(ft, tiny_runner):
    """``load_from`` loads the student and leaves the connectors unchanged, as the source's classifier."""
    runner = tiny_runner({"load_from": str(ft / "epoch_2.pth")})
    runner.model.init_weights()
    runner.load_or_resume()
    assert_same(runner.model.state_dict(), checkpoint(ft)["state_dict"])
    regularizer = runner.model.regularizer
    classifier = regularizer.teacher.network.classifier
    assert_same(regularizer.terms["loss_cd"].student_connector.state_dict(), classifier.state_dict())


def test_killed_while_saving_then_resumed(tmp_path, tool_command, process, config_path, options):
    """SIGKILL halfway through the third checkpoint, with the shipped number of kept checkpoints."""
    config = tmp_path / "killed.py"
    plugins = ["xtask_reg.integrations.mmpose", "die"]
    config.write_text(f"_base_ = [{config_path('ctd-com')!r}]\ncustom_imports = dict(imports={plugins})\n")
    shipped = {key: value for key, value in options.items() if "max_keep_ckpts" not in key}
    command = tool_command(
        "train", [str(config), "--work-dir", str(tmp_path), "--resume"], {**shipped, "train_cfg.max_epochs": 4}
    )
    first = process(command, tmp_path, DIE_WRITING="epoch_3.pth")
    assert first.returncode == -9
    assert not (tmp_path / "epoch_4.pth").exists()
    second = process(command, tmp_path)
    assert second.returncode == 0, second.stderr[-3000:]
    assert "resumed epoch: 2" in second.stdout + second.stderr
    assert set(checkpoint(tmp_path, 4)["xtask_reg"]) == CONNECTORS


# -- training ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", ["com", "weightless", "ema"])
def test_same_start_and_same_batches_as_fine_tuning(request, ft, run):
    """With the shipped augmentation, drawn in the training process itself."""
    own, plain = seen(request.getfixturevalue(run)), seen(ft)
    assert_same(own["start"], plain["start"])
    assert own["inputs"] == plain["inputs"]
    assert len(set(own["inputs"])) == EPOCHS * STEPS


def test_weightless_terms_are_fine_tuning_to_the_bit(ft, weightless, com):
    final = checkpoint(ft)["state_dict"]
    assert_same(checkpoint(weightless)["state_dict"], final)
    assert [step["loss"] for step in seen(weightless)["logged"]] == [step["loss"] for step in seen(ft)["logged"]]
    assert not torch.equal(checkpoint(com)["state_dict"]["backbone.conv1.weight"], final["backbone.conv1.weight"])


@pytest.mark.parametrize("run", ["com", "ema", "resumed"])
def test_teacher_stays_the_source(request, source, run):
    facts = seen(request.getfixturevalue(run))
    expected = {
        (f"classifier.{key}" if key.startswith("fc.") else f"backbone.{key}"): value
        for key, value in load_weights(source).items()
    }
    assert_same(facts["teacher"], expected)
    assert facts["before"] == facts["after"]
    assert facts["training"] == [False] * len(facts["inputs"])
    assert facts["optimized"] == {"connectors": True, "teacher": False}


def test_student_starts_as_the_source_and_trains(com, source):
    encoder = {f"backbone.{key}": value for key, value in load_weights(source).items() if not key.startswith("fc.")}
    start = {key: value for key, value in seen(com)["start"].items() if key.startswith("backbone.")}
    assert_same(start, encoder)
    final = checkpoint(com)
    assert not torch.equal(final["state_dict"]["backbone.conv1.weight"], encoder["backbone.conv1.weight"])
    fc = "terms.loss_cd.student_connector.fc.weight"
    assert_same({fc: seen(com)["connectors"][fc]}, {fc: load_weights(source)["fc.weight"]})
    assert not torch.equal(final["xtask_reg"][fc], load_weights(source)["fc.weight"])


@pytest.mark.parametrize(("run", "trains"), [("fe", ("head",)), ("ftp", ("head", "backbone.layer4")), ("ft", ("",))])
def test_frozen_weights_and_statistics_stay_to_the_bit(request, run, trains):
    folder = request.getfixturevalue(run)
    start, end = seen(folder)["start"], checkpoint(folder)["state_dict"]
    for key, value in end.items():
        assert torch.equal(value, start[key]) == (not key.startswith(trains)), key
    parameters = [key for key in start if "running" not in key and "num_batches" not in key]
    count = sum(start[key].numel() for key in parameters if key.startswith(trains))
    total = sum(start[key].numel() for key in parameters)
    assert f"trainable parameters: {count:,} of {total:,} (backbone" in (folder / "output.txt").read_text()


@pytest.mark.parametrize("run", ["ft", "com"])
def test_learning_rate_decays_to_zero_at_the_last_step(request, run):
    last = EPOCHS * STEPS - 1
    expected = [1e-3 * (1 - step / last) ** 0.9 for step in range(last + 1)]
    assert seen(request.getfixturevalue(run))["lr"] == pytest.approx(expected, rel=1e-6)


def test_terms_are_logged_and_summed(com):
    steps = seen(com)["logged"]
    assert len(steps) == EPOCHS * STEPS
    for step in steps:
        assert step.keys() == {"loss", "loss_kpt", "loss_cd", "loss_ed"}
        assert min(step.values()) > 0
        assert step["loss"] == pytest.approx(step["loss_kpt"] + step["loss_cd"] + step["loss_ed"], rel=1e-5)
    assert re.search(r"loss: \S+  loss_kpt: \S+  loss_cd: \S+  loss_ed: \S+", (com / "output.txt").read_text())


# -- testing and inference ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def without_source(options) -> dict[str, Any]:
    """The options of a machine that does not have the source's weights."""
    return {**options, "model.backbone.init_cfg.checkpoint": "gone.safetensors"}


@pytest.fixture(scope="session")
def predicted(shared, com, tool_command, process, config_path, without_source) -> dict[str, Any]:
    """The output of tools/test.py for the CTD checkpoint."""

    def make(folder: Path) -> None:
        arguments = [config_path("ctd-com"), str(com / "epoch_2.pth"), "--work-dir", str(folder)]
        own = {"test_evaluator.outfile": folder / "predictions.json", "test_evaluator.success_at": "[2.5,5]"}
        options = {**without_source, **own}
        result = process(tool_command("test", arguments, options), folder)
        (folder / "output.txt").write_text(result.stdout + result.stderr)
        assert result.returncode == 0, result.stderr[-3000:]

    folder = shared("tested", make)
    return {**json.loads((folder / "predictions.json").read_text()), "output": (folder / "output.txt").read_text()}


def test_testing_without_the_source(predicted, landmarks):
    annotations = json.loads((landmarks / "test.json").read_text())["annotations"]
    truth = np.array([np.reshape(a["keypoints"], (-1, 3))[:, :2] for a in annotations])
    found = np.array([image["predicted"] for image in predicted["images"]])
    errors = np.linalg.norm(found - truth, axis=2).mean(axis=1) / 4
    np.testing.assert_allclose([image["error"] for image in predicted["images"]], errors, rtol=1e-5)
    assert f"landmark/ME: {errors.mean():.6f}" in predicted["output"]
    for distance in (2.5, 5):
        share = (np.linalg.norm(found - truth, axis=2) / 4 <= distance).mean()
        assert f"landmark/SDR@{distance:g}: {100 * share:.6f}" in predicted["output"]


def test_inference_without_the_source(com, predicted, tiny_config):
    from mmpose.apis import inference_topdown, init_model

    gone = {"model.backbone.init_cfg.checkpoint": "gone.safetensors"}
    model = init_model(tiny_config(gone), str(com / "epoch_2.pth"), device="cpu")
    for image in predicted["images"]:
        points = inference_topdown(model, image["image"])[0].pred_instances.keypoints
        np.testing.assert_allclose(points[0], image["predicted"], atol=1e-3)


def test_inference_as_the_page_has_it(com, predicted, tiny_config):
    _, block, _ = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    image = predicted["images"][0]
    given = {"config": tiny_config({}), "checkpoint": str(com / "epoch_2.pth"), "image": image["image"]}
    exec(compile(block, "docs/mmpose.md", "exec"), given)
    np.testing.assert_allclose(given["points"][0], image["predicted"], atol=1e-3)


PLAIN = """
custom_imports = dict(imports=['xtask_reg.integrations.mmpose_compat'])
default_scope = 'mmpose'
model = dict(
    type='TopdownPoseEstimator',
    data_preprocessor=dict(
        type='PoseDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(type='ResNet', depth=18, base_channels=8),
    head=dict(type='HeatmapHead', in_channels=64, out_channels=14, deconv_out_channels=(8, 8, 8),
              loss=dict(type='KeypointMSELoss'),
              decoder=dict(type='MSRAHeatmap', input_size=(64, 64), heatmap_size=(16, 16), sigma=2)),
    test_cfg=dict(flip_test=False))
test_dataloader = dict(dataset=dict(type='CocoDataset', pipeline=[
    dict(type='LoadImage'), dict(type='GetBBoxCenterScale', padding=1.0),
    dict(type='TopdownAffine', input_size=(64, 64)), dict(type='PackPoseInputs')]))
train_dataloader = test_dataloader
"""


def test_checkpoint_in_a_plain_mmpose_config(tmp_path, com, predicted, process):
    """The same points; MMPose's decoder moves them by at most a quarter of a cell (4 px)."""
    (tmp_path / "plain.py").write_text(PLAIN)
    script = Path(__file__).parent / "plugins" / "plain_predict.py"
    image = predicted["images"][0]
    result = process([sys.executable, str(script), "plain.py", str(com / "epoch_2.pth"), image["image"]], tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    facts = json.loads(result.stdout.split("RESULT")[1])
    assert facts["model"] == "TopdownPoseEstimator"
    assert facts["keys"] == "<All keys matched successfully>"
    assert not facts["registered"]
    np.testing.assert_allclose(facts["points"][0], image["predicted"], atol=1.001)


# -- distributed -------------------------------------------------------------------------------------------------------


def test_distributed_training(shared, tool_command, process, config_path, options):
    """Two processes: none has an unused parameter, and both end with the same student and the same connectors."""

    def make(folder: Path) -> None:
        config = folder / "distributed.py"
        plugins = ["xtask_reg.integrations.mmpose", "probe"]
        config.write_text(f"_base_ = [{config_path('ctd-com')!r}]\ncustom_imports = dict(imports={plugins})\n")
        extra = {"env_cfg.dist_cfg.backend": "gloo", "model_wrapper_cfg.device_ids": None,
                 "train_cfg.max_epochs": 1, "train_dataloader.batch_size": 2,
                 "default_hooks.probe.type": "Probe", "default_hooks.probe.out": folder / "probe.pt"}  # fmt: skip
        arguments = [str(config), "--work-dir", str(folder), "--launcher", "pytorch"]
        _, *command = tool_command("train", arguments, {**options, **extra})
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        result = process([*torchrun, str(Path(__file__).parent / "plugins" / "on_cpu.py"), *command], folder)
        assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]

    folder = shared("distributed", make)
    first, second = (torch.load(folder / name, weights_only=True) for name in ("probe.pt", "probe.pt.rank1"))
    assert first["inputs"] != second["inputs"]
    assert_same(first["last_connectors"], second["last_connectors"])
    assert_same(checkpoint(folder, 1)["xtask_reg"], first["last_connectors"])
    assert not torch.equal(
        *(first[key]["terms.loss_cd.student_connector.fc.weight"] for key in ("connectors", "last_connectors"))
    )
    assert first["before"] == first["after"] == second["after"]
