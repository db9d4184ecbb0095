"""Networks of transformers as student and source, compared with the hidden states that they return."""

from __future__ import annotations

import doctest
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch import Tensor, nn
from transformers import ViTConfig, ViTForImageClassification, ViTMAEConfig, ViTMAEModel

import xtask_reg as xr
from xtask_reg.integrations.huggingface import input_convention, inputs

LAST = "vit.layers.2"
SIZES = dict(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32)
SIZES |= dict(image_size=32, patch_size=8)
IMAGES, LABELS = torch.randn(2, 3, 32, 32), torch.tensor([0, 1])


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*unused: Any) -> None:
        raise AssertionError("a test asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    torch.manual_seed(0)


def vit(**settings: Any) -> ViTForImageClassification:
    return ViTForImageClassification(ViTConfig(**SIZES, num_labels=5, **settings))


def kept(student: nn.Module, source: nn.Module, **options: Any) -> xr.CrossTaskRegularizer:
    term = xr.Term(xr.CosineAlignmentLoss(), student=LAST, teacher=LAST, weight=2.0, name="ed")
    return xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [term], **options)


def first_weight(network: nn.Module) -> nn.Parameter:
    return network.vit.layers[0].mlp.fc1.weight


def expected(student: nn.Module, source: nn.Module) -> tuple[float, Tensor]:
    """The term and its gradient at the first layer, by the hidden states that the networks return."""
    last = [network(IMAGES, output_hidden_states=True).hidden_states[3].flatten(1) for network in (student, source)]
    cosines = [s @ t / s.norm() / t.norm() for s, t in zip(last[0], last[1].detach())]
    value = 2 * (1 - torch.stack(cosines).mean())
    return value.item(), torch.autograd.grad(value, first_weight(student))[0]


def check(student: nn.Module, found: dict[str, Tensor], value: float, gradient: Tensor) -> None:
    found["ed"].backward()
    assert found["ed"].item() == pytest.approx(value, rel=1e-5)
    torch.testing.assert_close(first_weight(student).grad, gradient)


CALLS: dict[str, Callable[[nn.Module], Any]] = {
    "positional": lambda net: net(IMAGES),
    "by keyword": lambda net: net(pixel_values=IMAGES),
    "with labels": lambda net: net(pixel_values=IMAGES, labels=LABELS),
    "labels first": lambda net: net(labels=LABELS, pixel_values=IMAGES),
    "hidden states": lambda net: net(pixel_values=IMAGES, output_hidden_states=True),
    "attentions": lambda net: net(pixel_values=IMAGES, output_attentions=True),
    "tuple": lambda net: net(pixel_values=IMAGES, return_dict=False),
    "interpolated positions": lambda net: net(pixel_values=IMAGES, interpolate_pos_encoding=True),
}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("call", CALLS)
def test_calls(call: str, attention: str) -> None:
    student, source = vit(attn_implementation="eager" if call == "attentions" else attention), vit()
    reference = expected(student, source)
    regularizer = kept(student, source)
    CALLS[call](student)
    check(student, regularizer(), *reference)


@pytest.mark.parametrize("reentrant", [None, True, False])
def test_gradient_checkpointing(reentrant: bool | None) -> None:
    """The layers run a second time in the backward pass."""
    student, source = vit().train(), vit()
    reference = expected(student, source)
    student.gradient_checkpointing_enable(*([] if reentrant is None else [{"use_reentrant": reentrant}]))
    regularizer = kept(student, source)
    for _ in range(2):
        student.zero_grad()
        student(pixel_values=IMAGES)
        check(student, regularizer(), *reference)


@pytest.mark.parametrize("monitored", [False, True])
def test_compiled(monitored: bool) -> None:
    student, source = vit(), vit()
    reference = expected(student, source)
    torch.compiler.reset()
    regularizer = kept(student, source, monitor=xr.Monitor(every=1) if monitored else None)
    torch.compile(student, backend="aot_eager")(labels=LABELS, pixel_values=IMAGES)
    check(student, regularizer(), *reference)
    if monitored:
        layers = {f"vit.layers.{number}" for number in range(3)}
        assert {key.removeprefix("cosine/") for key in regularizer.report if key.startswith("cosine/")} == layers
        assert regularizer.report[f"cosine/{LAST}"] == pytest.approx(1 - reference[0] / 2, abs=1e-5)


def test_half_precision() -> None:
    student, source = vit(), vit()
    value, _ = expected(student, source)
    regularizer = kept(student, source.to(torch.bfloat16))
    with torch.autocast("cpu", torch.bfloat16):
        student(pixel_values=IMAGES)
        (found,) = regularizer().values()
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(value, abs=0.05)


@pytest.mark.parametrize(("path", "kind"), [("vit", "BaseModelOutputWithPooling"), (f"{LAST}.attention", "tuple")])
def test_outputs_of_several_parts_are_named(path: str, kind: str) -> None:
    student = vit()
    term = xr.Term(xr.HintLoss(), student=path, teacher=LAST, weight=1.0, name="hint")
    regularizer = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(vit()), [term])
    student(pixel_values=IMAGES)
    with pytest.raises(xr.TapError, match=f"student tap '{path}' gave a {kind}; .* perhaps tap '{path}."):
        regularizer()


def test_checkpoints_are_those_of_the_student(tmp_path: Path) -> None:
    student = vit()
    kept(student, vit())
    student(pixel_values=IMAGES)
    student.save_pretrained(tmp_path)
    loaded = ViTForImageClassification.from_pretrained(tmp_path)
    assert loaded.state_dict().keys() == vit().state_dict().keys()
    assert torch.equal(first_weight(loaded), first_weight(student))


def test_masked_autoencoders_shuffle_their_patches() -> None:
    """The page's warning: two calls with the same images differ, even if no patch is masked."""
    network = ViTMAEModel(ViTMAEConfig(**SIZES, mask_ratio=0.0)).eval()
    one, other = (network(IMAGES).last_hidden_state for _ in range(2))
    assert not torch.allclose(one, other, atol=1e-3)
    np.testing.assert_allclose(one.detach().sort(1)[0], other.detach().sort(1)[0], atol=1e-4)


AS_THEY_ARE = dict(do_resize=False, do_center_crop=False)
PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("ViTImageProcessor", {}),
    "clip": ("CLIPImageProcessor", {}),
    "clip by PIL": ("CLIPImageProcessorPil", {}),
    "bgr, not normalized": ("MobileViTImageProcessor", {}),
    "divided twice": ("EfficientNetImageProcessor", {}),
    "with an offset": ("EfficientNetImageProcessor", dict(rescale_offset=True, include_top=False)),
    "not rescaled": ("ViTImageProcessor", dict(do_rescale=False, image_mean=[90.0, 100.0, 110.0])),
    "neither": ("ViTImageProcessor", dict(do_rescale=False, do_normalize=False)),
    "other range": ("ViTImageProcessor", dict(rescale_factor=1 / 127.5, image_mean=[1.0, 1.1, 1.2])),
}  # fmt: skip


@pytest.mark.parametrize("form", ["object", "within", "file"])
@pytest.mark.parametrize("name", PROCESSORS)
def test_teacher_is_given_what_the_processor_makes(name: str, form: str, tmp_path: Path) -> None:
    """From images in 0..1."""
    kind, settings = PROCESSORS[name]
    processor = getattr(transformers, kind)(**AS_THEY_ARE, **settings)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    made = torch.as_tensor(np.asarray(processor(Image.fromarray(pixels), return_tensors="np")["pixel_values"]))
    given = processor
    if form == "within":
        given = type("Processor", (), {"image_processor": processor})()
    elif form == "file":
        processor.save_pretrained(tmp_path)
        given = json.loads((tmp_path / "preprocessor_config.json").read_text())
        given.setdefault("do_normalize", None)  # files omit a step that is off
    plain = xr.InputConvention(mean=(0, 0, 0), std=(1, 1, 1))
    adapter = xr.InputAdapter(student=plain, teacher=input_convention(given))
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    torch.testing.assert_close(adapter(images), made.float(), rtol=1e-5, atol=1e-5)


def test_size_is_only_that_which_is_given() -> None:
    processor = transformers.ViTImageProcessor(size={"height": 48, "width": 64})
    assert input_convention(processor).size is None
    assert input_convention(processor, size=(32, 32)).size == (32, 32)
    source = vit()
    larger = torch.randn(2, 3, 48, 48)
    with pytest.raises(ValueError, match=r"48\*48.*32\*32"):
        xr.FrozenTeacher(source)(larger)
    needs = input_convention(processor, size=(32, 32))
    fits = xr.FrozenTeacher(source, xr.InputAdapter(student=input_convention(processor), teacher=needs))
    assert fits.features(larger, [LAST])[LAST].shape == (2, 17, 16)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "dict does not say whether it normalizes"),
        ({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}, "dict does not say whether it normalizes"),
        (vit, "function does not say whether it normalizes"),
        ({"do_normalize": True, "image_std": [0.5] * 3}, "there is no image_mean, but do_normalize"),
        ({"do_normalize": True, "image_mean": [0.5] * 3}, "there is no image_std, but do_normalize"),
        ({"do_normalize": False, "include_top": True}, "there is no image_std"),
        ({"do_normalize": True, "image_mean": [0.5], "image_std": [0.5]}, "must have three values"),
        ({"do_normalize": True, "image_mean": 0.5, "image_std": 0}, "positive"),
    ],
)
def test_settings_that_state_no_convention(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        input_convention(settings)


def test_one_number_is_that_of_all_channels() -> None:
    found = input_convention({"do_normalize": True, "image_mean": 0.4, "image_std": 0.2})
    assert (found.mean, found.std, found.value_range) == ((0.4,) * 3, (0.2,) * 3, 1)


@pytest.mark.parametrize(
    ("make", "config", "path"),
    [
        (transformers.EfficientNetModel, transformers.EfficientNetConfig, "encoder.top_activation"),
        (transformers.MobileNetV2Model, transformers.MobileNetV2Config, "conv_1x1"),
    ],
)
def test_networks_that_give_nothing_unless_they_are_trained(make: Any, config: Any, path: str) -> None:
    term = xr.Term(xr.CosineAlignmentLoss(), student=path, teacher=path, weight=1.0, name="ed")
    student, teacher = make(config()), xr.FrozenTeacher(make(config()))
    keep = xr.CrossTaskRegularizer(student, teacher, [term])
    student(pixel_values=torch.randn(2, 3, 64, 64))
    with pytest.warns(UserWarning, match="term 'ed': no feature of the teacher at .* say nothing about the images"):
        assert keep()["ed"].requires_grad


def test_example_runs() -> None:
    assert doctest.testmod(inputs).failed == 0
