"""Images of a subclass of Tensor, such as MONAI's MetaTensor and fastai's images: the same as with plain tensors.

After each operation on a subclass PyTorch makes an alias of the result, so that each output is a view.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import xtask_reg as xr

WEIGHTS = {"fixed": lambda: 0.5, "balanced": lambda: xr.Balanced(0.3, every=2)}


class Labelled(Tensor):
    """A tensor with an attribute, which the results of operations get as well."""

    file = "none"

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        result = super().__torch_function__(func, types, args, kwargs)
        if isinstance(result, Labelled):
            result.file = next((each.file for each in args if isinstance(each, Labelled)), "none")
        return result


def labelled(images: Tensor) -> Tensor:
    result = images.as_subclass(Labelled)
    result.file = "volume.nii"
    return result


class Turned(nn.Module):
    """Its tap gives a view of a convolution's output; optionally what it returns is then changed in place."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.conv, self.layer2 = nn.Conv2d(3, 4, 3), Turn()
        self.in_place = in_place

    def forward(self, images: Tensor) -> Tensor:
        turned = self.layer2(self.conv(images))
        return turned.relu_() if self.in_place else turned.relu()


class Turn(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.transpose(2, 3)


class Averaged(nn.Module):
    """Its tap gives the second output of an operation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.layer2 = nn.Conv2d(3, 4, 3), Mean()

    def forward(self, images: Tensor) -> Tensor:
        return self.layer2(self.conv(images)).exp()


class Mean(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return torch.std_mean(features, dim=1, keepdim=True)[1]


STUDENTS = {
    "in place": lambda net: net(2, norm=False),
    "not in place": lambda net: net(2, norm=False, inplace=False),
    "view": lambda net: Turned(in_place=False),
    "second output": lambda net: Averaged(),
}
CASES = [(kind, False) for kind in STUDENTS] + [("not in place", True), ("second output", True)]


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize(("kind", "given"), CASES)
def test_losses_gradients_and_measurements_are_those_of_plain_tensors(
    net: Callable[..., nn.Module], ed: Callable[..., xr.Term], kind: str, given: bool, weight: str
) -> None:
    def run(wrap: Callable[[Tensor], Tensor]) -> list[Tensor]:
        torch.manual_seed(1)
        student, source = STUDENTS[kind](net), STUDENTS[kind](net)
        term, taps = ed(weight=WEIGHTS[weight]()), {}
        if given:
            student.layer2.register_forward_hook(lambda module, args, output: taps.update(layer2=output))
            keep = xr.CrossTaskRegularizer(None, xr.FrozenTeacher(source), [term])
        else:
            keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [term], xr.Monitor(stages=["layer2"]))
        optimizer, found = torch.optim.SGD(student.parameters(), lr=0.01), []
        for _ in range(8):
            images = wrap(torch.randn(2, 3, 9, 9))
            output = student(images)
            terms = keep(images, features=taps) if given else keep()
            optimizer.zero_grad()
            ((output - 1).square().mean() + terms["ed"]).backward()
            optimizer.step()
            found += [terms["ed"], *(parameter.grad for parameter in student.parameters())]
            found += map(torch.tensor, keep.report.values())
        assert type(output) is type(images)
        assert type(terms["ed"]) is Tensor
        assert terms["ed"].item() > 0
        return found

    found, expected = run(labelled), run(lambda images: images)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)


def test_the_ratio_is_that_of_the_gradients_at_the_tap(
    net: Callable[..., nn.Module], ed: Callable[..., xr.Term]
) -> None:
    """Differentiated by hand, of a tap whose output is then changed in place."""
    student, source, images = net(2, norm=False), net(norm=False), torch.randn(2, 3, 9, 11)
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [ed(weight=0.5)], xr.Monitor(stages=["layer2"]))
    output = student(labelled(images))
    (output.square().mean() + keep()["ed"]).backward()

    first = student.layer1(images)
    tap = student.layer2(first.relu())
    task = student.fc(tap.relu().mean(dim=(2, 3))).square().mean()
    target = source.layer2(source.layer1(images).relu())
    term = 0.5 * (1 - torch.cosine_similarity(tap.flatten(1), target.flatten(1)).mean())
    own, rest = (torch.autograd.grad(each, tap, retain_graph=True)[0].norm().item() for each in (term, task))
    assert keep.report["ratio/ed"] == pytest.approx(own / rest, rel=1e-4)


def test_a_view_that_is_changed_in_place_is_refused(ed: Callable[..., xr.Term]) -> None:
    student = Turned(in_place=True)
    source = xr.FrozenTeacher(Turned(in_place=True))
    keep = xr.CrossTaskRegularizer(student, source, [ed(weight=xr.Balanced(0.3))])
    student(labelled(torch.randn(2, 3, 9, 9)))
    with pytest.raises(xr.TapError, match="gives a view that is changed in place after it"):
        keep()


@pytest.mark.parametrize("leaf", [False, True], ids=["images", "images with a gradient"])
def test_a_tap_that_returns_the_images_themselves(ed: Callable[..., xr.Term], leaf: bool) -> None:
    student = nn.Sequential(nn.Identity(), nn.Conv2d(3, 1, 3))
    term = xr.Term(xr.HintLoss(), student="0", teacher="0", weight=1.0, name="hint")
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(nn.Sequential(nn.Dropout(0.0))), [term])
    images = labelled(torch.randn(2, 3, 9, 9)).requires_grad_(leaf)
    student(images)
    assert keep(images.detach() + 1)["hint"].item() == pytest.approx(0.5)


def test_the_teachers_features_are_plain(net: Callable[..., nn.Module], images: Tensor) -> None:
    teacher = xr.FrozenTeacher(net())
    expected = teacher.features(images, ["layer2"])["layer2"]
    for _ in range(2):  # a whole pass, and one that ends at the tap
        found = teacher.features(labelled(images), ["layer2"])["layer2"]
        assert type(found) is Tensor
        assert torch.equal(found, expected)
