"""The monitor and the report, against the formulas written out."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import xtask_reg as xr


def task(output: Tensor) -> Tensor:
    return (output - 1).square().mean()


@pytest.fixture
def build(net, ed):
    def make(*terms: xr.Term, monitor: xr.Monitor | None = None, norm: bool = False) -> xr.Regularized:
        torch.manual_seed(7)
        student, source = net(2, norm=norm), net(norm=norm)
        return xr.Regularized(student, xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), terms, monitor))

    return make


def step(model: xr.Regularized, images: Tensor) -> dict[str, Tensor]:
    output, losses = model(images)
    model.zero_grad()
    (task(output) + sum(losses.values())).backward()
    return losses


def cka(x: np.ndarray, y: np.ndarray) -> float:
    """Kornblith et al. 2019: HSIC of the centred Gram matrices, as printed; rows are examples."""
    centre = np.eye(len(x)) - 1 / len(x)
    k, h = (centre @ rows @ rows.T @ centre for rows in (x, y))
    return np.trace(k @ h) / np.sqrt(np.trace(k @ k) * np.trace(h @ h))


def rows(features: Tensor) -> np.ndarray:
    return features.double().flatten(2).movedim(1, 2).reshape(-1, features.shape[1]).numpy()


def cosine(x: Tensor, y: Tensor) -> float:
    pairs = zip(x.double().flatten(1).numpy(), y.double().flatten(1).numpy(), strict=True)
    return float(np.mean([a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in pairs]))


def taps(net: nn.Module, images: Tensor) -> dict[str, Tensor]:
    first = net.layer1(images)
    second = net.layer2(first.relu())
    return {"layer1": first, "layer2": second, "fc": net.fc(second.relu().mean(dim=(2, 3)))}


def test_report_is_what_the_formulas_give(build, ed, cd, net, images) -> None:
    model = build(ed(weight=0.4), cd(net(norm=False), weight=3.0), monitor=xr.Monitor(["layer1", "layer2"]))
    step(model, images)
    student, teacher = taps(model.student, images), taps(model.regularizer.teacher.network, images)
    logits = model.regularizer.terms["cd"].student_connector.fc(student["layer2"].mean(dim=(2, 3)))
    values = {
        "ed": 1 - F.cosine_similarity(student["layer2"].flatten(1), teacher["layer2"].flatten(1).detach()).mean(),
        "cd": ((logits / 2).softmax(1) - (teacher["fc"] / 2).softmax(1).detach()).square().sum(1).mean(),
    }
    norms = {
        name: torch.autograd.grad(loss, student["layer2"], retain_graph=True)[0].norm().item()
        for name, loss in {"task": task(student["fc"]), **values}.items()
    }
    expected = {
        "value/ed": values["ed"].item(),
        "value/cd": values["cd"].item(),
        "weight/ed": 0.4,
        "weight/cd": 3.0,
        "ratio/ed": 0.4 * norms["ed"] / norms["task"],
        "ratio/cd": 3.0 * norms["cd"] / norms["task"],
    }
    for stage in ("layer1", "layer2"):
        x, y = student[stage].detach(), teacher[stage].detach()
        pooled = [F.adaptive_avg_pool2d(each, (min(x.shape[2], 8), min(x.shape[3], 8))) for each in (x, y)]
        expected |= {f"cosine/{stage}": cosine(x, y), f"cka/{stage}": cka(*map(rows, pooled))}
    assert model.regularizer.report == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("every", [1, 4])
def test_which_steps_are_measured(build, ed, every) -> None:
    """The first one, and each n-th after it; in between the report stays as it is."""
    model = build(ed(weight=0.4), monitor=xr.Monitor(["layer1"], every))
    assert model.regularizer.report == {}
    last = {}
    for number in range(10):
        step(model, torch.randn(2, 3, 9, 11))
        report = model.regularizer.report
        assert (report != last) is (number % every == 0), number
        model.regularizer.state_dict()  # a checkpoint must not change the report
        assert model.regularizer.was_measured is (number % every == 0)
        assert set(report) == {"value/ed", "weight/ed", "ratio/ed", "cosine/layer1", "cka/layer1"}
        last = report


def test_ratio_is_unknown_before_the_backward_pass(build, ed, images) -> None:
    model = build(ed(weight=0.4), monitor=xr.Monitor([]))
    model(images)
    assert math.isnan(model.regularizer.report["ratio/ed"])
    assert model.regularizer.report["weight/ed"] == 0.4


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("unlabelled", [False, True])
def test_ratio_where_nothing_else_has_a_gradient(build, ed, cd, net, images, half, unlabelled) -> None:
    """There is no ratio to a rest within rounding error; at the tap before it there is a ratio."""
    terms = ed(weight=0.3), cd(net(norm=False), weight=0.7), ed(student="layer1", teacher="layer1", name="before")
    model = build(*terms, monitor=xr.Monitor([]))
    others = torch.randn(3, 3, 9, 11) if unlabelled else None
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        output, weighted = model(images, unlabelled=others)
    (sum(weighted.values()) + (output.float().square().mean() if unlabelled else 0)).backward()
    report = model.regularizer.report
    assert math.isnan(report["ratio/ed"])
    assert math.isnan(report["ratio/cd"])
    assert 0 < report["ratio/before"] < 100


def test_stages_without_any_term(build, images) -> None:
    model = build(monitor=xr.Monitor(["layer1", "fc"], every=2))
    assert step(model, images) == {}
    assert set(model.regularizer.report) == {"cka/layer1", "cosine/layer1", "cka/fc"}  # fc: 2 outputs and 5 classes


def test_weights_of_terms_without_stages(build, ed, images) -> None:
    model = build(ed(weight=xr.LinearDecay(0.4)), monitor=xr.Monitor([], every=1))
    for progress, weight in ((0.5, 0.2), (0.75, 0.1)):
        model.regularizer.progress = progress
        step(model, images)
        assert model.regularizer.report["weight/ed"] == pytest.approx(weight)


@pytest.mark.parametrize("monitor", [None, xr.Monitor([], every=3)])
@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("until", [0.5, 0.6, 0.7])  # ends before the step that is measured, in it, and after it
@pytest.mark.parametrize("balanced", [False, True])
def test_a_term_that_has_ended(build, ed, balanced, until, saved, monitor) -> None:
    """From its end on its weight is 0, whatever was measured before, and nothing else is said of it."""
    decay = xr.LinearDecay(0.4, until=until)
    weight = xr.Balanced(decay, every=6) if balanced else decay
    model = build(ed(weight=weight), ed(weight=0.1, name="other"), monitor=monitor)
    said = []
    for number in range(12):
        model.regularizer.progress = number / 10 if number < 10 else 1
        step(model, torch.randn(2, 3, 9, 11))
        if saved:
            model.regularizer.state_dict()
        said.append({key: value for key, value in model.regularizer.report.items() if key.endswith("/ed")})
    ends = round(10 * until)
    measured = [each for each in said[:ends] if each]
    assert bool(measured) is (balanced or monitor is not None)
    assert all(each.keys() == {"value/ed", "weight/ed", "ratio/ed"} for each in measured)
    assert said[ends:] == [{"weight/ed": 0.0} if measured else {}] * (12 - ends)
    assert model.regularizer.report.get("weight/other", 0.1) == 0.1


@pytest.mark.parametrize("with_term", [True, False])
def test_idle_steps_copy_no_stage_and_run_no_teacher(build, ed, images, monkeypatch, with_term) -> None:
    model = build(*([ed(student="layer1", teacher="layer1")] if with_term else []), monitor=xr.Monitor(["layer2"], 3))
    copied, ran = [], []
    monkeypatch.setattr(Tensor, "clone", lambda self, clone=Tensor.clone: copied.append(self.shape) or clone(self))
    model.regularizer.teacher.network.register_forward_hook(lambda *unused: ran.append(1))
    for number in range(7):
        copied.clear()
        ran.clear()
        model(images)
        assert copied.count((2, 6, 4, 5)) == (2 if number % 3 == 0 else 0), number  # of student and teacher
        assert copied.count((2, 4, 9, 11)) == 2 * with_term
        assert len(ran) == (with_term or number % 3 == 0)


def test_stages_of_other_names(net, images) -> None:
    student, source = nn.ModuleDict({"a": net(norm=False)}), net(norm=False)
    student.forward = lambda x: student["a"](x)
    monitor = xr.Monitor({"a.layer1": "layer1", "a.layer2": "layer2"})
    reg = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [], monitor)
    student(images)
    assert reg() == {}
    x, y = (taps(each, images)["layer2"].detach() for each in (student["a"], source))
    assert reg.report["cosine/a.layer2"] == pytest.approx(cosine(x, y), rel=1e-5)
    assert reg.report["cka/a.layer2"] == pytest.approx(cka(rows(x), rows(y)), rel=1e-4)
    assert len(reg.report) == 4


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("calibrate", [None, 5])
def test_monitor_changes_nothing(net, ed, cd, balanced, calibrate) -> None:
    """With batch norm, dropout and balanced weights measured in other steps, training is bitwise the same."""
    trained = []
    for monitor in (None, xr.Monitor(["layer1", "layer2"], every=1), xr.Monitor([], every=2)):
        torch.manual_seed(3)
        student, source = net(2), net()
        weight = xr.Balanced(0.3, 4, calibrate=calibrate) if balanced else 0.3
        terms = [ed(weight=weight), ed(name="b", weight=5.0), cd(source, weight=0.7, student="layer1", **connector())]
        reg = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), terms, monitor)
        model = xr.Regularized(student, reg)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(14):
            step(model, torch.randn(2, 3, 9, 11))
            optimizer.step()
        assert reg.terms["ed"].weight > 0
        trained.append([*model.parameters(), *model.buffers(), torch.get_rng_state()])
    for other in trained[1:]:
        assert all(torch.equal(a, b) for a, b in zip(trained[0], other, strict=True))


def connector() -> dict[str, nn.Module]:
    return {"student_connector": xr.PooledClassifier(nn.Linear(4, 5))}


def test_copies_have_a_monitor_of_their_own(build, ed, images) -> None:
    model = build(ed(), monitor=xr.Monitor(["layer2"], every=2))
    step(model, images)
    copied = copy.deepcopy(model)
    assert copied.regularizer.report == model.regularizer.report
    step(copied, images)
    step(copied, 2 * images)
    assert copied.regularizer.report != model.regularizer.report


@pytest.mark.parametrize("every", [0, -1, 1.5, "2", None, True])
def test_bad_every_is_named(every) -> None:
    with pytest.raises(ValueError, match=f"every={every!r}; expected a whole number of steps above 0"):
        xr.Monitor(every=every)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (["layer3"], "'layer3' in Net; the nearest are"),
        ({"layer1": "layr2"}, "'layr2' in Net; the nearest are 'layer2'"),
    ],
)
def test_unknown_stage_names_the_nearest(build, stages, message) -> None:
    with pytest.raises(ValueError, match=message):
        build(monitor=xr.Monitor(stages))


def test_stages_need_a_teacher(net) -> None:
    with pytest.raises(ValueError, match=r"give the regularizer FrozenTeacher\(source\)"):
        xr.CrossTaskRegularizer(net(), None, [], xr.Monitor(["layer1"]))


def test_stages_that_do_not_fit_are_named(build, images) -> None:
    model = build(monitor=xr.Monitor({"layer1": "fc"}))
    with pytest.raises(ValueError, match=r"\(2, 4, 9, 11\).*\(2, 5\)") as error:
        model(images)
    assert error.value.__notes__ == ["at the monitored stage 'layer1', with 'fc' of the teacher"]


def test_one_monitor_of_two_regularizers(net, ed) -> None:
    """Each counts its own steps."""
    source, monitor, measured = net(norm=False), xr.Monitor(["layer1"], every=2), {0: [], 1: []}
    students = [net(2, norm=False) for _ in range(2)]
    teacher = xr.FrozenTeacher(source)
    keeps = [xr.CrossTaskRegularizer(student, teacher, [ed()], monitor) for student in students]
    for _ in range(4):
        for number, (student, keep) in enumerate(zip(students, keeps)):
            (student(torch.rand(2, 3, 9, 11)).sum() + keep()["ed"]).backward()
            measured[number].append(keep.was_measured)
    assert measured == {0: [True, False, True, False], 1: [True, False, True, False]}
