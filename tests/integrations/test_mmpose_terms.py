"""Every loss, penalty and connector that the package exports, as a term of the estimator: one step of training each."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmpose.registry import MODELS
from torch import Tensor, nn

import xtask_reg
from xtask_reg.connectors import Projection, Resize, inverted_projection
from xtask_reg.sources import load_weights, save_weights

FEATURES = [
    "AttentionTransferLoss", "ChannelAttentionLoss", "ChannelWiseLoss", "CosineAlignmentLoss", "CosineSmoothL1Loss",
    "DELTALoss", "GramAnchoringLoss", "HintLoss", "LocalSimilarityLoss", "PearsonLoss", "RKDAngleLoss",
    "RKDDistanceLoss",
]  # fmt: skip
LOGITS = {"SoftmaxL2Loss": "SoftmaxL2Loss", "KDLoss": "LogitsKDLoss", "LwFLoss": "LwFLoss"}
"""Names in configs by names in the package: MMPose has its own KDLoss."""
ALONE, PENALTY = "BSSLoss", "L2SPPenalty"
RETAINED = dict(type="RetainedClassifier")
CONNECTORS = {
    "Projection": ("ChannelAttentionLoss", "layer3", "layer4",
                   dict(type="Projection", in_channels=32, out_channels=64), None),
    "Resize": ("GramAnchoringLoss", "layer3", "layer4", dict(type="Resize", size=2), None),
    "InvertedProjection": ("ChannelAttentionLoss", "layer3", "layer4", None,
                           dict(type="InvertedProjection", teacher_channels=64, student_channels=32)),
    "both": ("HintLoss", "layer3", "layer4", dict(type="Projection", in_channels=32, out_channels=64),
             dict(type="Resize", size=4)),
}  # fmt: skip
WEIGHT = 0.5


def test_everything_that_is_exported_is_here_and_registered():
    exported = {name for name in xtask_reg.__all__ if name.endswith(("Loss", "Penalty"))} - {"Penalty"}
    assert exported == {*FEATURES, *LOGITS, ALONE, PENALTY}
    for name in exported:
        assert MODELS.get(LOGITS.get(name, name)) is getattr(xtask_reg, name)
    assert MODELS.get("KDLoss").__module__.startswith("mmpose.")
    registered = {"Projection": Projection, "Resize": Resize, "InvertedProjection": inverted_projection}
    registered |= {"RetainedClassifier": xtask_reg.retained_classifier}
    for name in ("ChannelsFirst", "ChannelsLast", "Balanced", "CosineDecay", "LinearDecay", "Steps", "Warmup"):
        registered[name] = getattr(xtask_reg, name)
    assert {name: MODELS.get(name) for name in registered} == registered


def built(config: dict[str, Any], term: dict[str, Any]) -> nn.Module:
    model = MODELS.build({**config, "terms": [{"name": "loss_term", "weight": WEIGHT, **term}]})
    model.init_weights()
    return model.train() or model


def losses(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
    return model(**model.data_preprocessor(copy.deepcopy(batch), training=True), mode="loss")


def features(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """The stages of a ResNet, walked by hand in its present mode."""
    network, found = copy.deepcopy(network), {}
    output = network.maxpool(F.relu(network.bn1(network.conv1(images))))
    for number in range(1, 5):
        output = found[f"layer{number}"] = getattr(network, f"layer{number}")(output)
    return found


def student_and_teacher(model: nn.Module, batch: dict[str, Any]) -> list[dict[str, Tensor]]:
    images = model.data_preprocessor(copy.deepcopy(batch), training=True)["inputs"]
    with torch.no_grad():
        return [features(net, images) for net in (model.backbone, model.regularizer.teacher.network.backbone)]


def one_step(model: nn.Module, batch: dict[str, Any]) -> Tensor:
    """The term's weighted loss; checks that its gradient alone reaches the encoder, and that a step changes that."""
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    term = losses(model, batch)["loss_term"]
    (gradient,) = torch.autograd.grad(term, model.backbone.conv1.weight)
    assert gradient.isfinite().all()
    assert gradient.norm() > 0
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    sum(losses(model, batch).values()).backward()
    optimizer.step()
    for name, value in model.named_parameters():
        if name.startswith(("backbone.conv1", "regularizer")) and name.endswith("weight"):
            assert not torch.equal(value, before[name]), name
        assert value.isfinite().all()
    return term.detach()


@pytest.mark.parametrize("tap", ["layer4", "layer2"])
@pytest.mark.parametrize("kind", FEATURES)
def test_loss_of_features(model_config, first_batch, kind, tap):
    term = dict(loss=dict(type=kind), student=f"backbone.{tap}", teacher=f"backbone.{tap}")
    model = built(model_config, term)
    student, teacher = student_and_teacher(model, first_batch)
    expected = WEIGHT * getattr(xtask_reg, kind)()(student[tap], teacher[tap])
    assert expected > 0
    torch.testing.assert_close(one_step(model, first_batch), expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("kind", LOGITS)
def test_loss_of_logits(model_config, first_batch, source, kind):
    loss = dict(type=LOGITS[kind])
    model = built(
        model_config, dict(loss=loss, student="backbone.layer4", teacher="classifier", student_connector=RETAINED)
    )
    with torch.no_grad():
        model.regularizer.terms["loss_term"].student_connector.fc.bias += torch.arange(10.0) / 10
    weights, biases = load_weights(source)["fc.weight"], load_weights(source)["fc.bias"]
    pooled = [stages["layer4"].mean((2, 3)) for stages in student_and_teacher(model, first_batch)]
    logits = F.linear(pooled[0], weights, biases + torch.arange(10.0) / 10), F.linear(pooled[1], weights, biases)
    expected = WEIGHT * getattr(xtask_reg, kind)()(*logits)
    assert expected > 0
    torch.testing.assert_close(one_step(model, first_batch), expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", CONNECTORS)
def test_connectors(model_config, first_batch, name):
    kind, student, teacher, *configs = CONNECTORS[name]
    sides = dict(zip(("student_connector", "teacher_connector"), configs))
    term = dict(loss=dict(type=kind), student=f"backbone.{student}", teacher=f"backbone.{teacher}", **sides)
    model = built(model_config, term)
    own = model.regularizer.terms["loss_term"]
    stages = student_and_teacher(model, first_batch)
    with torch.no_grad():
        read = own.student_connector(stages[0][student]), own.teacher_connector(stages[1][teacher])
    expected = WEIGHT * getattr(xtask_reg, kind)()(*read)
    trains = [config for config in configs if config and "rojection" in config["type"]]
    assert bool(model.regularizer.state_dict()) is bool(trains)
    assert not [key for key in model.state_dict() if "regularizer" in key]
    torch.testing.assert_close(one_step(model, first_batch), expected, rtol=1e-3, atol=0)


def test_loss_of_the_student_alone(model_config, first_batch):
    """No teacher in the config at all."""
    del model_config["teacher"]
    model = built(model_config, dict(loss=dict(type=ALONE), student="backbone.layer4"))
    assert model.regularizer.teacher is None
    images = model.data_preprocessor(copy.deepcopy(first_batch), training=True)["inputs"]
    with torch.no_grad():
        pooled = features(model.backbone, images)["layer4"].mean((2, 3))
    smallest = torch.linalg.svdvals(pooled.double())[-1].square()
    assert one_step(model, first_batch).item() == pytest.approx(WEIGHT * smallest.item(), rel=1e-2)


def test_penalty_is_zero_at_the_start_and_its_teacher_never_runs(model_config, first_batch, source):
    model = built(model_config, dict(loss=dict(type=PENALTY), student="backbone", teacher="backbone"))
    calls: list[None] = []
    model.regularizer.teacher.network.register_forward_hook(lambda *call: calls.append(None))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found = losses(model, first_batch)
    assert found["loss_term"].item() == 0
    sum(found.values()).backward()
    optimizer.step()
    weights = load_weights(source)
    apart = [value.detach() - weights[name] for name, value in model.backbone.named_parameters()]
    distance = sum(each.double().square().sum().item() for each in apart)
    assert distance > 0
    again = losses(model, first_batch)["loss_term"]
    assert again.item() == pytest.approx(WEIGHT * distance / 2, rel=1e-5)
    (gradient,) = torch.autograd.grad(again, model.backbone.conv1.weight)
    torch.testing.assert_close(gradient, WEIGHT * apart[0], rtol=1e-5, atol=1e-9)
    assert calls == []


STRINGS = {
    "ctd-ed": ["ctd_ed"],
    "ctd-com": ["ctd_cd", "ctd_ed"],
    "l2-sp": ["l2_sp"],
    "ctd-ed + l2-sp": ["ctd_ed", "l2_sp"],
}
TAP = dict(student="backbone.layer4", teacher="backbone.layer4")
WRITTEN = {
    "ctd_cd": dict(loss=dict(type="SoftmaxL2Loss", temperature=2.0), student="backbone.layer4", teacher="classifier",
                   student_connector=RETAINED, weight=0.002),
    "ctd_ed": dict(loss=dict(type="CosineAlignmentLoss"), **TAP, weight=0.002),
    "l2_sp": dict(loss=dict(type=PENALTY), student="backbone", teacher="backbone", weight=0.1),
}  # fmt: skip


@pytest.mark.parametrize("name", STRINGS)
def test_terms_as_a_string_are_those_written_out(model_config, first_batch, name):
    """The losses of three steps, and the network after them, including its connectors."""
    written = [dict(name=f"loss_{key}", **WRITTEN[key]) for key in STRINGS[name]]
    found: list[Any] = []
    for terms in (name, written):
        torch.manual_seed(0)
        model = MODELS.build({**model_config, "terms": terms})
        model.init_weights()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for _ in range(3):
            step = losses(model, first_batch)
            optimizer.zero_grad()
            sum(step.values()).backward()
            optimizer.step()
            found.append({key: value.item() for key, value in step.items()})
        found.append({key: value.detach() for key, value in model.named_parameters()})
    assert found[0].keys() == {"loss_kpt", *(f"loss_{key}" for key in STRINGS[name])}
    assert found[:3] == found[4:7]
    torch.testing.assert_close(found[3], found[7], rtol=0, atol=0)


SWIN = dict(
    type="ModuleBackbone", module="timm/swin_tiny_patch4_window7_224",
    kwargs=dict(img_size=64, window_size=4, embed_dim=8, depths=(1,) * 4, num_heads=(1, 1, 2, 2), drop_path_rate=0.0),
)  # fmt: skip


def test_swin_by_name(model_config, first_batch, tmp_path):
    """Its maps have their channels last, which neither the student's head nor the classifier accepts."""
    network, classifier = MODELS.build(SWIN).net, nn.Linear(64, 10)
    save_weights(
        {**network.state_dict(), "fc.weight": classifier.weight, "fc.bias": classifier.bias}, tmp_path / "w.safetensors"
    )
    initial = dict(type="SourceWeights", checkpoint=str(tmp_path / "w.safetensors"))
    model = MODELS.build({**model_config, "backbone": {**SWIN, "init_cfg": initial}, "terms": "ctd-com"})
    model.init_weights()
    for term in model.regularizer.terms.values():
        assert term.student == "backbone.net.layers_3"
        term.set_weight(1.0)
    images = model.data_preprocessor(copy.deepcopy(first_batch), training=True)["inputs"]
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        maps = [net(images)[-1].permute(0, 3, 1, 2) for net in (model.backbone.net, network.eval())]
        logits = [classifier(each.mean((2, 3))) for each in maps]
    found = losses(model, first_batch)
    torch.testing.assert_close(found["loss_ctd_ed"], xtask_reg.CosineAlignmentLoss()(*maps))
    torch.testing.assert_close(found["loss_ctd_cd"], xtask_reg.SoftmaxL2Loss()(*logits))
    assert min(found.values()) > 0


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"terms": "ctd-x"}, "there is no regularizer 'ctd-x'; the names are ctd-cd, "),
        ({"terms": "ctd-ed", "teacher": None}, r"terms \['ctd-ed'\] need a teacher"),
        ({"terms": "ctd-cd", "teacher": dict(type="FrozenTeacher")}, "could not be followed"),
        ({"terms": "ctd-ed", "teacher": dict(a=dict(type="FrozenTeacher"))}, "'ctd-ed' with several teachers does not"),
        (
            {"terms": [dict(name="loss_b", loss=dict(type=ALONE), student="backbone.layer4", weight=1.0,
                            student_connector=RETAINED)]},
            "'loss_b': RetainedClassifier copies the module that the teacher is tapped at",
        ),
        (
            {"terms": [dict(name="loss_b", loss=dict(type=ALONE), **TAP, weight=1.0)]},
            "'loss_b': BSSLoss looks at the student alone; no teacher='backbone.layer4'",
        ),
        (
            {"terms": [dict(name="loss_b", loss=dict(type=PENALTY), **TAP, weight=1.0,
                            student_connector=dict(type="Resize", size=2))]},
            "'loss_b' compares parameters: it takes no connectors",
        ),
    ],
)  # fmt: skip
def test_bad_terms(model_config, changes, match):
    with pytest.raises(ValueError, match=match):
        MODELS.build({**model_config, **changes})
