"""Properties that Hinton et al. 2015 and Li & Hoiem 2016 state, and torch's own cross-entropy."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

from xtask_reg.losses.kd import kd_loss
from xtask_reg.losses.lwf import lwf_loss

LOGITS = 3 * torch.randn(2, 4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def gradient(loss: Tensor, student: Tensor) -> Tensor:
    return torch.autograd.grad(loss, student)[0]


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_gradient_is_that_of_the_cross_entropy(temperature: float) -> None:
    student, teacher = LOGITS[0].clone().requires_grad_(), LOGITS[1]
    printed = cross_entropy(student / temperature, (teacher / temperature).softmax(1))
    expected = gradient(printed, student)
    torch.testing.assert_close(gradient(lwf_loss(student, teacher, temperature), student), expected)
    distilled = gradient(kd_loss(student, teacher, temperature), student)
    torch.testing.assert_close(distilled, temperature**2 * expected)


def test_high_temperature_compares_the_logits() -> None:
    """Hinton et al., Sec. 2.1: the gradient tends to (z - v) / N for logits of mean 0; N classes, tau^2 included."""
    student, teacher = (logits - logits.mean(1, keepdim=True) for logits in LOGITS)
    student.requires_grad_()
    found = gradient(kd_loss(student, teacher, temperature=1e6, reduction="sum"), student)
    torch.testing.assert_close(found, (student - teacher) / 7, rtol=1e-4, atol=1e-5)


def test_constant_added_to_the_logits_does_not_matter() -> None:
    assert kd_loss(LOGITS[0] + 50, LOGITS[1] - 20).item() == pytest.approx(kd_loss(*LOGITS).item())


@pytest.mark.parametrize("classes", [10, 8631])
@pytest.mark.parametrize("difference", [0.01, 0.1])
@pytest.mark.parametrize("temperature", [1.0, 4.0, 8.0])
def test_small_divergence_keeps_its_digits(classes: int, difference: float, temperature: float) -> None:
    """A student close to its source, in float32, compared with torch's divergence of the float64 logits."""
    random = torch.Generator().manual_seed(0)
    teacher = 5 * torch.randn(4, classes, generator=random)
    student = teacher + difference * torch.randn(4, classes, generator=random)
    own, source = ((logits.double() / temperature).log_softmax(1) for logits in (student, teacher))
    expected = temperature**2 * kl_div(own, source, reduction="batchmean", log_target=True).item()
    assert kd_loss(student, teacher, temperature).item() == pytest.approx(expected, rel=0.03)
