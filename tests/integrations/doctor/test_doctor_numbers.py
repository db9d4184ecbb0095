"""The numbers of `xtask-reg doctor`, compared with calculations by hand."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xtask_reg.integrations.mmpose.doctor import examine
from xtask_reg.integrations.mmpose.doctor.gradients import gradients_of
from xtask_reg.integrations.mmpose_files import configs
from xtask_reg.sources import load_weights

MEAN = [123.675, 116.28, 103.53]
HEAD = 64 * 8 * 16 + 2 * 8 * 8 * 16 + 3 * 2 * 8 + 8 * 14 + 14
"""Three deconvolutions of 4 x 4 with batch norms, and a 1 x 1 convolution to 14 heatmaps."""


def from_bn1(backbone: nn.Module, output: Tensor) -> Tensor:
    x = F.max_pool2d(F.relu(output), 3, 2, 1)
    for name in ("layer1", "layer2", "layer3", "layer4"):
        x = getattr(backbone, name)(x)
    return x


CUTS = {
    "backbone.bn1": (lambda backbone, x: backbone.bn1(backbone.conv1(x)), from_bn1),
    "backbone.layer4": (lambda backbone, x: backbone(x)[-1], lambda backbone, output: output),
}


@pytest.mark.parametrize("tap", CUTS)
def test_terms_and_gradients_are_those_computed_by_hand(diagnose, at_first_step, preprocessed, task_loss, source, tap):
    """By hand: the network in two halves, the losses as formulas; after bn1 comes an in-place ReLU."""
    changes = {"model.terms.1.student": tap, "model.terms.1.teacher": tap}
    changes |= {"model.terms.0.weight": 0.5, "model.terms.1.weight": 0.25}
    found = diagnose(changes).facts.losses
    model, batch = at_first_step(changes)
    images, (before, after) = preprocessed(batch), CUTS[tap]
    output = before(model.backbone, images)
    features = after(model.backbone, output)
    task = task_loss(model, features, batch)
    network = model.regularizer.teacher.network.eval()
    with torch.no_grad():
        target, last = before(network.backbone, images), network.backbone(images)[-1]
    ed = 0.25 * (1 - F.cosine_similarity(output.flatten(1), target.flatten(1)).mean())
    classes = [load_weights(source)[f"fc.{kind}"] for kind in ("weight", "bias")]
    logits = [F.linear(f.mean((2, 3)), *classes) for f in (features, last)]
    probabilities = [values.div(2).softmax(1) for values in logits]
    cd = 0.5 * (probabilities[0] - probabilities[1]).square().sum(1).mean()
    assert found.task["loss_kpt"] == pytest.approx(task.item(), rel=1e-4)
    assert found.total == pytest.approx((task + ed + cd).item(), rel=1e-4)
    for term, weight, value, compared in (
        (found.terms[0], 0.5, cd, logits),
        (found.terms[1], 0.25, ed, (output, target)),
    ):
        assert term.value == pytest.approx(value.item() / weight, rel=1e-3)
        assert term.share == pytest.approx((value / (task + ed + cd)).item(), rel=1e-3)
        assert term.difference == pytest.approx(
            ((compared[0] - compared[1]).norm() / compared[1].norm()).item(), rel=1e-3
        )
    places = ((output, found.terms[1].at_tap), (model.backbone.conv1.weight, found.terms[1].at_first_layer))
    for place, pull in places:
        own, others = (torch.autograd.grad(loss, place, retain_graph=True)[0].double() for loss in (ed, task))
        expected = [
            own.norm(),
            others.norm(),
            own.norm() / others.norm(),
            (own * others).sum() / own.norm() / others.norm(),
        ]
        assert dataclasses.astuple(pull) == pytest.approx(
            [float(number) for number in expected], rel=1e-3, abs=1e-6 * 0
        )


def test_data(diagnose, at_first_step, preprocessed, landmarks):
    data = diagnose().facts.data
    _, batch = at_first_step({})
    images = preprocessed(batch)
    content = json.loads((landmarks / "train.json").read_text())
    flip = content["categories"][0]["flip_index"]
    assert (data.train_images, data.val_images) == (len(content["images"]), 4)
    assert data.batch_shape == tuple(images.shape) == (4, 3, 64, 64)
    assert (data.lowest, data.highest) == pytest.approx((float(images.min()), float(images.max())), rel=1e-5)
    assert data.landmarks == len(flip) == 14
    assert data.flip_pairs == sum(i != j for i, j in enumerate(flip)) // 2
    assert data.flips
    weights = np.stack([sample.gt_instance_labels.keypoint_weights for sample in batch["data_samples"]])
    assert data.annotated == pytest.approx((weights > 0).mean())
    assert data.encoder_stride == 32


def test_parameters_of_everything_and_of_nothing_but_the_last_stage(diagnose, source):
    weights = load_weights(source)
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    encoder = {k: v.numel() for k, v in weights.items() if not k.startswith("fc.") and not k.endswith(statistics)}
    norms = [key for key in weights if key.endswith("running_mean")]
    last = {k: n for k, n in encoder.items() if k.startswith("layer4.")}
    connector = 64 * 10 + 10
    whole = diagnose().facts.parameters
    part = diagnose({"model.frozen": ["backbone"], "model.frozen_but": ["backbone.layer4"]}).facts.parameters
    for facts, trains in ((whole, encoder), (part, last)):
        parts = {name: (each.trainable, each.all) for name, each in facts.parts.items()}
        assert parts == {
            "backbone": (sum(trains.values()), sum(encoder.values())),
            "head": (HEAD, HEAD),
            "connectors": (connector, connector),
        }
        assert facts.total.trainable == sum(trains.values()) + HEAD + connector
        assert facts.total.all == sum(encoder.values()) + HEAD + connector
        assert facts.batch_norms == len(norms) + 3
    assert (whole.frozen, whole.first_layer) == ((), "backbone.conv1")
    assert (whole.batch_statistics, whole.batch_statistics_in_backbone) == (len(norms) + 3, len(norms))
    frozen = ("conv1", "bn1", "layer1", "layer2", "layer3")
    assert part.frozen == tuple(f"backbone.{name}" for name in frozen)
    assert part.first_layer == "backbone.layer4.0.conv1"
    in_last = sum(key.startswith("layer4.") for key in norms)
    assert (part.batch_statistics, part.batch_statistics_in_backbone) == (in_last + 3, in_last)


def test_taps(diagnose):
    cd, ed = diagnose().facts.losses.terms
    taps = [
        (tap.path, tap.shape, tap.dtype, tap.has_gradient) for tap in (cd.student, cd.teacher, ed.student, ed.teacher)
    ]
    assert taps == [
        ("backbone.layer4", (4, 64, 2, 2), "float32", True),
        ("classifier", (4, 10), "float32", False),
        ("backbone.layer4", (4, 64, 2, 2), "float32", True),
        ("backbone.layer4", (4, 64, 2, 2), "float32", False),
    ]


def test_teacher(diagnose, source):
    facts = diagnose().facts
    teacher, weights = facts.teachers["teacher"], load_weights(source)
    assert teacher.origin == str(source)
    assert teacher.megabytes == pytest.approx(sum(w.numel() * w.element_size() for w in weights.values()) / 2**20)
    assert teacher.in_common == sum(not key.startswith("fc.") for key in weights)
    assert teacher.differing == ()
    assert 0 < teacher.share_of_step < 1
    assert not teacher.converted
    assert teacher.student_input == teacher.teacher_input
    assert teacher.student_input.mean == pytest.approx(MEAN)
    assert len(teacher.checks) == 5
    assert all(teacher.checks.values())


def test_a_term_of_weight_0_is_named(diagnose):
    facts = diagnose({"model.terms.0.weight": 0}).facts
    assert facts.losses.left_out == ("loss_cd",)
    assert [term.name for term in facts.losses.terms] == ["loss_ed"]


def test_hourglass_has_a_block_that_is_never_called(landmarks):
    """A plain TopdownPoseEstimator."""
    loaders = {f"{split}_dataloader.dataset.data_root": str(landmarks) for split in ("train", "val")}
    size = {"train_dataloader.dataset.pipeline.4.input_size": (128, 128)}
    facts = examine(configs() / "td-hm_hourglass52_hg_landmarks-256x256.py", {**loaders, **size}).facts
    assert facts.teachers == {}
    assert facts.parameters.without_gradient
    assert all(name.startswith("backbone.inters.0.") for name in facts.parameters.without_gradient)
    assert facts.run.find_unused_parameters
    assert facts.data.encoder_stride == 4


def test_with_reentrant_activation_checkpoints(diagnose):
    plain, saving = (diagnose(changes).facts.losses.terms for changes in ({}, {"model.backbone.with_cp": True}))
    for one, other in zip(plain, saving):
        assert dataclasses.astuple(other.at_tap) == pytest.approx(dataclasses.astuple(one.at_tap), rel=1e-4)


def test_half_precision_neither_loses_nor_overflows():
    """Like GradScaler: in float16 a gradient of 1e-8 is 0, and one of 10 times 65536 infinite."""
    for size in (1e-8, 10.0):
        layer = nn.Linear(4, 1).half()
        loss = layer(torch.ones(1, 4).half()).float().sum() * size
        found = gradients_of(layer, loss, {"layer": list(layer.parameters())}, 65536.0)
        torch.testing.assert_close(found.places["layer"], torch.full((5,), size), rtol=1e-3, atol=0)
        assert not found.not_finite
        assert layer.weight.grad is None
