"""Each risk that `xtask-reg doctor` knows, provoked by a change of the config."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpose.registry import HOOKS
from torch import nn

from xtask_reg.sources import load_weights, save_weights

DOCS = Path(__file__).parents[3] / "docs" / "doctor.md"


@pytest.fixture(scope="session")
def partly_annotated(shared, landmarks) -> Path:
    """The same data, but no image shows landmarks 3 (whose flip partner is 0) and 4 (its own)."""

    def make(folder: Path) -> None:
        (folder / "images").symlink_to(landmarks / "images")
        for split in ("train", "val"):
            content = json.loads((landmarks / f"{split}.json").read_text())
            for annotation in content["annotations"]:
                annotation["keypoints"][3 * 3 + 2] = annotation["keypoints"][3 * 4 + 2] = 0
            (folder / f"{split}.json").write_text(json.dumps(content))

    return shared("partly-annotated", make)


def subset(*indices: int) -> dict[str, Any]:
    loaders = {f"{split}_dataloader.dataset.subset": list(indices) for split in ("train", "val", "test")}
    return {**loaders, "model.head.out_channels": len(indices)}


SHALLOW = {"model.backbone.out_indices": (2,), "model.head.in_channels": 32,
           "model.head.deconv_out_channels": (8, 8), "model.head.deconv_kernel_sizes": (4, 4)}  # fmt: skip
FLIP = "train_dataloader.dataset.pipeline.2.prob"
NO_HOOK = {"custom_hooks": [dict(type="EpochSeedHook")]}
BALANCED = {"model.terms.1.weight": dict(_delete_=True, type="Balanced")}
FADING = {"model.terms.0.weight": dict(_delete_=True, type="LinearDecay", start=1e-5)}
PROVOKED = {
    "cannot-act": ({"model.frozen": ["backbone"]}, "loss_cd cannot act: its tap backbone.layer4"),
    "lambda-small": ({"model.terms.1.weight": 1e-9}, "loss_ed is inert: its gradient at backbone.layer4"),
    "lambda-large": ({"model.terms.0.weight": 1e6}, "loss_cd outweighs the task"),
    "shapes": ({"model.terms.1.student": "backbone.layer3"}, r"loss_ed .*\(4, 32, 4, 4\).*\(4, 64, 2, 2\)"),
    "random-teacher": ({"model.teacher.checkpoint": "random"}, "untrained"),
    "start": ({"model.backbone.init_cfg": None, "model.teacher.checkpoint": "SOURCE"}, "of 126 common.*conv1.weight"),
    "input": ({"model.teacher.input": dict(mean=(0, 0, 0), std=(1, 1, 1))}, "conventions differ"),
    "flip": (subset(4), "no landmarks are paired"),
    "never-annotated": ({FLIP: 0.0, "train_dataloader.dataset.data_root": "PARTLY"}, "right_eye_outer, nose_bottom$"),
    "batch-statistics": ({"train_dataloader.batch_size": 2}, "21 batch norms .* from 2 images"),
    "connectors-not-saved": (NO_HOOK, "connectors train, but are not saved"),
    "balance-not-saved": ({**BALANCED, **NO_HOOK}, "the balance of loss_ed is not saved"),
    "no-progress": ({**FADING, **NO_HOOK}, "loss_cd would not know the progress"),
    "epoch-seed": ({"custom_hooks": [dict(type="CrossTaskHook")]}, "not seeded"),
    "no-gradient": ({**SHALLOW, "model.terms": []}, "get no gradient.*backbone.layer4.0"),
    "not-finite": ({"model.terms.0.weight": 1e39}, "loss_cd"),
    "codec": ({"model.head.decoder.sigma": 3}, r"pipeline.5.encoder.sigma=1.5 and model.head.decoder.sigma=3$"),
    "test-set": ({"test_dataloader.dataset.data_root": "gone"}, "testing would fail: annotation file gone/test.json"),
    "input-size": ({"train_dataloader.dataset.pipeline.4.input_size": (80, 80)}, "80 x 80 .* 32, and the step fails"),
}
MSRA = dict(_delete_=True, type="MSRAHeatmap", input_size=(64, 64), heatmap_size=(16, 16), sigma=1.5)
AFFINES = ["train_dataloader.dataset.pipeline.4", "val_dataloader.dataset.pipeline.2"]
ALSO = [
    ("codec", {"model.head.decoder": MSRA}, "encoder.type=ExactHeatmap and model.head.decoder.type=MSRAHeatmap$"),
    (
        "codec",
        {"model.head.decoder": {**MSRA, "input_size": (64, 32), "heatmap_size": (16, 8)}},
        "differ: .*decoder.input_size=64,32$",
    ),
    (
        "codec",
        {f"{AFFINES[1]}.input_size": (64, 96)},
        rf"{AFFINES[0]}.input_size=64,64, {AFFINES[1]}.input_size=64,96, ",
    ),
    ("codec", {"test_evaluator.stride": 8}, "test_evaluator.stride=8, but a heatmap pixel is 4 input pixels wide"),
    ("test-set", {"test_dataloader.dataset.subset": [*range(13, -1, -1)]}, "the test set has .* in another order"),
    (
        "test-set",
        {"test_evaluator.space": "mm"},
        r"testing would fail: .*pixel size of .*png is unknown: .*mm_per_pixel",
    ),
    ("flip", subset(0, 3, 5), "points of the other side: philtrum_top_left$"),
    ("never-annotated", {"train_dataloader.dataset.data_root": "PARTLY"}, "shows nose_bottom$"),
    (
        "shapes",
        {"model.terms.0.student": "backbone.layer3"},
        "loss_cd cannot be computed: features of shape",
    ),
]


@pytest.mark.parametrize(("name", "changes", "message"), [*((name, *rest) for name, rest in PROVOKED.items()), *ALSO])
def test_risk(diagnose, source, partly_annotated, name, changes, message, risks):
    places = {"SOURCE": str(source), "PARTLY": str(partly_annotated)}
    changes = {key: places.get(value, value) if isinstance(value, str) else value for key, value in changes.items()}
    examination = diagnose(changes)
    assert re.search(message, risks(examination)[name])
    assert name not in risks(diagnose())
    assert all("\n" not in risk.message + risk.cure for risk in examination.risks)


def test_share_of_annotated_landmarks(diagnose, partly_annotated):
    """12 of 14 on each image, flipped or not."""
    data = diagnose({"train_dataloader.dataset.data_root": str(partly_annotated)}).facts.data
    assert data.annotated == pytest.approx(12 / 14)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("batch-statistics", {"train_dataloader.batch_size": 2, "model.backbone.norm_eval": True}),
        ("batch-statistics", {"train_dataloader.batch_size": 3}),
        ("flip", {**subset(0, 3, 5), FLIP: 0.0}),
        ("flip", {**subset(4), FLIP: 0.0}),
        ("flip", subset(0, 3, 4)),
        ("no-gradient", {**SHALLOW, "model.terms": [], "find_unused_parameters": True}),
        ("no-gradient", {**SHALLOW, "model.terms": [], "model.frozen": ["backbone.layer4"]}),
        ("connectors-not-saved", {"model.terms.0.student_connector.trainable": False, "custom_hooks": []}),
        ("start", {"model.teacher.checkpoint": "random"}),
        ("balance-not-saved", BALANCED),
        ("balance-not-saved", NO_HOOK),
        ("no-progress", FADING),
        ("no-progress", {**BALANCED, **NO_HOOK}),
    ],
)
def test_cured(diagnose, name, changes, risks):
    assert name not in risks(diagnose(changes))


@pytest.mark.parametrize(("shift", "is_far"), [(3, True), (0.1, False)])
def test_batch_statistics_far_from_those_of_the_source(diagnose, source, tmp_path, risks, shift, is_far):
    """A source whose last running means are larger than those of these images: its own features are smaller."""
    weights = load_weights(source)
    probe = diagnose().facts.losses.terms[1]
    for key in weights:
        if key.startswith("layer4") and key.endswith("running_mean"):
            weights[key] += shift
    save_weights(weights, tmp_path / "source.safetensors")
    examination = diagnose({"model.backbone.init_cfg.checkpoint": str(tmp_path / "source.safetensors")})
    term, found = examination.facts.losses.terms[1], risks(examination)
    assert (term.apart > 1, probe.apart > 1) == (is_far, False), (term.apart, probe.apart)
    assert ("batch-statistics" in found) == is_far
    if is_far:
        away = f"features at backbone.layer4 differ from the teacher's by {term.apart:.0%} of their norm"
        assert f"from 4 images: with the weights of its source, the student's {away}" in found["batch-statistics"]


@pytest.mark.parametrize("evaluator", [{"stride": 4}, {"stride": 8, "space": "input"}])
def test_a_stride_that_changes_nothing_is_no_risk(diagnose, risks, evaluator):
    changes = {f"test_evaluator.{key}": value for key, value in evaluator.items()}
    assert risks(diagnose(changes)) == {}


HOOKS_THERE = [dict(type="CrossTaskHook"), dict(type="EpochSeedHook")]
FREEZE = dict(type="FreezeUntilHook", paths=["backbone"])


def test_what_is_frozen_for_a_while_is_examined_as_after_the_thaw(diagnose, risks, printed):
    hooks = {"custom_hooks": [*HOOKS_THERE, {**FREEZE, "until": 0.3}]}
    examination, plain = diagnose(hooks), diagnose()
    assert risks(examination) == {}
    assert examination.facts.parameters == plain.facts.parameters
    assert examination.facts.losses == plain.facts.losses
    assert "backbone at 30% of the training; examined in the state after that" in printed(examination)
    assert "thaws" not in printed(plain)
    always = diagnose({"custom_hooks": [*HOOKS_THERE, {**FREEZE, "until": 1}]})
    assert "loss_ed cannot act" in risks(always)["cannot-act"]


def test_terms_are_examined_on_the_images_without_labels(diagnose, risks, printed, landmarks):
    hook = dict(type="UnlabelledImagesHook", folder=str(landmarks), batch_size=2)
    examination, plain = diagnose({"custom_hooks": [*HOOKS_THERE, hook]}), diagnose()
    assert risks(examination) == {}
    (_, own), (_, other) = ([term.value for term in found.facts.losses.terms] for found in (examination, plain))
    assert own != other
    assert examination.facts.losses.task == plain.facts.losses.task
    assert f"the terms are compared on images of {landmarks}" in " ".join(printed(examination).split())
    assert "unlabelled" not in printed(plain)


def test_the_tiny_config_has_no_risk(diagnose, risks):
    assert risks(diagnose()) == {}


def test_where_student_and_teacher_are_alike_a_small_gradient_is_no_risk(diagnose, risks, printed):
    examination = diagnose({"model.backbone.norm_eval": True})
    for term in examination.facts.losses.terms:
        assert term.difference < 1e-5
        assert term.at_tap.ratio < 1e-4
    assert "lambda-small" not in risks(examination)
    assert printed(examination).count("student and teacher are nearly equal") == 2


def test_a_teacher_that_does_not_hold_is_found(diagnose, risks):
    @HOOKS.register_module(force=True)
    class Leak(Hook):
        """Violates every rule for teachers."""

        def before_train(self, runner: Runner) -> None:
            network = runner.model.regularizer.teacher.network
            parameter = next(network.parameters())
            runner.model.register_buffer("leak", parameter.detach())
            runner.optim_wrapper.optimizer.add_param_group({"params": [parameter]})

            def spoil(module: nn.Module, args: Any, output: Any) -> None:
                parameter.requires_grad_(True)
                parameter.data += 1
                module.train()

            network.register_forward_hook(spoil)

    hooks = [{"type": name} for name in ("CrossTaskHook", "EpochSeedHook", "Leak")]
    examination = diagnose({"custom_hooks": hooks})
    checks = examination.facts.teachers["teacher"].checks
    assert not any(checks.values())
    assert all(check in risks(examination)["teacher"] for check in checks)


def test_a_source_states_its_own_input(diagnose, source, tmp_path, risks):
    """The file's convention is used and named; a different one in the config is a risk."""
    stated = {"channels": "bgr", "mean": "90,100,130", "std": "1,1,1", "value_range": "255", "task": "faces"}
    save_weights(load_weights(source), tmp_path / "s.safetensors", stated)
    changes = {"model.backbone.init_cfg.checkpoint": str(tmp_path / "s.safetensors")}
    teacher = diagnose(changes).facts.teachers["teacher"]
    assert teacher.metadata == stated
    assert teacher.converted
    assert (teacher.teacher_input.channels, teacher.teacher_input.mean) == ("bgr", (90, 100, 130))
    assert "unlike those that its weights were trained with" in risks(diagnose(changes))["input"]
    overridden = diagnose({**changes, "model.teacher.input": dict(mean=(0, 0, 0), std=(1, 1, 1), value_range=255)})
    assert "states an input convention that differs from model.teacher.input" in risks(overridden)["input"]


def test_the_docs_explain_each_risk():
    rows = re.findall(r"^\| `([\w-]+)` \|", DOCS.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted({*PROVOKED, "teacher"})
