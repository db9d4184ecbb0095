"""Other events between and within training steps: no stale tap, no leak, no hidden effect."""

from __future__ import annotations

import copy
import gc
import warnings
import weakref

import pytest
import torch
from torch import nn

import xtask_reg as xr


def validate(model, images) -> None:
    model.eval()
    with torch.no_grad():
        model.student(images)
    model.train()


def infer(model, images) -> None:
    with torch.inference_mode():
        model.student(images.clone())


def predict_with_gradients(model, images) -> None:
    model.eval()
    model.student(images)
    model.train()


def monitor(model, images) -> None:
    with torch.no_grad():
        model(images)


def failing(module: nn.Module, error: BaseException, call, *args) -> None:
    """Calls something in which a module raises an error after it has run."""

    def fail(*unused) -> None:
        raise error

    handle = module.register_forward_hook(fail)
    try:
        with pytest.raises(type(error)):
            call(*args)
    finally:
        handle.remove()


BETWEEN = {
    "validation": validate,
    "inference_mode": infer,
    "predict with gradients": predict_with_gradients,
    "terms monitored without gradients": monitor,
    "exception before the tap": lambda m, x: failing(m.student.layer1, OSError(), m, x),
    "exception behind the tap": lambda m, x: failing(m.student.fc, OSError(), m.student, x),
    "interrupted behind the tap": lambda m, x: failing(m.student.fc, KeyboardInterrupt(), m, x),
    "exception in the teacher": lambda m, x: failing(m.regularizer.teacher.network.layer2, OSError(), m, x),
    "exception in a loss": lambda m, x: failing(m.regularizer.terms["ed"].loss, OSError(), m, x),
    "a part of the student alone": lambda m, x: m.student.layer2(torch.randn(2, 6, 4, 4)),
}


@pytest.mark.parametrize("what", BETWEEN)
def test_next_step_is_right_and_nothing_is_left(model, images, expected, numbers, seeded, step, what) -> None:
    """A validation or an exception leaves a stale tap, which the next step reads."""
    step(model, images)
    others = torch.randn(6, 3, 8, 8)
    BETWEEN[what](model, others)
    wanted = expected(model, images)
    _, losses = seeded(model, images)
    assert numbers(losses) == wanted
    assert all(loss.requires_grad for loss in losses.values())
    kept = weakref.ref(others)
    del others
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize("what", [what for what in BETWEEN if what != "predict with gradients"])
def test_terms_without_a_new_step(model, images, step, what) -> None:
    """The terms are read after a call that is not a training step, and come from an older one."""
    step(model, images)
    BETWEEN[what](model, torch.randn(6, 3, 8, 8))
    with pytest.raises(xr.TapError, match="did not fire|ran without gradients|has not ended"):
        model.regularizer()


@pytest.mark.parametrize("faults", [False, True])
def test_memory_is_flat(model, images, step, faults) -> None:
    """Taps, graphs or hooks pile up over 200 steps, or when every third step raises."""

    def tensors() -> tuple[int, int, int]:
        gc.collect()
        found = [each for each in gc.get_objects() if type(each) in (torch.Tensor, nn.Parameter)]
        hooks = sum(len(each._forward_hooks) + len(each._forward_pre_hooks) for each in all_modules)
        return len(found), sum(each.nbytes for each in found if each.layout == torch.strided), hooks

    all_modules = [*model.modules(), *model.regularizer.teacher.network.modules()]
    where = [model.student.fc, model.regularizer.teacher.network.layer2, model.regularizer.terms["cd"].loss]
    for _ in range(3):  # the checks of the first steps
        step(model, images)
    before = tensors()
    for count in range(200):
        if faults and count % 3 == 1:  # the last step, too
            failing(where[count // 3 % 3], RuntimeError("out of memory"), step, model, images)
        else:
            step(model, images)
    assert tensors() == before


class Unusable(nn.Module):
    """A source that must not run."""

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self.layer2, self.fc = source.layer2, source.fc

    def forward(self, images):
        raise AssertionError("the teacher ran")


@pytest.mark.parametrize("when", ["built with 0", "set to 0"])
def test_all_weights_0_are_plain_fine_tuning(resnet, images, terms, when) -> None:
    """Terms of weight 0 still cost a teacher's pass or change the training: here it is bitwise fine-tuning."""

    def train(student: nn.Module, reg: xr.CrossTaskRegularizer | None) -> tuple[dict, torch.Tensor]:
        torch.manual_seed(1)
        optimizer = torch.optim.Adam([*student.parameters(), *(reg.parameters() if reg else ())], lr=0.01)
        for _ in range(3):
            task = student.train()(torch.randn(4, 3, 16, 12)).square().mean()
            optimizer.zero_grad()
            (task + sum(reg().values()) if reg else task).backward()
            optimizer.step()
        return student.state_dict(), torch.get_rng_state()

    student, source = resnet(2), resnet()
    wanted = train(copy.deepcopy(student), None)
    given = terms(source)
    for term in given:
        term.set_weight(0.0 if when == "built with 0" else term.weight)
    reg = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(Unusable(source)), given)
    for name in reg.terms:
        reg.set_weight(name, 0)
    torch.testing.assert_close(train(student, reg), wanted, rtol=0, atol=0)


FROZEN = {
    "FE": (["conv1", "bn1", "layer1", "layer2"], [], True),
    "FTP": (["conv1", "bn1", "layer1", "layer2"], ["layer2"], False),
    "FE by requires_grad": (["conv1", "bn1", "layer1", "layer2"], None, True),
    "stem": (["conv1", "bn1"], [], False),
}


@pytest.mark.parametrize("how", FROZEN)
def test_term_on_a_frozen_layer_warns(model, images, how) -> None:
    """A term on a layer that does not train costs time and does nothing: here each such term says so, once."""
    paths, but, warned = FROZEN[how]
    if but is None:
        for path in paths:
            model.student.get_submodule(path).requires_grad_(False)
    else:
        xr.freeze(model.student, paths, but)
    for count in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model(images)
        messages = [str(each.message) for each in caught if "cannot act on the student" in str(each.message)]
        assert [name for name in ("ed", "cd") for text in messages if f"term '{name}'" in text] == (
            ["ed", "cd"] if warned and not count else []
        )
