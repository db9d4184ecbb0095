"""Encoders of segmentation_models_pytorch: their taps, a source's weights in them, their input conventions."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from segmentation_models_pytorch.encoders import get_encoder, preprocess_input
from torch import nn

import xtask_reg as xr
from xtask_reg.inputs import PIXELS
from xtask_reg.integrations.smp import input_convention, load_encoder

ARCHITECTURES = ("Unet", "FPN", "DeepLabV3Plus")
TAPS = {
    "resnet18": "layer4",
    "efficientnet-b0": "_blocks.15",
    "tu-resnet18": "model.layer4",
    "tu-convnext_atto": "model.stages_3",
    "tu-tf_efficientnet_lite0": "model.blocks.6",
    "timm-mobilenetv3_small_100": "model.blocks.5",
}
IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def made(architecture: str, encoder: str, **kwargs: Any) -> nn.Module:
    torch.manual_seed(0)
    return smp.create_model(architecture, encoder, encoder_weights=None, classes=3, **kwargs)


def randomized(network: nn.Module, seed: int = 0) -> nn.Module:
    """Randomize running statistics and affine parameters as well, so that a missed one shows."""
    random = torch.Generator().manual_seed(seed)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.mul_(1 + 0.2 * torch.rand(tensor.shape, generator=random))
            tensor.add_(0.01 * torch.rand(tensor.shape, generator=random))
    return network.eval()


@pytest.mark.filterwarnings("ignore:`timm-` encoders:DeprecationWarning")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("encoder", "tap"), TAPS.items())
def test_the_last_stage_is_what_the_decoder_gets_last(architecture: str, encoder: str, tap: str) -> None:
    model = randomized(made(architecture, encoder))
    source = xr.FrozenTeacher(copy.deepcopy(model.encoder))
    (term,) = xr.shorthand(model, source, "ctd-ed")
    assert (term.student, term.teacher) == (f"encoder.{tap}", tap)
    with torch.no_grad():
        expected = model.encoder(IMAGES)[-1]
    torch.testing.assert_close(source.features(IMAGES, [tap])[tap], expected)
    torch.testing.assert_close(xr.FrozenTeacher(model).features(IMAGES, [term.student])[term.student], expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_step_keeps_the_encoder_near_its_copy(architecture: str) -> None:
    model = made(architecture, "resnet18").eval()
    keep = xr.ctd(model, copy.deepcopy(model.encoder), "ctd-ed", weight=1.0, quiet=True)
    keys = list(model.state_dict())
    model(IMAGES)
    assert keep()["ctd_ed"].item() == pytest.approx(0, abs=1e-5)  # the same network, in the same mode
    with torch.no_grad():
        model.encoder.layer4[1].bn2.bias.add_(torch.linspace(-1, 1, 512))
    model(IMAGES)
    value = keep()["ctd_ed"]
    value.backward()
    assert value.item() > 1e-2
    assert model.encoder.conv1.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.decoder.parameters())
    assert list(model.state_dict()) == keys


@pytest.mark.parametrize("architecture", ["Unet", "FPN"])
def test_a_classifier_with_the_same_encoder_can_be_the_teacher(architecture: str) -> None:
    source = torchvision.models.resnet18(num_classes=7)
    terms = xr.shorthand(made(architecture, "resnet18"), source, "ctd-com")
    assert [(term.student, term.teacher) for term in terms] == [("encoder.layer4", "fc"), ("encoder.layer4", "layer4")]


def test_the_encoder_itself_as_teacher_is_refused() -> None:
    model = made("Unet", "resnet18")
    with pytest.raises(ValueError, match="give one of them a copy"):
        xr.ctd(model, model.encoder, quiet=True)


def test_torchvision_weights_make_the_encoder_the_source() -> None:
    source = randomized(torchvision.models.resnet18(num_classes=7))
    weights = source.state_dict()
    model = made("Unet", "resnet18").eval()
    load_encoder(model.encoder, weights)
    assert "fc.weight" in weights
    with torch.no_grad():
        features = source.maxpool(source.relu(source.bn1(source.conv1(IMAGES))))
        for stage in (source.layer1, source.layer2, source.layer3, source.layer4):
            features = stage(features)
        torch.testing.assert_close(model.encoder(IMAGES)[-1], features)


@pytest.mark.parametrize(
    ("name", "ignore"),
    [
        ("resnet18", ("fc.",)),
        ("convnext_atto", ("head.",)),  # stages_0 for stages.0
        ("mobilenetv3_small_100", ("conv_head.", "classifier.")),
        ("regnetx_002", ("head.",)),
    ],
)
def test_timm_weights_make_a_tu_encoder_the_source(name: str, ignore: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    source = randomized(timm.create_model(name))
    encoder = get_encoder(f"tu-{name}").eval()
    load_encoder(encoder, source.state_dict(), ignore=ignore)
    with torch.no_grad():
        torch.testing.assert_close(encoder(IMAGES)[-1], source.forward_features(IMAGES))


def test_timm_weights_of_named_parts_are_flattened_too() -> None:
    """``features_conv0`` for ``features.conv0``, in a DenseNet."""
    small = {"block_config": (1, 1, 1, 1), "growth_rate": 8}
    source = randomized(timm.create_model("densenet121", **small))
    encoder = get_encoder("tu-densenet121", **small).eval()
    load_encoder(encoder, source.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(encoder(IMAGES)[-1], source.forward_features(IMAGES))


@pytest.mark.parametrize(("encoder", "prefix"), [("resnet18", "encoder."), ("tu-convnext_atto", "encoder.model.")])
def test_the_checkpoint_of_a_segmentation_network_fills_another(encoder: str, prefix: str) -> None:
    source, model = randomized(made("FPN", encoder)), made("Unet", encoder).eval()
    load_encoder(model.encoder, source.state_dict(), prefix=prefix)
    with torch.no_grad():
        torch.testing.assert_close(model.encoder(IMAGES)[-1], source.encoder(IMAGES)[-1])


@pytest.mark.parametrize(
    ("weights", "options", "message"),
    [
        (lambda: torchvision.models.resnet34().state_dict(), {}, "96 extra.*layer1.2.conv1.weight"),
        (lambda: torchvision.models.resnet50().state_dict(), {}, "of another shape"),
        (lambda: torchvision.models.resnet18().state_dict(), {"ignore": ()}, "2 extra.*fc.weight, fc.bias"),
        (lambda: torchvision.models.resnet18().state_dict(), {"ignore": "layer4"}, "missing: layer4"),
        (lambda: made("FPN", "resnet18").state_dict(), {}, "prefix='encoder.' would fit"),
        (lambda: made("FPN", "resnet18").state_dict(), {"prefix": "decoder."}, r"weights.pt \(prefix 'decoder.'\)"),
    ],
)
def test_weights_that_do_not_cover_the_encoder_change_nothing(weights: Any, options: Any, message: str) -> None:
    encoder = get_encoder("resnet18")
    before = copy.deepcopy(encoder.state_dict())
    with pytest.raises(ValueError, match=message):
        load_encoder(encoder, weights(), name="weights.pt", **options)
    assert all(torch.equal(tensor, before[key]) for key, tensor in encoder.state_dict().items())


@pytest.mark.parametrize(
    ("encoder", "exact"),
    [("tu-resnet18", True), ("tu-mobilenetv2_100", True), ("resnet18", False), ("mobilenet_v2", False)],
)
def test_which_encoders_keep_the_sources_maps_when_dilated(encoder: str, exact: bool) -> None:
    """As docs/smp.md says of DeepLabV3+: away from the border, every second cell equals the undilated map's, or not."""
    torch.manual_seed(0)
    plain = get_encoder(encoder).eval()
    dilated = get_encoder(encoder, output_stride=16).eval()
    dilated.load_state_dict(plain.state_dict())
    images = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        one, other = plain(images)[-1], dilated(images)[-1][:, :, ::2, ::2]
    difference = ((one - other)[..., 3:5, 3:5].norm() / one[..., 3:5, 3:5].norm()).item()
    assert difference < 1e-4 if exact else difference > 1e-2


PARAMS = {"input_space": "BGR", "input_range": [0, 255], "mean": [91.5, 103.9, 131.1], "std": [1, 2, 3]}


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18", "tu-tf_efficientnet_lite0", "stated"])
def test_images_become_what_smp_itself_makes_of_them(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*arguments: Any, **kwargs: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(smp.encoders, "hf_hub_download", offline)
    if encoder == "stated":
        monkeypatch.setattr("xtask_reg.integrations.smp.inputs.get_preprocessing_params", lambda *names: PARAMS)
    params = PARAMS if encoder == "stated" else smp.encoders.get_preprocessing_params(encoder)
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.float64)
    adapter = xr.InputAdapter(PIXELS, input_convention(encoder))
    ours = adapter(torch.from_numpy(image).permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    np.testing.assert_allclose(ours, preprocess_input(image, **params), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("names", "message"),
    [(("resnet17",), "'resnet17'"), (("resnet18", "faces"), "imagenet"), (("tu-resnet17",), "resnet17")],
)
def test_unknown_weights_are_refused(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        input_convention(*names)
