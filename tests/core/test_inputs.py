from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from xtask_reg import InputAdapter, InputConvention

IMAGENET = InputConvention()
IMAGENET_255 = InputConvention(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), value_range=255)
BGR_255 = InputConvention(mean=(91.4953, 103.8827, 131.0912), std=(1, 1, 1), channels="bgr", value_range=255)
RGB_255 = InputConvention(mean=(131.0912, 103.8827, 91.4953), std=(1, 1, 1), value_range=255)
RAW_01 = InputConvention(mean=(0, 0, 0), std=(1, 1, 1))
RAW_BGR = InputConvention(mean=(0, 0, 0), std=(1, 1, 1), channels="bgr", value_range=255)
CONVENTIONS = {name: value for name, value in globals().items() if isinstance(value, InputConvention)}


def as_expected_by(convention: InputConvention, pixels: np.ndarray) -> np.ndarray:
    """What a network of this convention is given for 8-bit RGB ``pixels`` (images, height, width, 3)."""
    result = np.zeros((len(pixels), 3, *pixels.shape[1:3]))
    for channel, letter in enumerate(convention.channels):
        values = pixels[..., "rgb".index(letter)].astype(np.float64) / 255 * convention.value_range
        result[:, channel] = (values - convention.mean[channel]) / convention.std[channel]
    return result


def resized(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear with the triangle widened when reducing (antialiasing), pixel centres at half integers."""

    def weights(old: int, new: int) -> np.ndarray:
        matrix = np.zeros((new, old))
        scale = old / new
        for row in range(new):
            for column in range(old):
                distance = abs((column + 0.5) - (row + 0.5) * scale) / max(scale, 1)
                matrix[row, column] = max(0.0, 1 - distance)
        return matrix / matrix.sum(axis=1, keepdims=True)

    return np.einsum("yh,xw,nchw->ncyx", weights(images.shape[2], size[0]), weights(images.shape[3], size[1]), images)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(2, 6, 9, 3), dtype=np.uint8)


@pytest.mark.parametrize("teacher", CONVENTIONS)
@pytest.mark.parametrize("student", CONVENTIONS)
def test_conversion_against_numpy(student: str, teacher: str, pixels: np.ndarray) -> None:
    one, other = CONVENTIONS[student], CONVENTIONS[teacher]
    images = torch.from_numpy(as_expected_by(one, pixels)).float()
    converted = InputAdapter(one, other)(images)
    assert converted.dtype == torch.float32
    np.testing.assert_allclose(converted.numpy(), as_expected_by(other, pixels), rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("size", [(12, 18), (3, 4), (6, 3), (5, 20), (1, 1)])
def test_size_against_numpy(size: tuple[int, int], pixels: np.ndarray) -> None:
    adapter = InputAdapter(
        IMAGENET, InputConvention(channels="bgr", mean=IMAGENET.mean[::-1], std=IMAGENET.std[::-1], size=size)
    )
    images = torch.from_numpy(as_expected_by(IMAGENET, pixels)).float()
    expected = resized(as_expected_by(IMAGENET, pixels)[:, ::-1], size)
    np.testing.assert_allclose(adapter(images).numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        *[(convention, convention) for convention in CONVENTIONS.values()],
        (IMAGENET, IMAGENET_255),
        (IMAGENET_255, IMAGENET),
        (IMAGENET, InputConvention(size=(6, 9))),
        (InputConvention(size=(32, 32)), IMAGENET),
    ],
)
def test_same_convention_returns_the_very_same_tensor(student: InputConvention, teacher: InputConvention) -> None:
    images = torch.randn(2, 3, 6, 9)
    before = images.clone()
    assert InputAdapter(student, teacher)(images) is images
    assert torch.equal(images, before)


def test_only_the_size_differs(pixels: np.ndarray) -> None:
    images = torch.randn(2, 3, 6, 9)
    converted = InputAdapter(IMAGENET, InputConvention(size=(3, 3)))(images)
    np.testing.assert_allclose(converted.numpy(), resized(images.double().numpy(), (3, 3)), atol=1e-5)


@pytest.mark.parametrize(("student", "teacher"), [(IMAGENET, BGR_255), (BGR_255, RGB_255), (RAW_01, IMAGENET)])
def test_student_s_images_are_not_changed(student: InputConvention, teacher: InputConvention) -> None:
    images = torch.randn(2, 3, 6, 9)
    before = images.clone()
    InputAdapter(student, teacher)(images)
    assert torch.equal(images, before)


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 1, 8, 8), (2, 4, 8, 8), (2, 3, 8), (2, 8, 8, 3)])
@pytest.mark.parametrize("teacher", [IMAGENET, RAW_BGR])
def test_images_of_another_shape_are_named(shape: tuple[int, ...], teacher: InputConvention) -> None:
    with pytest.raises(ValueError, match=r"expected \(images, 3, height, width\)") as error:
        InputAdapter(IMAGENET, teacher)(torch.ones(shape))
    assert str(shape) in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"channels": "RGB"}, "'RGB'"),
        ({"channels": "grb"}, "'grb'"),
        ({"mean": (0.5,)}, r"\(0.5,\)"),
        ({"std": (1, 1, 1, 1)}, r"\(1, 1, 1, 1\)"),
        ({"std": (0.2, 0, 0.2)}, r"\(0.2, 0, 0.2\)"),
        ({"std": (0.2, -1, 0.2)}, r"\(0.2, -1, 0.2\)"),
        ({"std": (0.2, math.nan, 0.2)}, "nan"),
        ({"std": (math.nan, 0.2, 0.2)}, "nan"),
        ({"mean": (math.nan, 0, 0)}, "nan"),
        ({"mean": (0, math.inf, 0)}, "inf"),
        ({"value_range": 0}, "value_range=0"),
        ({"value_range": -255}, "value_range=-255"),
        ({"value_range": math.inf}, "value_range=inf"),
        ({"value_range": math.nan}, "value_range=nan"),
        ({"value_range": (0, 255)}, r"value_range=\(0, 255\); expected the value of a white pixel, 255 or 1"),
        ({"mean": 0.5, "std": 0.5}, "mean=0.5 and std=0.5 must have three values"),
        ({"mean": ("a", "b", "c")}, r"mean=\('a', 'b', 'c'\) and std=.* must have three values"),
        ({"size": (0, 224)}, r"\(0, 224\)"),
        ({"size": (224,)}, r"\(224,\)"),
        ({"size": (1, 2, 3)}, r"\(1, 2, 3\)"),
        ({"size": (224.5, 224)}, r"\(224.5, 224\); expected height and width in pixels, whole numbers above 0"),
        ({"size": 224}, "size=224; expected height and width"),
    ],
)
def test_bad_convention_is_named(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        InputConvention(**arguments)


def test_works_in_half_precision_of_its_owner() -> None:
    adapter = InputAdapter(IMAGENET, BGR_255).half()
    images = torch.randn(1, 3, 4, 4)
    assert adapter(images.half()).dtype == torch.float16
    torch.testing.assert_close(
        adapter(images.half()).float(), InputAdapter(IMAGENET, BGR_255)(images), rtol=0.01, atol=0.5
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.uint8])
@pytest.mark.parametrize("size", [(3, 4), (12, 18)])
def test_size_in_any_precision(dtype: torch.dtype, size: tuple[int, int]) -> None:
    images = torch.randint(0, 255, (2, 3, 6, 9)).to(dtype)
    adapted = InputAdapter(RAW_BGR, replace(RAW_BGR, size=size))(images)
    exact = torch.nn.functional.interpolate(images.double(), size, mode="bilinear", antialias=True)
    assert adapted.dtype == dtype
    assert torch.allclose(adapted.double(), exact, rtol=2**-7, atol=1)
