"""Backbones that are not MMPose's own, and weights of source networks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmpose.registry import MODELS

from xtask_reg.sources import load_weights, save_weights


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    torch.testing.assert_close(dict(found), dict(expected), rtol=0, atol=0)


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
    """The constructor does not look at the file, ``init_weights`` refuses it."""
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
