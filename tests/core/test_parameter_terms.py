"""Terms that compare parameters instead of features."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.nn.utils import parametrizations, weight_norm

import xtask_reg as xr
from xtask_reg.losses.l2_sp import L2SPPenalty
from xtask_reg.losses.penalty import Penalty

ENCODER = {"layer1.0.weight", "layer1.0.bias", "layer2.0.weight", "layer2.0.bias"}


class Unused(nn.Module):
    """A source that must not run."""

    def forward(self, images: Tensor) -> Tensor:
        raise AssertionError("the teacher ran")


def l2_sp(**changes) -> xr.Term:
    arguments = {"student": "", "teacher": "", "weight": 0.7, "name": "sp", **changes}
    return xr.Term(arguments.pop("loss", L2SPPenalty()), **arguments)


@pytest.fixture
def build(net) -> Callable[..., xr.Regularized]:
    """A student with the source's encoder and another head, whose weights have moved away from the source's."""

    def make(*terms: xr.Term, **options) -> xr.Regularized:
        torch.manual_seed(7)
        student, source = net(2, norm=False), net(norm=False)
        source.forward = Unused().forward
        return xr.Regularized(
            student, xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), terms or [l2_sp()], **options)
        )

    return make


def step(model: xr.Regularized, images: Tensor, task: float = 1.0) -> dict[str, Tensor]:
    output, losses = model(images)
    model.zero_grad()
    (task * (output - 1).square().mean() + sum(losses.values())).backward()
    with torch.no_grad():
        model.student.fc.bias += 1e-6  # as a step would: else the student counts as measured already
    return losses


def moved(model: xr.Regularized, names: set[str] = ENCODER) -> dict[str, np.ndarray]:
    """w - w0"""
    own = dict(model.student.named_parameters())
    source = dict(model.regularizer.teacher.network.named_parameters())
    return {name: (own[name].detach().double() - source[name].double()).numpy() for name in sorted(names)}


@pytest.mark.parametrize(
    ("path", "names"),
    [("", ENCODER), ("layer2", {n for n in ENCODER if "layer2" in n}), ("layer1.0", {n for n in ENCODER if "1" in n})],
)
def test_value_and_gradient(build, images, path, names) -> None:
    """They are those of the weight times |w - w0|^2 / 2; the new head is left out."""
    model = build(l2_sp(student=path, teacher=path))
    losses = step(model, images, task=0)
    differences = moved(model, names)
    expected = 0.7 * sum((each**2).sum() for each in differences.values()) / 2
    assert losses["sp"].item() == pytest.approx(expected, rel=1e-5)
    for name, parameter in model.student.named_parameters():
        wanted = 0.7 * differences[name] if name in names else np.zeros(parameter.shape)
        np.testing.assert_allclose(parameter.grad, wanted, rtol=1e-4, atol=1e-7)


def test_student_and_teacher_may_have_other_paths(net, images) -> None:
    student, source = nn.Sequential(net(2, norm=False)), net(norm=False)
    term = l2_sp(student="0.layer2", teacher="layer2")
    reg = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [term])
    student(images)
    pairs = zip(student[0].layer2.parameters(), source.layer2.parameters(), strict=True)
    expected = 0.7 * sum((a - b).square().sum().item() for a, b in pairs) / 2
    assert reg()["sp"].item() == pytest.approx(expected, rel=1e-5)


def test_wrapped_student(net, images) -> None:
    student, source = net(2, norm=False), net(norm=False)
    teacher = xr.FrozenTeacher(torch.compile(source, backend="eager"))
    reg = xr.CrossTaskRegularizer(nn.DataParallel(student), teacher, [l2_sp(teacher="_orig_mod")])
    student(images)
    assert reg()["sp"].item() > 0


def test_no_hook_on_submodules_and_nothing_in_the_checkpoint(build) -> None:
    model = build(l2_sp(weight=xr.LinearDecay(1.0)))
    assert not any(module._forward_hooks for name, module in model.student.named_modules() if name)
    assert not model.regularizer.state_dict()
    assert list(model.state_dict()) == [f"student.{key}" for key in model.student.state_dict()]


def test_nothing_in_common_names_what_there_is(build) -> None:
    with pytest.raises(ValueError, match=r"'fc' of the student and 'layer1' of the teacher have no parameter") as error:
        build(l2_sp(student="fc", teacher="layer1"))
    assert "the student's are ['weight', 'bias']..., the teacher's ['0.weight', '0.bias']" in str(error.value)
    with pytest.raises(ValueError, match="same name and shape"):
        build(l2_sp(student="fc", teacher="fc"))  # the same names, but a new head
    for path in ({"student": "layer3"}, {"teacher": "layer3"}):
        with pytest.raises(ValueError, match="'layer3' in Net; the nearest are"):
            build(l2_sp(**path))


def test_frozen_parameters(build, images) -> None:
    model = build()
    model.student.layer1.requires_grad_(False)
    step(model, images, task=0)
    assert model.student.layer1[0].weight.grad is None
    np.testing.assert_allclose(model.student.layer2[0].weight.grad, 0.7 * moved(model)["layer2.0.weight"], rtol=1e-4)
    model.student.layer2.requires_grad_(False)
    with pytest.warns(UserWarning, match="'sp' cannot act on the student: its parameters at '' do not train"):
        model(images)


def test_follows_the_student(build, images) -> None:
    """After load_state_dict, .to(dtype) of both, and a parameter that was replaced."""
    model = build()
    model(images)
    model.student.load_state_dict({key: 2 * tensor for key, tensor in model.student.state_dict().items()})
    model.double()
    model.student.layer1[0].bias = nn.Parameter(torch.ones(4, dtype=torch.float64))
    losses = step(model, images.double())
    assert losses["sp"].dtype == torch.float64
    expected = 0.7 * sum((each**2).sum() for each in moved(model).values()) / 2
    assert losses["sp"].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("clip", [None, "norm", "value"])
@pytest.mark.parametrize("apart", [False, True])
def test_balanced(build, clip, apart) -> None:
    """Compared with torch.autograd.grad; with in-place clipping, and separate backward passes of task and term."""
    strong = l2_sp(name="strong", weight=50.0, student="layer1", teacher="layer1")
    model = build(l2_sp(weight=xr.Balanced(0.3, every=1)), strong)
    student, measured = model.student, []
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01)
    for _ in range(9):
        images = torch.randn(2, 3, 9, 11)
        encoder = [parameter for name, parameter in sorted(student.named_parameters()) if name in ENCODER]
        gradients = torch.autograd.grad((student(images) - 1).square().mean(), encoder)
        task_norm = np.sqrt(sum(gradient.double().square().sum().item() for gradient in gradients))
        term_norm = np.sqrt(sum((each**2).sum() for each in moved(model).values()))
        output, losses = model(images)
        expected = 0.0
        if len(measured) >= 5:
            expected = 0.3 * np.median(measured[-5:])
        assert model.regularizer.terms["sp"].weight == pytest.approx(expected, rel=1e-4)
        measured.append(task_norm / term_norm)
        optimizer.zero_grad(set_to_none=False)
        task, terms = (output - 1).square().mean(), sum(losses.values())
        for loss in (task, terms) if apart else (task + terms,):
            loss.backward()
        if clip == "norm":
            nn.utils.clip_grad_norm_(student.parameters(), 1e-3)
        elif clip == "value":
            nn.utils.clip_grad_value_(student.parameters(), 1e-3)
        optimizer.step()


def test_balanced_with_frozen_parameters(build) -> None:
    model = build(l2_sp(weight=xr.Balanced(0.3, every=1)), monitor=xr.Monitor([], every=1))
    model.student.layer1.requires_grad_(False)
    images = torch.randn(2, 3, 9, 11)
    for _ in range(7):
        step(model, images)
    assert model.regularizer.report["ratio/sp"] == pytest.approx(0.3, rel=1e-3)


def test_no_hook_stays_on_the_parameters(build, images) -> None:
    """DistributedDataParallel keeps the nodes at which gradients are accumulated, and with them their hooks."""
    model = build(l2_sp(weight=xr.Balanced(0.3, every=1)))
    nodes = [get_gradient_edge(parameter).node for parameter in model.student.parameters()]

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(each), Tensor) for each in gc.get_objects())

    counts = [step(model, images) and tensors() for _ in range(8)]
    assert counts[7] <= counts[2] and len(nodes) == 6  # noqa: PT018


def test_balanced_beside_a_feature_term_at_the_same_path(net, ed) -> None:
    """One acts at the layer's output, the other at its parameters: each is measured where it acts."""
    student, source = net(2, norm=False), net(norm=False)
    for order in (1, -1):
        terms = [ed(weight=xr.Balanced(0.3, 1)), l2_sp(student="layer2", teacher="layer2", weight=xr.Balanced(0.2, 1))]
        reg = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), terms[::order], xr.Monitor([], every=1))
        images = torch.randn(2, 3, 9, 11)
        for _ in range(7):
            output = student(images)
            (output.square().mean() + sum(reg().values())).backward()
            with torch.no_grad():
                student.fc.bias += 1e-6
        s, t = (each.layer2(each.layer1(images).relu()) for each in (student, source))
        cosine = nn.functional.cosine_similarity(s.flatten(1), t.detach().flatten(1)).mean().item()
        assert reg.report["value/ed"] == pytest.approx(1 - cosine, rel=1e-4)
        assert reg.report["ratio/ed"] == pytest.approx(0.3, rel=1e-3)
        assert 0 < reg.report["ratio/sp"] < 1
        reg.remove()


@pytest.mark.parametrize("how", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_compare_their_own_parameters(build, images, how) -> None:
    model = build()
    model.regularizer.teacher.network.__dict__.pop("forward")  # a bound method of another module
    before = model(images)[1]["sp"].item()
    copied = how(model)
    with torch.no_grad():
        for parameter in copied.student.parameters():
            parameter.zero_()
    assert copied.regularizer.teacher.network.layer1[0].weight.any()
    assert model(images)[1]["sp"].item() == before
    expected = 0.7 * sum((each**2).sum() for each in moved(copied).values()) / 2
    assert copied(images)[1]["sp"].item() == pytest.approx(expected, rel=1e-5)


def test_student_that_is_only_rounded(build, images) -> None:
    """As by FSDP's mixed precision during a call; if the teacher is converted too, nothing is lost."""
    model = build()
    model.student.bfloat16()
    with pytest.raises(RuntimeError, match="'layer1.0.weight' of the student was torch.float32 and is torch.bfloat16"):
        model(images.bfloat16())
    model.regularizer.bfloat16()
    assert step(model, images.bfloat16())["sp"].isfinite()


def test_student_in_lower_precision_from_the_start(net, images) -> None:
    """It starts at the source's values, but for rounding, which is a distance and no new head."""
    source = net(norm=False)
    source.layer2.bfloat16().float()  # most values need no rounding
    student = copy.deepcopy(source).bfloat16()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [l2_sp()])
    student(images.bfloat16())
    rounded = zip(student.parameters(), source.parameters(), strict=True)
    expected = 0.7 * sum((own.double() - one.double()).square().sum().item() for own, one in rounded) / 2
    assert keep()["sp"].item() == pytest.approx(expected, rel=1e-3)


def test_own_penalty_is_given_both_by_name(build, images) -> None:
    seen = []

    class Own(Penalty):
        def forward(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
            seen.append((dict(student), dict(teacher)))
            return student["layer1.0.bias"].sum()

    model = build(l2_sp(loss=Own()))
    step(model, images)
    student, teacher = seen[0]
    assert set(student) == set(teacher) == ENCODER
    assert student["layer2.0.weight"] is model.student.layer2[0].weight
    assert teacher["layer2.0.weight"] is model.regularizer.teacher.network.layer2[0].weight


def test_what_is_missing_or_too_much_is_told(net) -> None:
    for connector in ("student_connector", "teacher_connector"):
        with pytest.raises(ValueError, match="term 'sp' compares parameters: it takes no connectors"):
            l2_sp(**{connector: nn.Linear(1, 1)})
    with pytest.raises(ValueError, match="term 'bss' has a teacher_connector, but no teacher"):
        xr.Term(xr.BSSLoss(), student="layer2", weight=1.0, name="bss", teacher_connector=nn.Identity())
    with pytest.raises(ValueError, match="term 'sp' compares parameters: give the regularizer the student"):
        xr.CrossTaskRegularizer(None, xr.FrozenTeacher(net()), [l2_sp()])
    with pytest.raises(ValueError, match=r"give the regularizer FrozenTeacher\(source\)"):
        xr.CrossTaskRegularizer(net(), None, [l2_sp()])


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = (nn.Linear(4, 4, bias=False) for _ in range(3))
        self.last.weight = self.first.weight

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.middle(self.first(images)))


@pytest.mark.parametrize(("unties", "expected"), [(True, 0.5 * 16 * 100), (False, 0)])
def test_parameter_that_the_source_ties(unties: bool, expected: float) -> None:
    source = Tied()
    student = copy.deepcopy(source)
    if unties:
        student.last.weight = nn.Parameter(student.last.weight.detach() + 10)
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [l2_sp(weight=1.0)])
    student(torch.rand(2, 4))
    assert keep()["sp"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("owner", ["student", "teacher"])
@pytest.mark.parametrize("change", [parametrizations.weight_norm, parametrizations.spectral_norm, weight_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
def test_parameters_that_one_makes_of_others_are_told(net, images, change, owner) -> None:
    student, source = net(2, norm=False), net(norm=False)
    changed = student if owner == "student" else source
    change(changed.layer1[0])
    before = {name: value.clone() for name, value in changed.state_dict().items()}
    with pytest.warns(
        UserWarning, match=rf"^1 parameters, 'layer1.0.weight' for example, are not compared: in the {owner}"
    ):
        keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [l2_sp()])
    torch.testing.assert_close(dict(changed.state_dict()), before, rtol=0, atol=0)
    student(images)
    distances = [
        (student.get_parameter(name) - source.get_parameter(name)).square().sum()
        for name in ENCODER - {"layer1.0.weight"}
    ]
    torch.testing.assert_close(keep()["sp"], 0.7 * sum(distances) / 2)


def test_a_new_head_of_the_source_s_shape_is_told(net) -> None:
    source = net(norm=False)
    student = copy.deepcopy(source)
    student.fc.reset_parameters()
    with pytest.warns(UserWarning, match=r"2 parameters, 'fc\.weight' for example, do not start at the"):
        xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [l2_sp()])


@pytest.mark.parametrize("change", ["resumed", "resumed, frozen below", "head of the source", "part"])
def test_nothing_is_told_of_parameters_that_are_not_new(net, recwarn, change) -> None:
    source = net(norm=False)
    student = copy.deepcopy(source)
    terms = [l2_sp()]
    if change.startswith("resumed"):
        with torch.no_grad():
            for parameter in student.parameters():
                parameter += 0.1
    if change == "resumed, frozen below":
        student.layer1.load_state_dict(source.layer1.state_dict())
        student.layer2.load_state_dict(source.layer2.state_dict())
        xr.freeze(student, ["layer1", "layer2"])
    if change == "part":
        student.fc.reset_parameters()
        terms = [l2_sp(name=part, student=part, teacher=part) for part in ("layer1", "layer2")]
    xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), terms)
    assert not recwarn.list


def test_nothing_is_told_of_both_changed_alike(net, recwarn) -> None:
    student, source = net(2, norm=False), net(norm=False)
    for each in (student, source):
        parametrizations.weight_norm(each.layer1[0])
    xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [l2_sp()])
    assert not recwarn.list


@pytest.mark.parametrize("owner", ["student", "source"])
def test_nothing_is_told_of_a_number_in_the_place_of_a_parameter(net, recwarn, owner) -> None:
    """For instance a temperature that one network learns, and the other has as a number."""
    networks = {"student": net(2, norm=False), "source": net(norm=False)}
    for name, network in networks.items():
        network.temperature = nn.Parameter(torch.ones(())) if name == owner else 2.0
    xr.CrossTaskRegularizer(networks["student"], xr.FrozenTeacher(networks["source"]), [l2_sp()])
    assert not recwarn.list
