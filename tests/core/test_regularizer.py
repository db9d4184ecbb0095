"""Which terms are built, their weights, and what the regularizer's construction must not change."""

from __future__ import annotations

import copy
import math
import random

import numpy as np
import pytest
import torch
from torch import nn

import xtask_reg as xr
from xtask_reg.submodules import find_module


class Unusable(nn.Module):
    """A source that must not run."""

    def __init__(self) -> None:
        super().__init__()
        self.layer2 = nn.Conv2d(3, 6, 1)
        self.fc = nn.Linear(6, 5)

    def forward(self, images):
        raise AssertionError("the teacher ran")


def build(student, source, *terms) -> xr.CrossTaskRegularizer:
    return xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), terms)


@pytest.mark.parametrize("terms", [(), ("ed",), ("ed", "cd")])
def test_terms_of_weight_0_are_not_built(net, ed, cd, images, terms) -> None:
    student, source = net(), Unusable()
    made = {"ed": ed(weight=0, student="no.such.path"), "cd": cd(source, weight=0)}
    reg = build(student, source, *(made[name] for name in terms))
    assert list(reg.parameters()) == []
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in student.modules())
    student(images)
    assert reg() == {}
    assert reg(images) == {}
    reg.remove()


def test_only_the_term_of_weight_0_is_left_out(net, ed, cd, images) -> None:
    student, source = net(2), net()
    reg = build(student, source, ed(weight=0), cd(source))
    student(images)
    assert list(reg()) == list(reg.terms) == ["cd"]


def fit(student: nn.Module, reg: xr.CrossTaskRegularizer | None) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Weights and random state after some steps on random data."""
    torch.manual_seed(5)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
    for _ in range(4):
        output = student(torch.randn(3, 3, 9, 9))
        losses = {"task": output.square().mean(), **(reg() if reg else {})}
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    return student.state_dict(), torch.get_rng_state()


def test_terms_take_no_random_numbers_from_the_student(net, ed, cd) -> None:
    """Regularized and plain training differ only by the gradient: dropout gets the same random numbers."""
    student, source = net(2), net()
    _, expected = fit(copy.deepcopy(student), None)
    _, state = fit(student, build(student, source, ed(), cd(source)))
    assert torch.equal(state, expected)


def test_building_takes_no_random_numbers(net, ed, cd) -> None:
    student, source = net(2), net()
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    build(student, source, ed(), cd(source))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert all(np.array_equal(one, other) for one, other in zip(np.random.get_state(), before[1], strict=True))
    assert random.getstate() == before[2]


def test_ended_term_keeps_its_connector_in_the_graph_and_the_teacher_rests(net, ed, cd, images) -> None:
    student, source = net(2), net()
    reg = build(student, source, ed(), cd(source))
    reg.terms["cd"].student_connector.temperature = nn.Parameter(torch.tensor(2.0))
    for name in ("ed", "cd"):
        reg.set_weight(name, 0)
    source.forward = Unusable().forward
    student(images)
    losses = reg()
    assert {name: value.item() for name, value in losses.items()} == {"ed": 0, "cd": 0}
    sum(losses.values()).backward()
    assert [parameter.grad is not None and not parameter.grad.any() for parameter in reg.parameters()] == [True] * 3
    assert all(parameter.grad is None for parameter in student.parameters())


def test_ended_term_gives_zero_even_where_the_connector_is_not_finite(net, cd, images) -> None:
    student, source = net(2), net()
    reg = build(student, source, cd(source))
    reg.set_weight("cd", 0)
    nn.init.constant_(reg.terms["cd"].student_connector.fc.weight, math.inf)
    student(images)
    loss = reg()["cd"]
    loss.backward()
    assert loss.item() == 0
    assert not reg.terms["cd"].student_connector.fc.weight.grad.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_values_have_one_precision_before_and_after_the_end(net, ed, images, dtype) -> None:
    student, source = net(2).to(dtype), net().to(dtype)
    reg = build(student, source, ed())
    found = []
    for weight in (1.0, 0.0):
        reg.set_weight("ed", weight)
        student(images.to(dtype))
        found.append(reg()["ed"].dtype)
    assert found == [torch.promote_types(dtype, torch.float32)] * 2


def test_the_other_term_goes_on_when_one_ends(plain, images, expected) -> None:
    reg = plain.regularizer
    for weight, factor in ((0, 0), (0.25, 0.5)):
        reg.set_weight("ed", weight)
        losses = plain(images)[1]
        wanted = expected(plain, images)
        assert losses["ed"].item() == pytest.approx(factor * wanted["ed"], rel=1e-5)
        assert losses["cd"].item() == pytest.approx(wanted["cd"], rel=1e-5)


@pytest.mark.parametrize("weight", [-1, -1e-9, math.nan, math.inf, -math.inf, "0.1", None])
def test_bad_weight_is_named(net, ed, weight) -> None:
    with pytest.raises(ValueError, match=f"term 'ed' has weight {weight!r}; expected a finite number >= 0"):
        ed(weight=weight)
    reg = build(net(), net(), ed())
    with pytest.raises(ValueError, match=f"'ed' has weight {weight!r}"):
        reg.set_weight("ed", weight)
    assert reg.terms["ed"].weight == 0.5


def test_set_weight_of_an_unknown_term(net, ed) -> None:
    with pytest.raises(ValueError, match=r"no term 'cd'; the terms are \['ed'\]"):
        build(net(), net(), ed()).set_weight("cd", 1)


@pytest.mark.parametrize("name", ["", "a.b", "keys", "forward", "training"])
def test_bad_name_is_named(ed, name) -> None:
    with pytest.raises(ValueError, match=f"term name {name!r}"):
        ed(name=name)


def test_repeated_name_raises(net, ed) -> None:
    with pytest.raises(ValueError, match=r"\['ed', 'ed'\] are not unique"):
        build(net(), net(), ed(), ed(weight=0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student": "layer3"}, r"'layer3' in Net; the nearest are .*'layer2'"),
        ({"student": "backbone.layer2"}, r"'backbone.layer2' in Net; the nearest are .*'layer2'"),
        ({"student": "zzz"}, r"'zzz' in Net; the nearest are 'layer1'"),
        ({"student": ""}, r"'' in Net; the nearest are 'layer1'"),
        ({"teacher": "layer22"}, r"'layer22' in Net; the nearest are 'layer2'"),
        ({"teacher": "weight"}, r"'weight' in Net; the nearest are"),
    ],
)
def test_unknown_path_names_the_nearest(net, ed, changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        build(net(), net(), ed(**changes))


def test_unknown_path_in_a_model_without_submodules(net, ed) -> None:
    with pytest.raises(ValueError, match="'layer2' in Linear; it has no submodules"):
        build(nn.Linear(1, 1), net(), ed())


@pytest.mark.parametrize("path", ["module.layer2", "_orig_mod.layer2", "module._orig_mod.layer2", "layer2"])
@pytest.mark.parametrize(
    "wrap", [lambda net: net, nn.DataParallel, lambda net: nn.DataParallel(torch.compile(net, backend="eager"))]
)
def test_wrapper_prefixes_do_not_matter(net, ed, images, path, wrap) -> None:
    student = net(norm=False)
    reg = build(wrap(student), wrap(net()), ed(student=path, teacher=path))
    student(images)
    assert set(reg()) == {"ed"}


def test_part_of_the_student_may_be_wrapped(net, ed, images) -> None:
    student = net(norm=False)
    student.layer2 = nn.DataParallel(student.layer2)
    reg = build(student, net(), ed(student="layer2.0"), ed(student="layer2.module.0", name="same"), ed(name="all"))
    student(images)
    losses = reg()
    assert losses["ed"] == losses["same"] == losses["all"]
    assert find_module(student, "module.layer2") is student.layer2


def test_connectors_are_registered_at_construction(net, cd) -> None:
    student, source = net(2), net()
    term = cd(source, teacher_connector=nn.Linear(5, 5))
    reg = build(student, source, term)
    assert [name for name, _ in reg.named_parameters()] == [
        f"terms.cd.{connector}.{name}"
        for connector in ("student_connector.fc", "teacher_connector")
        for name in ("weight", "bias")
    ]
    assert not {id(each) for each in reg.parameters()} & {
        id(each) for each in (*student.parameters(), *source.parameters())
    }
    assert all(parameter.requires_grad for parameter in reg.parameters())


def test_teacher_connector_trains(net, images, ed) -> None:
    student = net(norm=False)
    reg = build(student, net(), ed(teacher_connector=nn.Conv2d(6, 6, 1)))
    student(images)
    reg()["ed"].backward()
    assert all(parameter.grad.any() for parameter in reg.terms["ed"].teacher_connector.parameters())


@pytest.mark.parametrize("trainable", [True, False])
def test_retained_classifier_is_a_copy_that_trains_or_not(net, cd, images, trainable) -> None:
    student, source = net(2), net()
    xr.FrozenTeacher(source)  # freezes it before the copy is made
    reg = build(student, source, cd(source, student_connector=xr.retained_classifier(source.fc, trainable)))
    before = source.fc.weight.clone()
    optimizer = torch.optim.SGD([*student.parameters(), *reg.parameters()], lr=1.0)
    student(images)
    reg()["cd"].backward()
    optimizer.step()
    own = reg.terms["cd"].student_connector.fc.weight
    assert torch.equal(own, before) is not trainable
    assert torch.equal(source.fc.weight, before)


def test_error_in_a_term_says_which(net, ed, images) -> None:
    student = net(norm=False)
    reg = build(student, net(), ed(student="layer1"))
    student(images)
    with pytest.raises(ValueError, match=r"\(2, 4, 9, 11\).*\(2, 6, 4, 5\)") as error:
        reg()
    assert error.value.__notes__ == ["in term 'ed': student 'layer1' (2, 4, 9, 11), teacher 'layer2' (2, 6, 4, 5)"]


@pytest.mark.parametrize("inside", [True, False])
def test_connector_after_autocast(plain, images, expected, inside) -> None:
    """The student ran in bfloat16; the connector is float32 whether or not its term is computed under autocast."""
    with torch.autocast("cpu", torch.bfloat16):
        plain.student(images)
        losses = plain.regularizer() if inside else None
    losses = losses or plain.regularizer()
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert losses["cd"].item() == pytest.approx(expected(plain, images)["cd"], rel=0.1)
    losses["cd"].backward()


def test_models_without_memory_share_nothing(net, ed) -> None:
    with torch.device("meta"):
        build(net(), net(), ed())


def test_adapter_stands_before_the_teacher_only(net, ed, images) -> None:
    student, source = net(norm=False), net()
    source.load_state_dict(student.state_dict(), strict=False)
    adapter = xr.InputAdapter(xr.InputConvention(), xr.InputConvention(channels="bgr", mean=(0.406, 0.456, 0.485)))
    reg = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source, adapter), [ed(student="fc", teacher="fc")])
    output = student(images)
    expected = 1 - nn.functional.cosine_similarity(output, source(adapter(images))).mean()
    assert reg()["ed"].item() == pytest.approx(0.5 * expected.item(), abs=1e-6)


def test_terms_show_themselves(ed) -> None:
    assert "'ed', weight=0.5, student='layer2', teacher='layer2'" in repr(ed())
