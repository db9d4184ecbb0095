"""Terms of every kind, several teachers and a monitor in `xtask-reg doctor`, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from xtask_reg.integrations.mmpose.doctor import to_json
from xtask_reg.sources import load_weights, save_weights

TAP = {"student": "backbone.layer4", "teacher": "backbone.layer4"}
ED = {"name": "loss_ed", "loss": dict(type="CosineAlignmentLoss"), **TAP}
SP = {"name": "loss_sp", "loss": dict(type="L2SPPenalty"), "student": "backbone", "teacher": "backbone", "weight": 0.1}
BSS = {"name": "loss_bss", "loss": dict(type="BSSLoss"), "student": "backbone.layer4", "weight": 1e-7}
STAGES = [f"backbone.layer{number}" for number in range(1, 5)]


def gradient(loss: Tensor, *at: Tensor) -> Tensor:
    return torch.cat([each.flatten() for each in torch.autograd.grad(loss, at, retain_graph=True)])


def test_penalty(diagnose, printed, source, risks):
    """Zero at the start, and its teacher never runs."""
    changes = {"model.terms": [{**SP, "weight": 1e-4}], "model.monitor": None}
    encoder = {k: v for k, v in load_weights(source).items() if not k.startswith("fc.") and "running" not in k}
    count = sum(value.numel() for key, value in encoder.items() if not key.endswith("num_batches_tracked"))
    examination = diagnose(changes)
    facts = examination.facts
    (term,) = facts.losses.terms
    assert (term.value, term.difference, term.at_tap.ratio) == (0, 0, 0)
    assert [(tap.path, tap.shape, tap.parameters) for tap in (term.student, term.teacher)] == [
        ("backbone", None, count), ("backbone", None, count)
    ]  # fmt: skip
    assert not facts.teachers["teacher"].runs
    text = printed(examination)
    assert f"{count:,} parameters" in text
    assert "none: nothing reads its output" in text
    assert risks(examination) == {}


@pytest.fixture
def elsewhere(source, tmp_path) -> Path:
    """A source with weights close to the student's."""
    weights = load_weights(source)
    other = {key: value + 0.01 if value.is_floating_point() else value for key, value in weights.items()}
    save_weights(other, tmp_path / "other.safetensors")
    return tmp_path / "other.safetensors"


def test_penalty_of_a_student_that_starts_elsewhere(diagnose, first_step, elsewhere):
    other = load_weights(elsewhere)
    changes = {"model.terms": [{**SP, "weight": 1e-4}], "model.teacher.checkpoint": str(elsewhere)}
    (term,) = diagnose(changes).facts.losses.terms
    step = first_step(changes)
    parameters = dict(step["model"].backbone.named_parameters())
    apart = torch.cat([(value.detach() - other[key]).flatten() for key, value in parameters.items()])
    assert term.value == pytest.approx(apart.double().square().sum().item() / 2, rel=1e-4)
    length = torch.cat([other[key].flatten() for key in parameters]).norm()
    assert term.difference == pytest.approx((apart.norm() / length).item(), rel=1e-4)
    task = gradient(step["task"], *parameters.values())
    assert term.at_tap.term == pytest.approx(1e-4 * apart.norm().item(), rel=1e-3)
    assert term.at_tap.task == pytest.approx(task.norm().item(), rel=1e-3)
    assert term.at_tap.cosine == pytest.approx(((apart @ task) / apart.norm() / task.norm()).item(), abs=1e-4)


def test_penalty_on_frozen_parameters_cannot_act(diagnose, risks):
    changes = {"model.terms": [{**SP, "student": "backbone.layer1", "teacher": "backbone.layer1"}]}
    found = risks(diagnose({**changes, "model.frozen": ["backbone.layer1"]}))
    assert "its parameters backbone.layer1 do not train" in found["cannot-act"]


def test_loss_of_the_student_alone(diagnose, first_step, printed):
    changes = {"model.terms": [BSS], "model.teacher": None, "model.monitor": None}
    examination, step = diagnose(changes), first_step(changes)
    facts, features = examination.facts, step["student"]["layer4"]
    (term,) = facts.losses.terms
    smallest = np.linalg.svd(features.detach().double().mean((2, 3)).numpy(), compute_uv=False)[-1] ** 2
    assert term.value == pytest.approx(smallest, rel=1e-2)
    assert (term.teacher, term.difference, facts.teachers) == (None, None, {})
    assert term.student.shape == (4, 64, 2, 2)
    assert 0 < term.at_tap.ratio < 1
    assert "none: no term needs one" in printed(examination)


def test_several_teachers(diagnose, first_step, printed, encoder, source, risks):
    """One that the student starts from, and an untrained one of another size."""
    narrow = dict(type="FrozenTeacher", backbone={**encoder, "base_channels": 4}, checkpoint="random")
    gram = {**ED, "name": "loss_gram", "loss": dict(type="GramAnchoringLoss"), "teacher": "other.backbone.layer4"}
    terms = [{**ED, "teacher": "faces.backbone.layer4", "weight": 1e-4}, {**gram, "weight": 1e-5}]
    teachers = {"faces": dict(type="FrozenTeacher"), "other": narrow}
    changes = {"model.terms": terms, "model.teacher": {"_delete_": True, **teachers}, "model.monitor": None}
    examination = diagnose(changes)
    facts, step = examination.facts, first_step(changes)
    assert [term.teacher.path for term in facts.losses.terms] == ["faces.backbone.layer4", "other.backbone.layer4"]
    assert facts.losses.terms[1].teacher.shape == (4, 32, 2, 2)
    assert facts.losses.terms[0].value == pytest.approx(step["ed"]["layer4"].item(), rel=1e-3)
    assert {name: teacher.origin for name, teacher in facts.teachers.items()} == {
        "faces": str(source),
        "other": "random",
    }
    for teacher in facts.teachers.values():
        assert teacher.runs
        assert 0 < teacher.share_of_step < 1
        assert all(teacher.checks.values())
    assert facts.teachers["faces"].differing == ()
    assert risks(examination).keys() == {"random-teacher"}
    assert risks(examination)["random-teacher"] == "the teacher other is untrained"
    lines = [line.strip() for line in printed(examination).splitlines()]
    assert lines.index("Teacher faces") < lines.index("Teacher other")


@pytest.mark.parametrize("starts", [True, False])
def test_student_need_only_start_as_one_of_its_teachers(diagnose, elsewhere, risks, starts):
    """Teachers that no term needs do not run."""
    away = dict(type="FrozenTeacher", checkpoint=str(elsewhere))
    teachers = {"one": dict(type="FrozenTeacher") if starts else away, "two": away}
    terms = [{**ED, "teacher": "two.backbone.layer4", "weight": 1e-4}]
    changes = {"model.terms": terms, "model.teacher": {"_delete_": True, **teachers}, "model.monitor": None}
    examination = diagnose(changes)
    assert ("start" in risks(examination)) is not starts
    assert [teacher.runs for teacher in examination.facts.teachers.values()] == [False, True]
    assert examination.facts.teachers["one"].share_of_step is None


def test_monitor(diagnose, first_step, printed):
    """Also of a config without terms, with stages that it names."""
    changes = {"model.terms": [], "model.monitor": dict(stages=["backbone.layer3", "backbone.layer4"])}
    examination, step = diagnose(changes), first_step(changes)
    stages = examination.facts.stages
    assert [stage.student for stage in stages] == ["backbone.layer3", "backbone.layer4"]
    for stage, layer in zip(stages, ("layer3", "layer4")):
        assert stage.cosine == pytest.approx(1 - step["ed"][layer].item(), abs=1e-4)
        assert stage.cosine < 0.9999
        assert 0 < stage.cka < 1
        row = next(line for line in printed(examination).splitlines() if line.split()[:1] == [stage.student])
        assert row.split() == [stage.student, f"{stage.cosine:.3g}", f"{stage.cka:.3g}"]
    assert examination.facts.teachers["teacher"].runs
    assert examination.facts.losses.terms == ()
    assert [stage.student for stage in diagnose().facts.stages] == STAGES
    assert diagnose({"model.monitor": None}).facts.stages == ()


def test_terms_given_as_a_string(diagnose, first_step):
    changes = {"model.terms": "ctd-ed + l2-sp"}
    losses, step = diagnose(changes).facts.losses, first_step(changes)
    assert [(term.name, term.weighting) for term in losses.terms] == [("loss_ctd_ed", "0.002"), ("loss_l2_sp", "0.1")]
    assert losses.left_out == ()
    assert losses.terms[0].value == pytest.approx(step["ed"]["layer4"].item(), rel=1e-3)
    assert losses.total == pytest.approx(step["task"].item() + 0.002 * step["ed"]["layer4"].item(), rel=1e-4)


def test_json_of_everything(diagnose):
    """Strict JSON, with all fields from which the text is made."""
    changes = {"model.terms": [{**ED, "weight": dict(type="Balanced")}, SP, BSS]}
    facts = json.loads(to_json(diagnose(changes)))["facts"]
    assert [term["weighting"] for term in facts["losses"]["terms"]] == ["Balanced(0.1)", "0.1", "1e-07"]
    assert facts["losses"]["terms"][2]["teacher"] is None
    assert [stage["student"] for stage in facts["stages"]] == STAGES
    assert list(facts["teachers"]) == ["teacher"]
