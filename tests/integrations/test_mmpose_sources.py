"""Backbones from outside MMPose, and weights of source networks."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from mmpose.registry import MODELS
from same_tensors import assert_same

from xtask_reg.sources import load_weights, save_weights

SWIN = dict(img_size=64, window_size=4, embed_dim=8, depths=(1,) * 4, num_heads=(1, 1, 2, 2))


@pytest.mark.parametrize(
    ("arguments", "shapes"),
    [
        (dict(module="timm/resnet10t"), [(64, 32), (64, 16), (128, 8), (256, 4), (512, 2)]),
        (dict(module="timm/resnet10t", kwargs=dict(out_indices=(4,))), [(512, 2)]),
        (dict(module="timm/resnet10t.c3_in1k", kwargs=dict(out_indices=(3, 4))), [(256, 4), (512, 2)]),
        (dict(module="xtask_reg.sources:dlib_resnet29_dense"), [(256, 2)]),
        (
            dict(module="xtask_reg.sources:dlib_resnet29_dense", kwargs=dict(every_stage=True)),
            [(32, 16), (64, 8), (128, 4), (256, 2)],
        ),
        (dict(module="timm/swin_tiny_patch4_window7_224", kwargs=SWIN), [(8, 16), (16, 8), (32, 4), (64, 2)]),
        (dict(module="torch.nn:Conv2d", kwargs=dict(in_channels=3, out_channels=5, kernel_size=1)), [(5, 64)]),
    ],
)
def test_module_backbone(arguments, shapes):
    backbone = MODELS.build(dict(type="ModuleBackbone", **arguments))
    backbone.eval()
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


SELF_INITIALIZING = {
    "ResNet": dict(type="ResNet", depth=18, base_channels=8),  # zeroes the last norm of each block
    "ShuffleNetV2": dict(type="ShuffleNetV2"),  # initializes everything itself
    "MobileNetV2": dict(type="MobileNetV2"),  # has children that initialize themselves
    "timm": dict(type="ModuleBackbone", module="timm.models:vit_tiny_patch16_224"),  # has a method init_weights
}


@pytest.mark.parametrize("backbone", SELF_INITIALIZING)
def test_backbone_starts_as_the_source_whatever_it_does_itself(tmp_path, model_config, backbone):
    reference = MODELS.build(SELF_INITIALIZING[backbone])
    network = getattr(reference, "net", reference)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(-1, 1)
    save_weights(network.state_dict(), tmp_path / "w.safetensors")
    initial = dict(type="SourceWeights", checkpoint=str(tmp_path / "w.safetensors"))
    model = MODELS.build(
        {**model_config, "backbone": {**SELF_INITIALIZING[backbone], "init_cfg": initial}, "terms": []}
    )
    model.init_weights()
    assert_same(model.backbone.state_dict(), reference.state_dict())


def test_prefix_and_ignored_keys(tmp_path, encoder, source):
    weights = load_weights(source)
    renamed = {f"model.{key.replace('fc.', 'head.')}": value for key, value in weights.items()}
    torch.save({"state_dict": renamed}, tmp_path / "w.pth")
    initial = dict(type="SourceWeights", checkpoint=str(tmp_path / "w.pth"), prefix="model.", ignore=["head."])
    backbone = MODELS.build({**encoder, "init_cfg": initial})
    backbone.init_weights()
    assert_same(backbone.state_dict(), {key: value for key, value in weights.items() if not key.startswith("fc.")})


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
def test_damaged_source(tmp_path, model_config, source, damage, place):
    """The constructor does not read the file; ``init_weights`` refuses it."""
    path = damaged(source, tmp_path, damage)
    (model_config["backbone"]["init_cfg"] if place == "student" else model_config["teacher"])["checkpoint"] = path
    model = MODELS.build(model_config)
    error, match = DAMAGES[damage]
    with pytest.raises(error, match=match) as caught:
        model.init_weights()
    assert path in str(caught.value)


@pytest.mark.parametrize("fault", ["number of classes", "no classifier in the file"])
def test_classifier_that_does_not_fit(tmp_path, model_config, source, fault):
    if fault == "number of classes":
        model_config["teacher"]["classifier"]["num_classes"] = 11
    else:
        encoder = {key: value for key, value in load_weights(source).items() if not key.startswith("fc.")}
        save_weights(encoder, tmp_path / "w.safetensors")
        model_config["teacher"]["checkpoint"] = str(tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"\(prefix 'fc.'\) does not fit"):
        MODELS.build(model_config).init_weights()


# -- where the teacher comes from --------------------------------------------------------------------------------------


def timm_backbone(path: Any) -> dict[str, Any]:
    """A timm model with its own weights, as with pretrained=True, but from a file."""
    kwargs = dict(pretrained=True, pretrained_cfg_overlay=dict(file=str(path)), out_indices=(4,))
    return dict(type="ModuleBackbone", module="timm/resnet10t", kwargs=kwargs)


@pytest.fixture
def timm_file(tmp_path):
    import timm

    network = timm.create_model("resnet10t", num_classes=1000)
    save_weights(network.state_dict(), tmp_path / "timm.safetensors")
    return tmp_path / "timm.safetensors"


def teacher_of(config: dict[str, Any]) -> torch.nn.Module:
    model = MODELS.build(config)
    model.init_weights()
    return model.regularizer.teacher.network


ED_ALONE = slice(1, None)


def test_teacher_is_by_default_what_the_student_starts_from(model_config, encoder, source):
    explicit = dict(**model_config["teacher"], backbone=encoder, checkpoint=str(source))
    spelled_out = teacher_of({**model_config, "teacher": explicit})
    assert_same(teacher_of(model_config).state_dict(), spelled_out.state_dict())


def test_prefix_and_ignored_keys_hold_for_the_teacher_too(tmp_path, model_config, source):
    weights = {f"model.{key}": value for key, value in load_weights(source).items()}
    torch.save({**weights, "model.neck.weight": torch.zeros(1)}, tmp_path / "w.pth")
    initial = dict(type="SourceWeights", checkpoint=str(tmp_path / "w.pth"), prefix="model.", ignore=["fc.", "neck."])
    model_config["backbone"]["init_cfg"] = initial
    network = teacher_of(model_config)
    assert_same({**network.backbone.state_dict(), **network.classifier.state_dict()}, load_weights(source))


def test_teacher_of_another_architecture(tmp_path, model_config, encoder):
    other = dict(encoder, depth=34)
    weights = MODELS.build(other).state_dict()
    save_weights(weights, tmp_path / "w.safetensors")
    teacher = dict(type="FrozenTeacher", backbone=other, checkpoint=str(tmp_path / "w.safetensors"))
    network = teacher_of({**model_config, "teacher": teacher, "terms": model_config["terms"][ED_ALONE]})
    assert_same(network.backbone.state_dict(), weights)


def test_module_that_brings_its_weights(model_config, timm_file):
    config = {**model_config, "backbone": timm_backbone(timm_file), "teacher": dict(type="FrozenTeacher")}
    config["terms"] = [{**model_config["terms"][1], "student": "backbone.net.layer4", "teacher": "backbone.net.layer4"}]
    model = MODELS.build(config)
    model.init_weights()
    expected = {key: value for key, value in load_weights(timm_file).items() if not key.startswith("fc.")}
    assert_same(model.backbone.net.state_dict(), expected)
    assert_same(model.regularizer.teacher.network.backbone.net.state_dict(), expected)


def test_untrained_control_of_a_module_that_brings_its_weights(model_config, timm_file):
    teacher = dict(type="FrozenTeacher", checkpoint="random")
    config = {**model_config, "backbone": timm_backbone(timm_file), "teacher": teacher}
    config["terms"] = [{**model_config["terms"][1], "student": "backbone.net.layer4", "teacher": "backbone.net.layer4"}]
    model = MODELS.build(config)
    model.init_weights()
    own, other = model.backbone.net.layer4, model.regularizer.teacher.network.backbone.net.layer4
    assert all(not torch.equal(a, b) for a, b in zip(own.parameters(), other.parameters()) if a.ndim == 4)


def test_teacher_with_a_start_of_its_own(tmp_path, model_config, encoder, source):
    weights = {key: value + 1 for key, value in load_weights(source).items() if value.is_floating_point()}
    save_weights(weights, tmp_path / "w.safetensors")
    own = dict(encoder, init_cfg=dict(type="SourceWeights", checkpoint=str(tmp_path / "w.safetensors")))
    network = teacher_of({**model_config, "teacher": {**model_config["teacher"], "backbone": own}})
    torch.testing.assert_close(network.backbone.conv1.weight, weights["conv1.weight"], rtol=0, atol=0)


@pytest.mark.parametrize("case", ["no init_cfg", "another init_cfg", "classifier without a file"])
def test_teacher_without_weights(model_config, timm_file, case):
    """None of these may end with a random teacher."""
    if case == "no init_cfg":
        del model_config["backbone"]["init_cfg"]
    elif case == "another init_cfg":
        model_config["backbone"]["init_cfg"] = dict(type="Kaiming", layer="Conv2d")
    else:
        model_config["backbone"] = timm_backbone(timm_file)
        for term in model_config["terms"]:
            term["student"] = "backbone.net.layer4"
        model_config["terms"][1]["teacher"] = "backbone.net.layer4"
    model = MODELS.build(model_config)
    with pytest.raises(ValueError, match="the teacher has no checkpoint.*give teacher.checkpoint"):
        model.init_weights()


@pytest.mark.parametrize("window", [None, 2])
def test_window_of_the_classifier(model_config, window):
    """At 64 px the last map has 2 x 2 cells, at 96 px 3 x 3."""
    model_config["teacher"]["classifier"]["window"] = window
    network = teacher_of(model_config)
    images = torch.randn(1, 3, 96, 96)
    cells = network.backbone(images)[-1].mean(0)
    corners = [cells[:, y : y + 2, x : x + 2].mean((1, 2)) for x in (0, 1) for y in (0, 1)]
    pooled = cells.mean((1, 2)) if window is None else sum(corners) / 4
    torch.testing.assert_close(network(images)[0], network.classifier.fc(pooled))


@pytest.mark.parametrize("norm_eval", [True, False])
def test_norm_eval_of_any_module(norm_eval):
    backbone = MODELS.build(dict(type="ModuleBackbone", module="timm/resnet10t", norm_eval=norm_eval)).train()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone(torch.randn(2, 3, 64, 64))[-1].sum().backward()
    changed = {key for key, value in backbone.state_dict().items() if not torch.equal(value, before[key])}
    assert bool(changed) != norm_eval
    assert all("running" in key or "num_batches" in key for key in changed)
    assert all(parameter.grad is not None for parameter in backbone.parameters())


# -- what the source expects of its images -----------------------------------------------------------------------------

STATED = {"channels": "bgr", "mean": "1,2,3", "std": "4,5,6", "value_range": "255"}
OWN = {"channels": "rgb", "mean": "123.675,116.28,103.53", "std": "58.395,57.12,57.375", "value_range": "255"}


def with_metadata(config: dict[str, Any], source: Any, folder: Any, metadata: dict[str, str]) -> dict[str, Any]:
    save_weights(load_weights(source), folder / "stated.safetensors", metadata)
    config["backbone"]["init_cfg"]["checkpoint"] = str(folder / "stated.safetensors")
    return config


def test_teacher_gets_what_its_file_states(tmp_path, model_config, source):
    """From the student's RGB tensor back to pixels, and from there to the BGR of the metadata."""
    model = MODELS.build(with_metadata(model_config, source, tmp_path, STATED))
    with pytest.warns(UserWarning, match=r"preprocessor makes .*123\.675.*stated.safetensors says .*mean=\(1"):
        model.init_weights()
    pixels = 255 * torch.rand(1, 3, 8, 8)
    student = pixels - torch.tensor([123.675, 116.28, 103.53])[:, None, None]
    student /= torch.tensor([58.395, 57.12, 57.375])[:, None, None]
    teacher = pixels.flip(1) - torch.tensor([1.0, 2, 3])[:, None, None]
    teacher /= torch.tensor([4.0, 5, 6])[:, None, None]
    torch.testing.assert_close(model.regularizer.teacher.adapter(student), teacher)


@pytest.mark.filterwarnings("ignore:the data preprocessor makes")
def test_a_copy_from_before_converts_too(tmp_path, model_config, source):
    """EMA copies the model before its weights are read."""
    model = MODELS.build(with_metadata(model_config, source, tmp_path, STATED))
    copied = copy.deepcopy(model)
    model.init_weights()
    images = torch.rand(1, 3, 32, 32)
    converted = [each.regularizer.teacher.prepared(images) for each in (copied, model)]
    assert not torch.equal(converted[0], images)
    assert torch.equal(*converted)


@pytest.mark.parametrize("metadata", [{}, OWN])
def test_no_conversion_where_the_file_states_nothing_else(tmp_path, recwarn, model_config, source, metadata):
    model = MODELS.build(with_metadata(model_config, source, tmp_path, metadata))
    model.init_weights()
    assert model.regularizer.teacher.adapter is None
    assert not [w for w in recwarn if "source expects" in str(w.message)]


def test_config_that_contradicts_the_file(tmp_path, model_config, source):
    model_config["teacher"]["input"] = dict(mean=[0, 0, 0], std=[1, 1, 1], value_range=255)
    model = MODELS.build(with_metadata(model_config, source, tmp_path, STATED))
    with pytest.warns(UserWarning, match=r"teacher.input is .*but .*stated.safetensors says .*the config's is used"):
        model.init_weights()
    assert model.regularizer.teacher.adapter.teacher.std == [1, 1, 1]


def test_timm_states_the_convention_of_its_pretrained_models(model_config, timm_file):
    config = {**model_config, "backbone": timm_backbone(timm_file), "teacher": dict(type="FrozenTeacher")}
    config["backbone"]["kwargs"]["pretrained_cfg_overlay"] |= dict(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    config["terms"] = [{**model_config["terms"][1], "student": "backbone.net.layer4", "teacher": "backbone.net.layer4"}]
    model = MODELS.build(config)
    with pytest.warns(UserWarning, match=r"timm says .*0\.5"):
        model.init_weights()
    white = (255 - torch.tensor([123.675, 116.28, 103.53])) / torch.tensor([58.395, 57.12, 57.375])
    adapted = model.regularizer.teacher.adapter(white.view(1, 3, 1, 1))
    torch.testing.assert_close(adapted, torch.ones(1, 3, 1, 1))
