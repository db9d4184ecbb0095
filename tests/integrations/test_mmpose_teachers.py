"""Several teachers in one config: their weights, taps, connectors and checkpoints."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.runner import Runner
from mmpose.registry import MODELS
from torch import nn

from xtask_reg.sources import load_weights, save_weights

CLASSES = 6
TERMS = [
    dict(name="loss_faces", loss=dict(type="CosineAlignmentLoss"), student="backbone.layer4", weight=0.5,
         teacher="faces.backbone.layer4"),
    dict(name="loss_logits", loss=dict(type="SoftmaxL2Loss"), student="backbone.layer4", weight=2.0,
         teacher="things.classifier", student_connector=dict(type="RetainedClassifier")),
    dict(name="loss_random", loss=dict(type="GramAnchoringLoss"), student="backbone.layer4", weight=0.1,
         teacher="other.backbone.layer4"),
]  # fmt: skip


@pytest.fixture
def things(source, tmp_path) -> Path:
    """A second source of the same architecture, with a classifier of its own, stored under a prefix."""
    torch.manual_seed(5)
    encoder = {k: v + 0.01 if v.is_floating_point() else v for k, v in load_weights(source).items() if "fc." not in k}
    classifier = nn.Linear(64, CLASSES)
    weights = {**encoder, "fc.weight": classifier.weight, "fc.bias": classifier.bias}
    path = tmp_path / "things.safetensors"
    save_weights({f"net.{key}": value.detach() for key, value in weights.items()}, path)
    return path


@pytest.fixture
def teachers(encoder, things) -> dict[str, Any]:
    """The student's source, another one with a classifier, and an untrained network of another size."""
    return dict(
        faces=dict(type="FrozenTeacher"),
        things=dict(type="FrozenTeacher", checkpoint=str(things), prefix="net.",
                    classifier=dict(in_channels=64, num_classes=CLASSES)),
        other=dict(type="FrozenTeacher", backbone={**encoder, "base_channels": 4}, checkpoint="random"),
    )  # fmt: skip


@pytest.fixture
def model(model_config, teachers) -> nn.Module:
    model = MODELS.build({**model_config, "teacher": teachers, "terms": TERMS})
    model.init_weights()
    model.train()
    return model


def test_each_has_its_weights_and_the_retained_classifier_is_that_of_its_teacher(model, source, things):
    networks = model.regularizer.teacher.network
    assert sorted(networks) == ["faces", "other", "things"]
    weights = load_weights(things)
    for key, value in networks["things"].backbone.state_dict().items():
        assert torch.equal(value, weights[f"net.{key}"]), key
    for key, value in networks["faces"].backbone.state_dict().items():
        assert torch.equal(value, load_weights(source)[key]), key
    assert networks["other"].backbone.layer1[0].conv1.weight.shape == (4, 64, 3, 3)
    connector = model.regularizer.terms["loss_logits"].student_connector
    for kind in ("weight", "bias"):
        assert torch.equal(getattr(connector.fc, kind), weights[f"net.fc.{kind}"])
    assert not any(module.training for network in networks.values() for module in network.modules())
    assert {name for name, _ in model.named_parameters() if "regularizer" in name} == {
        f"regularizer.terms.loss_logits.student_connector.fc.{kind}" for kind in ("weight", "bias")
    }


def test_losses_are_those_of_the_teachers_named(model, first_batch):
    data = model.data_preprocessor(copy.deepcopy(first_batch), training=True)
    networks = model.regularizer.teacher.network
    with torch.no_grad():
        student = copy.deepcopy(model.backbone)(data["inputs"])[-1]
        outputs = {name: network.backbone(data["inputs"])[-1] for name, network in networks.items()}
        fc = networks["things"].classifier.fc
        logits = [F.linear(each.mean((2, 3)), fc.weight, fc.bias) / 2 for each in (student, outputs["things"])]
    cosine = F.cosine_similarity(student.flatten(1), outputs["faces"].flatten(1)).mean().item()
    squares = (logits[0].softmax(1) - logits[1].softmax(1)).square().sum(1).mean().item()
    grams = []
    for features in (student, outputs["other"]):
        cells = F.normalize(features.flatten(2).double(), dim=1)
        grams.append(cells.transpose(1, 2) @ cells)
    found = model(**data, mode="loss")
    assert found["loss_faces"].item() == pytest.approx(0.5 * (1 - cosine), rel=1e-4)
    assert found["loss_logits"].item() == pytest.approx(2 * squares, rel=1e-3)
    assert found["loss_random"].item() == pytest.approx(0.1 * (grams[0] - grams[1]).square().mean().item(), rel=1e-3)


def test_a_teacher_that_no_term_names_does_not_run(model_config, teachers, first_batch):
    model = MODELS.build({**model_config, "teacher": teachers, "terms": TERMS[:1]})
    model.init_weights()
    calls: list[str] = []
    for name, network in model.regularizer.teacher.network.items():
        network.register_forward_hook(lambda *call, name=name: calls.append(name))
    model(**model.data_preprocessor(copy.deepcopy(first_batch), training=True), mode="loss")
    assert calls == ["faces"]


@pytest.fixture
def config(tiny_config, teachers, source, tmp_path) -> Config:
    """The tiny config with these teachers; the student starts from a file that can be deleted."""
    shutil.copy(source, tmp_path / "start.safetensors")
    config = tiny_config({"train_cfg.max_epochs": 1, "model.monitor": None})
    config.model.backbone.init_cfg.checkpoint = str(tmp_path / "start.safetensors")
    config.model.teacher, config.model.terms = teachers, TERMS
    return config


def test_run_and_test_without_the_files(watch, config, things, tmp_path):
    """Training changes the student alone; its checkpoint is the plain estimator's, and needs no source again."""
    _, seen = watch.run(config)
    assert watch.changed(seen.start, seen.end) == {"backbone", "head", "connectors"}
    assert set(seen.losses[0]) == {"loss", "loss_kpt", "loss_faces", "loss_logits", "loss_random"}
    content = torch.load(tmp_path / "epoch_1.pth", weights_only=True)
    plain = {key: value for key, value in config.model.items() if key not in ("teacher", "terms", "monitor")}
    other = MODELS.build({**plain, "type": "TopdownPoseEstimator"})
    assert list(content["state_dict"]) == list(other.state_dict())
    other.load_state_dict(content["state_dict"], strict=True)
    assert set(content["xtask_reg"]) == {
        f"terms.loss_logits.student_connector.fc.{kind}" for kind in ("weight", "bias")
    }
    for path in (things, tmp_path / "start.safetensors"):
        path.unlink()
    again = Config(config.to_dict())
    again.load_from, again.experiment_name = str(tmp_path / "epoch_1.pth"), "again"
    metrics = Runner.from_cfg(again).test()
    assert metrics["landmark/ME"] > 0
    with pytest.raises(FileNotFoundError, match=r"things\.safetensors|start\.safetensors"):
        MODELS.build(config.model).init_weights()


def test_resumed_connectors_are_those_of_the_run(watch, config, tmp_path):
    runner, _ = watch.run(config)
    trained = {key: value.clone() for key, value in runner.model.regularizer.state_dict().items()}
    again = Config(config.to_dict())
    again.update(resume=True, load_from=str(tmp_path / "epoch_1.pth"), experiment_name="again")
    again.train_cfg.max_epochs = 2
    _, seen = watch.run(again)
    assert len(seen.losses) == 2
    torch.testing.assert_close(watch.part(seen.start, "connectors"), trained, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("teacher", "match"),
    [
        ("backbone.layer4", "'backbone.layer4' in ModuleDict; the nearest are .*'faces.backbone.layer4'"),
        ("nobody.backbone.layer4", "no submodule 'nobody.backbone.layer4'"),
        ("faces", "'faces' is a whole teacher; expected a submodule of it"),
        ("faces.classifier", "no submodule 'faces.classifier'"),
    ],
)
def test_bad_path(model_config, teachers, teacher, match):
    terms = [{**TERMS[0], "teacher": teacher}]
    with pytest.raises(ValueError, match=match):
        MODELS.build({**model_config, "teacher": teachers, "terms": terms})


@pytest.mark.parametrize("names", [{}, {"a.b": dict(type="FrozenTeacher")}, {"keys": dict(type="FrozenTeacher")}])
def test_bad_names(model_config, names):
    with pytest.raises(ValueError, match="teachers named .*; expected at least one, and non-empty names without dots"):
        MODELS.build({**model_config, "teacher": names})
