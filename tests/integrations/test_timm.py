"""timm's metadata about its models, and training with them."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

import xtask_reg as xr
from xtask_reg.integrations.timm import feature_stages, input_convention

STAGES = {
    "resnet10t": (["act1", "layer1", "layer2", "layer3", "layer4"], (0.485, 0.456, 0.406)),
    "tf_efficientnet_lite0": (["blocks.0", "blocks.1", "blocks.2", "blocks.4", "blocks.6"], (0.5, 0.5, 0.5)),
    "convnext_atto": (["stages.0", "stages.1", "stages.2", "stages.3"], (0.485, 0.456, 0.406)),
    "edgenext_xx_small": (["stages.0", "stages.1", "stages.2", "stages.3"], (0.485, 0.456, 0.406)),
    "vit_tiny_patch16_224": ([f"blocks.{number}" for number in range(12)], (0.5, 0.5, 0.5)),
    "swin_tiny_patch4_window7_224": (["layers.0", "layers.1", "layers.2", "layers.3"], (0.485, 0.456, 0.406)),
}
FIXED = {"vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"}


@pytest.mark.parametrize("name", STAGES)
def test_stages_and_convention(name):
    model = timm.create_model(name)
    stages, mean = STAGES[name]
    assert feature_stages(model) == stages
    convention = input_convention(model)
    assert convention.mean == mean
    assert (convention.channels, convention.value_range) == ("rgb", 1.0)
    assert convention.size == ((224, 224) if name in FIXED else None)


@pytest.mark.parametrize("chosen", [{}, {"out_indices": (1, 3)}], ids=str)
@pytest.mark.parametrize(
    "name", ["resnet10t", "tf_efficientnet_lite0", "convnext_atto", "edgenext_xx_small", "vit_tiny_patch16_224"]
)
def test_stages_of_features_only_are_the_maps_it_returns(name, chosen):
    size = {"img_size": 64} if name in FIXED else {}
    model = timm.create_model(name, features_only=True, **size, **chosen).eval()
    taps: dict[str, torch.Tensor] = {}
    for stage in feature_stages(model):
        model.get_submodule(stage).register_forward_hook(
            lambda _, __, output, stage=stage: taps.update({stage: output})
        )
    maps = model(torch.rand(1, 3, 64, 64))
    for stage, feature in zip(feature_stages(model), maps, strict=True):
        tap = xr.TokensToMap()(taps[stage]) if name in FIXED else taps[stage]
        assert torch.equal(tap, feature)
    assert input_convention(model) == input_convention(timm.create_model(name, **size))


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("vit_tiny_patch16_224", {"img_size": 64}, (64, 64)),
        ("vit_tiny_patch16_224", {"img_size": (64, 96)}, (64, 96)),
        ("vit_tiny_patch16_224", {"dynamic_img_size": True}, None),
        ("swin_tiny_patch4_window7_224", {"img_size": 112}, (112, 112)),
        ("swin_tiny_patch4_window7_224", {"strict_img_size": False}, None),
        ("coatnet_nano_rw_224", {}, (224, 224)),
    ],
)
@pytest.mark.parametrize("features_only", [False, True])
def test_the_size_is_the_only_one_that_the_model_takes(name, options, size, features_only):
    model = timm.create_model(name, features_only=features_only, **options).eval()
    assert input_convention(model).size == size
    with torch.no_grad():
        model(torch.zeros(1, 3, *(size or (112, 160))))
        if size is not None:
            with pytest.raises(Exception, match=r"(?i)size|match|invalid|height|width"):
                model(torch.zeros(1, 3, 112, 160))


def test_not_of_timm():
    with pytest.raises(ValueError, match="Linear has no pretrained_cfg with mean and std: it is not a timm model"):
        input_convention(nn.Linear(1, 1))
    with pytest.raises(ValueError, match="Linear has no feature_info that names its modules"):
        feature_stages(nn.Linear(1, 1))


def test_swin_with_its_channels_first():
    """The maps that timm returns as (B, C, H, W)."""
    model = timm.create_model("swin_tiny_patch4_window7_224", img_size=112).eval()
    images = torch.rand(1, 3, 112, 112)
    with torch.no_grad():
        maps = model.forward_intermediates(images, output_fmt="NCHW", intermediates_only=True)
    taps = xr.FrozenTeacher(model).features(images, xr.find_stages(model))
    for tap, feature in zip(taps.values(), maps, strict=True):
        assert torch.equal(xr.ChannelsFirst()(tap), feature)


def test_the_teacher_gets_its_own_convention():
    """A white image is (1 - mean) / std: the source's, whatever the student's."""
    student, source = timm.create_model("resnet10t"), timm.create_model("tf_efficientnet_lite0")
    adapter = xr.InputAdapter(student=input_convention(student), teacher=input_convention(source))
    own = input_convention(student)
    white = ((1 - torch.tensor(own.mean)) / torch.tensor(own.std))[None, :, None, None].expand(1, 3, 8, 8)
    torch.testing.assert_close(adapter(white), torch.ones(1, 3, 8, 8))
