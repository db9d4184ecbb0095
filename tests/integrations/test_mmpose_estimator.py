"""The estimator and its teacher: what they build, compute and refuse."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmpose.registry import MODELS
from mmpose.structures import PoseDataSample
from same_tensors import assert_same
from torch import nn

from xtask_reg.sources import load_weights


def plain(config: dict[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in config.items() if key not in ("teacher", "terms")}
    return {**rest, "type": "TopdownPoseEstimator"}


def batch(landmarks: Any) -> dict[str, Any]:
    from mmengine.dataset import pseudo_collate
    from mmpose.registry import DATASETS

    target = dict(type="GenerateTarget", encoder=dict(type="ExactHeatmap"))
    pipeline = [dict(type="LoadImage"), dict(type="GetBBoxCenterScale", padding=1.0),
                dict(type="TopdownAffine", input_size=(64, 64)), target, dict(type="PackPoseInputs")]  # fmt: skip
    data = DATASETS.build(
        dict(type="LandmarkDataset", data_root=str(landmarks), ann_file="train.json", pipeline=pipeline)
    )
    return pseudo_collate([data[0], data[1]])


def losses(model: nn.Module, data: dict[str, Any]) -> dict[str, torch.Tensor]:
    return model(**model.data_preprocessor(copy.deepcopy(data), training=True), mode="loss")


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"student": "backbone.layer5"}, ValueError, "no submodule 'backbone.layer5'.*'backbone.layer4'"),
        ({"teacher": "clasifier"}, ValueError, "no submodule 'clasifier'.*'classifier'"),
        ({"weight": -0.1}, ValueError, "'loss_ed' has weight -0.1"),
        ({"weight": float("nan")}, ValueError, "weight nan"),
        ({"name": "ed"}, ValueError, "'ed' must contain 'loss'"),
        ({"name": "loss.ed"}, ValueError, "without dots"),
        ({"name": "loss_cd"}, ValueError, "not unique"),
        ({"loss": dict(type="SoftmaxL2Loss", temperature=0)}, ValueError, "temperature=0"),
        ({"loss": dict(type="SoftmaxL2Loss", temperature=-1)}, ValueError, "temperature=-1"),
        ({"loss": dict(type="CosineAlignmentLoss", over="all")}, ValueError, "over='all'"),
        ({"loss": dict(type="NoSuchLoss")}, KeyError, "NoSuchLoss"),
        ({"temperature": 2}, TypeError, "temperature"),
        ({"student_connector": dict(type="RetainedClassifier")}, TypeError, "expected an nn.Linear or a 1x1 nn.Conv2d"),
        (
            {"teacher_connector": dict(type="RetainedClassifier")},
            ValueError,
            "RetainedClassifier is for the student only",
        ),
    ],
)
def test_bad_term(model_config, changes, error, match):
    model_config["terms"][1].update(changes)
    with pytest.raises(error, match=match):
        MODELS.build(model_config)


@pytest.mark.parametrize("field", ["name", "loss", "student", "weight"])
def test_term_that_lacks_a_field(model_config, field):
    del model_config["terms"][1][field]
    with pytest.raises(ValueError, match=rf"lacks \['{field}'\]"):
        MODELS.build(model_config)


def test_loss_that_compares_lacks_a_teacher_path(model_config):
    del model_config["terms"][1]["teacher"]
    with pytest.raises(ValueError, match="'loss_ed' lacks a teacher's path: CosineAlignmentLoss compares student and"):
        MODELS.build(model_config)


def test_terms_without_teacher(model_config):
    del model_config["teacher"]
    with pytest.raises(ValueError, match=r"terms \['loss_cd', 'loss_ed'\] need a teacher"):
        MODELS.build(model_config)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_without_weight_no_teacher_is_built(model_config, landmarks, count):
    terms = [{**term, "weight": 0} for term in model_config["terms"][:count]]
    model = MODELS.build({**model_config, "teacher": dict(type="NoSuchTeacher"), "terms": terms})
    model.init_weights()
    assert model.regularizer is None
    assert losses(model, batch(landmarks)).keys() == {"loss_kpt"}


def test_keys_are_those_of_the_plain_estimator(model_config):
    model, other = MODELS.build(model_config), MODELS.build(plain(model_config))
    assert list(model.state_dict()) == list(other.state_dict())
    model.init_weights()
    other.load_state_dict(model.state_dict(), strict=True)
    fresh = MODELS.build(model_config)
    connectors = copy.deepcopy(fresh.regularizer.state_dict())
    fresh.load_state_dict(other.state_dict(), strict=True)
    assert_same(fresh.state_dict(), model.state_dict())
    assert_same(fresh.regularizer.state_dict(), connectors)
    names = {name for name, _ in model.named_parameters()} - {name for name, _ in other.named_parameters()}
    assert names == {f"regularizer.terms.loss_cd.student_connector.fc.{kind}" for kind in ("weight", "bias")}


def test_building_leaves_the_random_state_alone(model_config):
    def numbers(which: dict[str, Any]) -> Any:
        torch.manual_seed(3), np.random.seed(3), random.seed(3)
        model = MODELS.build(which)
        model.init_weights()
        return torch.rand(3).tolist(), np.random.rand(), random.random(), model.state_dict()

    *drawn, state = numbers(model_config)
    *drawn_plain, state_plain = numbers(plain(model_config))
    assert drawn == drawn_plain
    assert_same(state, state_plain)


def test_weights_after_init(model_config, source):
    """Teacher, student and retained classifier have the file's weights; a second init changes nothing."""
    weights = load_weights(source)
    model = MODELS.build(model_config)
    for _ in range(2):
        model.init_weights()
        network = model.regularizer.teacher.network
        assert_same({**network.backbone.state_dict(), **network.classifier.state_dict()}, weights)
        connector = model.regularizer.terms["loss_cd"].student_connector
        assert_same({**model.backbone.state_dict(), **connector.state_dict()}, weights)
    assert not any(module.training for module in network.modules())
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in network.parameters()}


def test_loss_before_the_weights_were_read(model_config, landmarks):
    with pytest.raises(RuntimeError, match=r"weights were not read.*init_weights"):
        losses(MODELS.build(model_config), batch(landmarks))


def test_random_teacher_needs_no_file(model_config, landmarks):
    model_config["teacher"]["checkpoint"] = "random"
    model = MODELS.build(model_config)
    model.init_weights()
    assert losses(model, batch(landmarks)).keys() == {"loss_kpt", "loss_cd", "loss_ed"}


def test_terms_are_the_weighted_losses_of_the_taps(model_config, landmarks):
    """Both written out from the features of student and teacher, the classifier applied to pooled features."""
    model = MODELS.build(model_config).train()
    model.init_weights()
    with torch.no_grad():
        model.regularizer.terms["loss_cd"].student_connector.fc.bias += torch.arange(10.0)
    data = batch(landmarks)
    network, connector = model.regularizer.teacher.network, model.regularizer.terms["loss_cd"].student_connector.fc
    images = model.data_preprocessor(copy.deepcopy(data), training=True)["inputs"]
    with torch.no_grad():
        student = copy.deepcopy(model.backbone)(images)[-1]
        teacher = network.backbone(images)[-1]
        logits = connector(student.mean((2, 3))), network.classifier.fc(teacher.mean((2, 3)))
    s, t = student.flatten(1).numpy().astype(float), teacher.flatten(1).numpy().astype(float)
    cosines = (s * t).sum(1) / np.sqrt((s * s).sum(1) * (t * t).sum(1))
    p, q = (np.exp(z.numpy() / 2) / np.exp(z.numpy() / 2).sum(1, keepdims=True) for z in logits)
    found = losses(model, data)
    assert found["loss_ed"].item() == pytest.approx(0.5 * (1 - cosines.mean()), rel=1e-4)
    assert found["loss_cd"].item() == pytest.approx(2.0 * ((p - q) ** 2).sum(1).mean(), rel=1e-4)


@pytest.mark.parametrize("norm_eval", [True, False])
def test_ed_at_the_very_start(model_config, landmarks, norm_eval):
    """Equal weights do not make the student equal to the source, as docs/paper.md says."""
    model_config["backbone"]["norm_eval"] = norm_eval
    model = MODELS.build(model_config).train()
    model.init_weights()
    at_start = losses(model, batch(landmarks))["loss_ed"].item()
    assert at_start == pytest.approx(0, abs=1e-6) if norm_eval else at_start > 1e-3
    page = (Path(__file__).parents[2] / "docs/paper.md").read_text()
    assert "but L_ED is 0 only with `model.backbone.norm_eval=True`" in " ".join(page.split())


@pytest.mark.parametrize("conversion", [dict(bgr_to_rgb=True), dict(rgb_to_bgr=True), {}])
@pytest.mark.parametrize("normalize", [True, False])
def test_teacher_gets_its_own_input_convention(model_config, conversion, normalize):
    """From pixels as they are read (BGR) to what an RGB network with its own mean expects."""
    normal = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]) if normalize else {}
    model_config["data_preprocessor"] = dict(type="PoseDataPreprocessor", **normal, **conversion)
    mean = [131.0912, 103.8827, 91.4953]
    model_config["teacher"]["input"] = dict(mean=mean, std=[1, 2, 4], value_range=255)
    model = MODELS.build(model_config)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8)).astype(np.float32)
    samples = [PoseDataSample(), PoseDataSample()]
    inputs = model.data_preprocessor({"inputs": [torch.from_numpy(p) for p in pixels], "data_samples": samples})
    expected = (pixels[:, ::-1] - np.reshape(mean, (3, 1, 1))) / np.reshape([1, 2, 4], (3, 1, 1))
    np.testing.assert_allclose(model.regularizer.teacher.adapter(inputs["inputs"]).numpy(), expected, atol=1e-3)


def test_input_convention_without_data_preprocessor(model_config):
    model_config["data_preprocessor"] = None
    model_config["teacher"]["input"] = dict(mean=[0, 0, 0], std=[1, 1, 1], value_range=1)
    pixels = torch.rand(1, 3, 8, 8) * 255
    adapted = MODELS.build(model_config).regularizer.teacher.adapter(pixels)
    torch.testing.assert_close(adapted, pixels.flip(1) / 255)


ENCODER = "train_dataloader.dataset.pipeline.5.encoder.stride"
BACKWARDS = [*range(13, -1, -1)]


def subset(split: str) -> dict[str, Any]:
    return {f"{split}_dataloader.dataset.subset": [0, 1]}


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"model.head.out_channels": 13}, ValueError, "training set has 14 landmarks.*13 heatmaps.*out_channels=14"),
        ({**subset("train"), **subset("val")}, ValueError, "training set has 2 landmarks, the head.*out_channels=2"),
        (subset("val"), ValueError, "validation set has 2 landmarks; there are 14 in the training set: .*same dataset"),
        (subset("train"), ValueError, "validation set has 14 landmarks; there are 2 in the training set"),
        ({"val_dataloader.dataset.subset": BACKWARDS}, ValueError, "validation set has the landmarks in another order"),
        ({ENCODER: 8}, ValueError, rf"{ENCODER}=8 and model.head.decoder.stride=4: make them equal"),
        ({"model.teacher.checkpoint": "gone.safetensors"}, FileNotFoundError, "gone.safetensors"),
        ({"model.backbone.init_cfg.checkpoint": "gone.pth"}, FileNotFoundError, "gone.pth"),
        ({"train_dataloader.dataset.ann_file": "gone.json"}, FileNotFoundError, "gone.json"),
        ({"val_dataloader.dataset.ann_file": "gone.json"}, FileNotFoundError, "gone.json"),
    ],
)
def test_runner_refuses_before_the_first_step(tiny_runner, changes, error, match):
    runner = tiny_runner(changes)
    with pytest.raises(error, match=match):
        runner.train()
    assert getattr(runner._train_loop, "iter", 0) == 0


@pytest.fixture
def checkpoint(tiny_runner, tmp_path) -> Path:
    """As MMEngine writes it, of a network that is not trained."""
    model = tiny_runner({}).model
    dataset = tiny_runner({}).test_dataloader.dataset
    torch.save({"state_dict": model.state_dict(), "meta": {"dataset_meta": dataset.metainfo}}, tmp_path / "c.pth")
    return tmp_path / "c.pth"


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (subset("test"), "test set has 2 landmarks; there are 14 in the training of this network: .*dataset.subset"),
        ({"test_dataloader.dataset.subset": BACKWARDS}, "landmarks in another order: landmark 0 is .*; it is "),
        ({"model.head.decoder.stride": 8}, rf"{ENCODER}=4 and model.head.decoder.stride=8"),
    ],
)
def test_testing_refuses_what_training_did_not_have(tiny_runner, checkpoint, changes, match):
    with pytest.raises(ValueError, match=match):
        tiny_runner({"load_from": str(checkpoint), **changes}).test()


def test_testing_refuses_a_number_of_landmarks_that_is_not_the_heads(tiny_runner):
    with pytest.raises(ValueError, match=r"test set has 2 landmarks.*14 heatmaps"):
        tiny_runner(subset("test")).test()


def test_what_trained_last_is_what_testing_must_have(tiny_runner, checkpoint):
    """It is not the training from which the weights started."""
    backwards = {f"{split}_dataloader.dataset.subset": BACKWARDS for split in ("train", "val", "test")}
    runner = tiny_runner({"load_from": str(checkpoint), "train_cfg.max_epochs": 1, **backwards})
    runner.train()
    assert runner.test()


def test_a_heatmap_pixel_is_what_the_codec_makes_it(tiny_runner):
    evaluators = [dict(type="LandmarkMetric"), dict(type="LandmarkMetric", space="input", prefix="input")]
    changes = {ENCODER: 8, "model.head.decoder.stride": 8, "val_evaluator": evaluators}
    smaller = {"model.head.deconv_out_channels": (8, 8), "model.head.deconv_kernel_sizes": (4, 4)}
    scores = tiny_runner({**changes, **smaller, "default_hooks.checkpoint": None}).val()
    assert scores["input/ME"] == pytest.approx(8 * scores["landmark/ME"], rel=1e-4)
