"""Backbones, source weights, the teacher and the estimator: what they build, and what they refuse."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmpose.registry import MODELS
from torch import nn

from xtask_reg.sources import load_weights, save_weights

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
ED = dict(
    name="loss_ed", loss=dict(type="CosineAlignmentLoss"), student="backbone.layer4", teacher="backbone.layer4", weight=0.5
)
CD = dict(
    name="loss_cd", loss=dict(type="SoftmaxL2Loss"), student="backbone.layer4", teacher="classifier", weight=2.0,
    student_connector=dict(type="RetainedClassifier"),
)  # fmt: skip


@pytest.fixture
def config(encoder, source) -> dict[str, Any]:
    """A tiny CTD-Com model."""
    return dict(
        type="CrossTaskTopdownPoseEstimator",
        data_preprocessor=dict(type="PoseDataPreprocessor", mean=MEAN, std=STD, bgr_to_rgb=True),
        backbone={**encoder, "init_cfg": dict(type="SourceWeights", checkpoint=str(source))},
        head=dict(type="HeatmapHead", in_channels=64, out_channels=14, deconv_out_channels=(8, 8, 8),
                  loss=dict(type="KeypointMSELoss", use_target_weight=True), decoder=dict(type="ExactHeatmap")),
        train_cfg=dict(compute_acc=False),
        teacher=dict(type="FrozenTeacher", backbone=encoder, classifier=dict(in_channels=64, num_classes=10),
                     checkpoint=str(source)),
        terms=[CD, ED],
    )  # fmt: skip


def plain(config: dict[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in config.items() if key not in ("teacher", "terms")}
    return {**rest, "type": "TopdownPoseEstimator"}


def equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


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


# -- backbones ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "shapes"),
    [
        (dict(module="timm/resnet10t"), [(64, 32), (64, 16), (128, 8), (256, 4), (512, 2)]),
        (dict(module="timm/resnet10t", kwargs=dict(out_indices=(4,))), [(512, 2)]),
        (dict(module="timm/resnet10t.c3_in1k", kwargs=dict(out_indices=(3, 4))), [(256, 4), (512, 2)]),
        (dict(module="xtask_reg.sources:dlib_resnet29_dense"), [(256, 2)]),
        (dict(module="torch.nn:Conv2d", kwargs=dict(in_channels=3, out_channels=5, kernel_size=1)), [(5, 64)]),
    ],
)
def test_module_backbone(arguments, shapes):
    backbone = MODELS.build(dict(type="ModuleBackbone", **arguments)).eval()
    outputs = backbone(torch.zeros(1, 3, 64, 64))
    assert isinstance(outputs, tuple)
    assert [(out.shape[1], out.shape[2]) for out in outputs] == shapes


@pytest.mark.parametrize(
    ("module", "match"),
    [
        ("timm/resnet11", "timm has no model 'resnet11'.*resnet"),
        ("resnet18", "expected 'timm/<model name>' or 'package.module:function'"),
        ("timm/", "timm has no model"),
        ("no_such_package:make", "cannot be imported.*no_such_package"),
        ("torch.nn:NoSuchLayer", "cannot be imported.*NoSuchLayer"),
        ("torch.nn:", "expected 'timm/"),
    ],
)
def test_unknown_module(module, match):
    with pytest.raises(ValueError, match=match):
        MODELS.build(dict(type="ModuleBackbone", module=module))


# -- source weights ----------------------------------------------------------------------------------------------------

SELF_INITIALIZING = {
    "ResNet": dict(type="ResNet", depth=18, base_channels=8),  # zeroes the last norm of each block
    "ShuffleNetV2": dict(type="ShuffleNetV2"),  # initializes everything itself
    "MobileNetV2": dict(type="MobileNetV2"),  # has children that initialize themselves
    "timm": dict(type="ModuleBackbone", module="timm.models:vit_tiny_patch16_224"),  # has a method init_weights
}


@pytest.mark.parametrize("backbone", SELF_INITIALIZING)
def test_backbone_starts_as_the_source_whatever_it_does_itself(tmp_path, config, backbone):
    reference = MODELS.build(SELF_INITIALIZING[backbone])
    network = getattr(reference, "net", reference)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(-1, 1)
    save_weights(network.state_dict(), tmp_path / "w.safetensors")
    initial = dict(type="SourceWeights", checkpoint=str(tmp_path / "w.safetensors"))
    model = MODELS.build({**config, "backbone": {**SELF_INITIALIZING[backbone], "init_cfg": initial}, "terms": []})
    model.init_weights()
    assert equal(model.backbone.state_dict(), reference.state_dict())


def test_prefix_and_ignored_keys(tmp_path, encoder, source):
    weights = load_weights(source)
    renamed = {f"model.{key.replace('fc.', 'head.')}": value for key, value in weights.items()}
    torch.save({"state_dict": renamed}, tmp_path / "w.pth")
    initial = dict(type="SourceWeights", checkpoint=str(tmp_path / "w.pth"), prefix="model.", ignore=["head."])
    backbone = MODELS.build({**encoder, "init_cfg": initial})
    backbone.init_weights()
    assert equal(backbone.state_dict(), {key: value for key, value in weights.items() if not key.startswith("fc.")})


def damaged(source: Any, folder: Any, damage: str) -> str:
    weights = load_weights(source)
    path = folder / "damaged.safetensors"
    if damage == "no file":
        return str(path)
    if damage == "text":
        path.write_text("version https://git-lfs.github.com/spec/v1")
        return str(path)
    if damage == "missing":
        del weights["layer4.1.conv2.weight"]
    if damage == "extra":
        weights["layer5.weight"] = torch.zeros(3)
    if damage == "shape":
        weights["layer4.1.conv2.weight"] = torch.zeros(64, 64, 1, 1)
    save_weights(weights, path)
    return str(path)


DAMAGES = {
    "missing": (ValueError, "1 missing: layer4.1.conv2.weight"),
    "extra": (ValueError, r"1 extra .*layer5.weight"),
    "shape": (ValueError, r"layer4.1.conv2.weight: \(64, 64, 3, 3\) in the module, \(64, 64, 1, 1\) in the file"),
    "no file": (FileNotFoundError, "there is no file"),
    "text": (ValueError, "cannot be read"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("place", ["student", "teacher"])
def test_damaged_source(tmp_path, config, source, damage, place):
    """The constructor does not look at the file, ``init_weights`` refuses it."""
    path = damaged(source, tmp_path, damage)
    (config["backbone"]["init_cfg"] if place == "student" else config["teacher"])["checkpoint"] = path
    model = MODELS.build(config)
    error, match = DAMAGES[damage]
    with pytest.raises(error, match=match) as caught:
        model.init_weights()
    assert path in str(caught.value)


@pytest.mark.parametrize("fault", ["number of classes", "no classifier in the file"])
def test_classifier_that_does_not_fit(tmp_path, config, source, fault):
    if fault == "number of classes":
        config["teacher"]["classifier"]["num_classes"] = 11
    else:
        encoder = {key: value for key, value in load_weights(source).items() if not key.startswith("fc.")}
        save_weights(encoder, tmp_path / "w.safetensors")
        config["teacher"]["checkpoint"] = str(tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"\(prefix 'fc.'\) does not fit"):
        MODELS.build(config).init_weights()


# -- the estimator -----------------------------------------------------------------------------------------------------


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
        ({"teacher_connector": dict(type="RetainedClassifier")}, ValueError, "RetainedClassifier is the student's"),
    ],
)
def test_bad_term(config, changes, error, match):
    config["terms"] = [CD, {**ED, **changes}]
    with pytest.raises(error, match=match):
        MODELS.build(config)


@pytest.mark.parametrize("field", ["name", "loss", "student", "teacher", "weight"])
def test_term_that_lacks_a_field(config, field):
    config["terms"] = [{key: value for key, value in ED.items() if key != field}]
    with pytest.raises(ValueError, match=rf"lacks \['{field}'\]"):
        MODELS.build(config)


def test_terms_without_teacher(config):
    del config["teacher"]
    with pytest.raises(ValueError, match=r"terms \['loss_cd', 'loss_ed'\] need a teacher"):
        MODELS.build(config)


def test_term_may_not_take_the_name_of_a_loss_of_the_head(config, landmarks):
    model = MODELS.build({**config, "terms": [{**ED, "name": "loss_kpt"}]})
    model.init_weights()
    with pytest.raises(ValueError, match="'loss_kpt'.* taken"):
        losses(model, batch(landmarks))


@pytest.mark.parametrize("terms", [[], [{**ED, "weight": 0}], [{**ED, "weight": 0.0}, {**CD, "weight": 0}]])
def test_without_weight_no_teacher_is_built(config, landmarks, terms):
    model = MODELS.build({**config, "teacher": dict(type="NoSuchTeacher"), "terms": terms})
    model.init_weights()
    assert model.regularizer is None
    assert losses(model, batch(landmarks)).keys() == {"loss_kpt"}


def test_keys_are_those_of_the_plain_estimator(config):
    model, other = MODELS.build(config), MODELS.build(plain(config))
    assert list(model.state_dict()) == list(other.state_dict())
    model.init_weights()
    other.load_state_dict(model.state_dict(), strict=True)
    fresh = MODELS.build(config)
    connectors = copy.deepcopy(fresh.regularizer.state_dict())
    fresh.load_state_dict(other.state_dict(), strict=True)
    assert equal(fresh.state_dict(), model.state_dict())
    assert equal(fresh.regularizer.state_dict(), connectors)
    names = {name for name, _ in model.named_parameters()} - {name for name, _ in other.named_parameters()}
    assert names == {f"regularizer.terms.loss_cd.student_connector.fc.{kind}" for kind in ("weight", "bias")}


def test_building_leaves_the_random_state_alone(config):
    def numbers(which: dict[str, Any]) -> Any:
        torch.manual_seed(3), np.random.seed(3), random.seed(3)
        model = MODELS.build(which)
        model.init_weights()
        return torch.rand(3).tolist(), np.random.rand(), random.random(), model.state_dict()

    *drawn, state = numbers(config)
    *drawn_plain, state_plain = numbers(plain(config))
    assert drawn == drawn_plain
    assert equal(state, state_plain)


def test_weights_after_init(config, source):
    """Teacher and student are the file; the retained classifier is its copy; a second init changes nothing of it."""
    weights = load_weights(source)
    model = MODELS.build(config)
    for _ in range(2):
        model.init_weights()
        network = model.regularizer.teacher.network
        assert equal({**network.backbone.state_dict(), **network.classifier.state_dict()}, weights)
        assert equal({**model.backbone.state_dict(), **model.regularizer.terms["loss_cd"].student_connector.state_dict()},
                     weights)  # fmt: skip
    assert not any(module.training for module in network.modules())
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in network.parameters()}


def test_loss_before_the_weights_were_read(config, landmarks):
    with pytest.raises(RuntimeError, match=r"weights were not read.*init_weights"):
        losses(MODELS.build(config), batch(landmarks))


def test_random_teacher_needs_no_file(config, landmarks):
    config["teacher"]["checkpoint"] = "random"
    model = MODELS.build(config)
    model.init_weights()
    assert losses(model, batch(landmarks)).keys() == {"loss_kpt", "loss_cd", "loss_ed"}


def test_terms_are_the_weighted_losses_of_the_taps(config, landmarks):
    """Both written out from the features of student and teacher, the classifier applied to pooled features."""
    model = MODELS.build(config).train()
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


@pytest.mark.parametrize("conversion", [dict(bgr_to_rgb=True), dict(rgb_to_bgr=True), {}])
@pytest.mark.parametrize("normalize", [True, False])
def test_teacher_gets_its_own_input_convention(config, conversion, normalize):
    """From pixels as they are read (BGR) to what an RGB network with its own mean expects, whatever the student's is."""
    normal = dict(mean=MEAN, std=STD) if normalize else {}
    config["data_preprocessor"] = dict(type="PoseDataPreprocessor", **normal, **conversion)
    mean = [131.0912, 103.8827, 91.4953]
    config["teacher"]["input"] = dict(mean=mean, std=[1, 2, 4], value_range=255)
    model = MODELS.build(config)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8)).astype(np.float32)
    inputs = model.data_preprocessor({"inputs": [torch.from_numpy(p) for p in pixels], "data_samples": [None] * 2})
    expected = (pixels[:, ::-1] - np.reshape(mean, (3, 1, 1))) / np.reshape([1, 2, 4], (3, 1, 1))
    np.testing.assert_allclose(model.regularizer.teacher.adapter(inputs["inputs"]).numpy(), expected, atol=1e-3)


def test_input_convention_without_data_preprocessor(config):
    config["data_preprocessor"] = None
    config["teacher"]["input"] = dict(mean=[0, 0, 0], std=[1, 1, 1], value_range=1)
    pixels = torch.rand(1, 3, 8, 8) * 255
    adapted = MODELS.build(config).regularizer.teacher.adapter(pixels)
    torch.testing.assert_close(adapted, pixels.flip(1) / 255)


# -- before training starts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"model.head.out_channels": 13}, ValueError, "training set has 14 landmarks.*13 heatmaps.*out_channels=14"),
        ({"val_dataloader.dataset.subset": [0, 1]}, ValueError, "validation set has 2 landmarks.*14 heatmaps"),
        ({"model.teacher.checkpoint": "gone.safetensors"}, FileNotFoundError, "gone.safetensors"),
        ({"model.backbone.init_cfg.checkpoint": "gone.pth"}, FileNotFoundError, "gone.pth"),
        ({"train_dataloader.dataset.ann_file": "gone.json"}, FileNotFoundError, "gone.json"),
        ({"val_dataloader.dataset.ann_file": "gone.json"}, FileNotFoundError, "gone.json"),
    ],
)
def test_runner_refuses_before_the_first_step(tmp_path, config_path, options, request, changes, error, match):
    config = Config.fromfile(config_path("ctd-com"))
    sizes = {key: [64, 64] if key.endswith("input_size") else value for key, value in options.items()}
    config.merge_from_dict({**{k: str(v) if "/" in str(v) else v for k, v in sizes.items()}, **changes})
    config.model.head.deconv_out_channels = (8, 8, 8)
    config.work_dir = str(tmp_path)
    config.experiment_name = f"refused_{abs(hash(request.node.name))}"
    runner = Runner.from_cfg(config)
    with pytest.raises(error, match=match):
        runner.train()
    assert runner.iter == 0
