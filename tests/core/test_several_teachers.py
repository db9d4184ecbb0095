"""Several teachers by name, and none at all."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import xtask_reg as xr
from xtask_reg.losses.l2_sp import L2SPPenalty


class Scaled(nn.Module):
    """An input adapter."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, images: Tensor) -> Tensor:
        return self.factor * images


@pytest.fixture
def sources(net) -> dict[str, nn.Module]:
    return {"faces": net(5, norm=False), "objects": net(7, norm=False)}


@pytest.fixture
def build(net, ed, sources) -> Callable[..., xr.Regularized]:
    """A student with one term a teacher, each teacher behind an adapter of its own."""

    def make(*terms: xr.Term, **options) -> xr.Regularized:
        student = net(2, norm=False)
        teachers = {name: xr.FrozenTeacher(sources[name], Scaled(factor)) for name, factor in FACTORS.items()}
        terms = terms or tuple(
            ed(name=f"ed_{name}", teacher=f"{name}.layer2", weight=weight) for name, weight in WEIGHTS.items()
        )
        return xr.Regularized(student, xr.CrossTaskRegularizer(student, teachers, terms, **options))

    return make


FACTORS = {"faces": 2.0, "objects": -1.0}
WEIGHTS = {"faces": 0.5, "objects": 0.3}


def expected(model: xr.Regularized, sources: Mapping[str, nn.Module], images: Tensor) -> dict[str, float]:
    found = {}
    for name, source in sources.items():
        s = model.student.layer2(model.student.layer1(images).relu())
        t = source.layer2(source.layer1(FACTORS[name] * images).relu())
        cosine = F.cosine_similarity(s.flatten(1), t.flatten(1)).mean()
        found[f"ed_{name}"] = WEIGHTS[name] * (1 - cosine).item()
    return found


def counted(sources: Mapping[str, nn.Module]) -> list[str]:
    runs: list[str] = []
    for name, source in sources.items():
        source.register_forward_hook(lambda *unused, name=name: runs.append(name))
    return runs


def test_each_is_given_its_own_images(build, sources, images, values) -> None:
    model = build()
    assert expected(model, sources, images) == values(model(images)[1])


def test_each_runs_once_and_only_if_needed(build, ed, sources, images) -> None:
    terms = [
        ed(teacher="faces.layer2"),
        ed(name="again", teacher="faces.layer2"),
        ed(name="first", student="layer1", teacher="faces.layer1.0"),
        ed(name="objects", teacher="objects.layer2"),
    ]
    model, runs = build(*terms), counted(sources)
    model(images)
    assert sorted(runs) == ["faces", "objects"]
    model.regularizer.set_weight("objects", 0)
    model(images)
    assert sorted(runs) == ["faces", "faces", "objects"]
    for name in ("ed", "again", "first"):
        model.regularizer.set_weight(name, 0)
    model(images)
    assert len(runs) == 3


def test_monitored_stages_of_both(build, sources, images) -> None:
    """Two teachers at one stage of the student cannot be told apart by its path: each has its own stage here."""
    model = build(monitor=xr.Monitor({"layer1": "faces.layer1", "layer2": "objects.layer2"}))
    model(images)
    s, t = (net.layer1(factor * images) for net, factor in ((model.student, 1.0), (sources["faces"], 2.0)))
    cosine = F.cosine_similarity(s.flatten(1), t.flatten(1)).mean().item()
    assert model.regularizer.report["cosine/layer1"] == pytest.approx(cosine, rel=1e-4)
    assert {"cka/layer1", "cka/layer2", "cosine/layer2"} <= model.regularizer.report.keys()


@pytest.mark.parametrize("name", ["faces", "objects"])
def test_retained_classifier_of_one(build, cd, sources, images, name) -> None:
    model = build(cd(sources[name], teacher=f"{name}.fc"))
    loss = model(images)[1]["cd"]
    s = model.student.layer2(model.student.layer1(images).relu()).mean(dim=(2, 3))
    p, q = (sources[name].fc(s) / 2).softmax(1), (sources[name](FACTORS[name] * images) / 2).softmax(1)
    assert loss.item() == pytest.approx(2 * (p - q).square().sum(1).mean().item(), rel=1e-4)
    loss.backward()
    assert all(parameter.grad.any() for parameter in model.regularizer.parameters())
    assert all(parameter.grad is None for source in sources.values() for parameter in source.parameters())


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("faces.layer3", "no submodule 'faces.layer3' in ModuleDict; the nearest are .*'faces.layer"),
        ("face.layer2", "no submodule 'face.layer2' in ModuleDict; the nearest are 'faces.layer2'"),
        ("layer2", "no submodule 'layer2' in ModuleDict; the nearest are .*layer2'"),
        ("faces", "the path 'faces' is a whole teacher; expected a submodule of it, 'faces.layer'"),
        ("", "no submodule ''"),
    ],
)
def test_unknown_path_names_the_nearest(build, ed, teacher, message) -> None:
    with pytest.raises(ValueError, match=message):
        build(ed(teacher=teacher))


@pytest.mark.parametrize("name", ["", "a.b", "keys", "forward", "training"])
def test_bad_name_is_named(net, name) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        xr.CrossTaskRegularizer(net(), {name: xr.FrozenTeacher(net())}, [])
    assert f"teachers named [{name!r}]; expected at least one" in str(error.value)


def test_no_teachers_in_the_mapping(net) -> None:
    with pytest.raises(ValueError, match="expected at least one"):
        xr.CrossTaskRegularizer(net(), {}, [])


@pytest.mark.parametrize("name", ["faces", "objects"])
def test_shared_tensors_are_refused(build, cd, sources, name) -> None:
    with pytest.raises(ValueError, match=r"'cd.student_connector.fc.weight' of the terms is the teacher's own tensor"):
        build(cd(sources["faces"], teacher="faces.fc", student_connector=xr.PooledClassifier(sources[name].fc)))


@pytest.mark.parametrize("name", ["faces", "objects"])
def test_student_that_is_one_of_them_is_refused(ed, sources, name) -> None:
    teachers = {key: xr.FrozenTeacher(source) for key, source in sources.items()}
    with pytest.raises(ValueError, match="'layer1.0.weight' of the student is the teacher's own tensor"):
        xr.CrossTaskRegularizer(sources[name], teachers, [ed(teacher="faces.layer2")])


def test_they_stay_frozen_and_out_of_reach(build, sources, images, train) -> None:
    model = build()
    before = copy.deepcopy({name: source.state_dict() for name, source in sources.items()})
    model.train()
    assert not any(module.training for source in sources.values() for module in source.modules())
    assert not model.regularizer.state_dict()
    assert not list(model.regularizer.parameters())
    assert not any("teacher" in key for key in model.state_dict())
    train(model, 3)
    for name, source in sources.items():
        assert all(torch.equal(tensor, before[name][key]) for key, tensor in source.state_dict().items())


def test_they_follow_their_owner(build, sources, images) -> None:
    model = build().double()
    assert {p.dtype for source in sources.values() for p in source.parameters()} == {torch.float64}
    assert model(images.double())[1]["ed_faces"].dtype == torch.float64


@pytest.mark.parametrize("how", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies(build, sources, images, values, how) -> None:
    model = build()
    copied = how(model)
    networks = [each.network for each in copied.regularizer.teacher.teachers.values()]
    shared = how is copy.deepcopy
    assert [network is source for network, source in zip(networks, sources.values(), strict=True)] == [shared] * 2
    assert expected(copied, sources, images) == values(copied(images)[1])


def test_parameters_of_each(build, sources, images) -> None:
    terms = [
        xr.Term(L2SPPenalty(), student="layer1", teacher="faces.layer1", weight=1.0, name="faces"),
        xr.Term(L2SPPenalty(), student="", teacher="objects", weight=1.0, name="objects"),
    ]
    model, runs = build(*terms), counted(sources)
    losses = model(images)[1]
    own = dict(model.student.named_parameters())
    for name, names in (("faces", ["layer1.0"]), ("objects", ["layer1.0", "layer2.0"])):
        source = dict(sources[name].named_parameters())
        keys = [f"{each}.{kind}" for each in names for kind in ("weight", "bias")]
        value = sum((own[key] - source[key]).square().sum() for key in keys).item() / 2
        assert losses[name].item() == pytest.approx(value, rel=1e-5)
    assert runs == []


class Energy(nn.Module):
    """A loss of the student alone."""

    def forward(self, student: Tensor) -> Tensor:
        return student.square().mean()


@pytest.mark.parametrize("with_teacher", [True, False])
def test_terms_of_the_student_alone(net, images, with_teacher) -> None:
    student, source = net(2, norm=False), net(norm=False)
    runs = counted({"source": source})
    term = xr.Term(Energy(), student="layer2", weight=0.5, name="energy", student_connector=nn.Conv2d(6, 3, 1))
    teacher = xr.FrozenTeacher(source) if with_teacher else None
    model = xr.Regularized(student, xr.CrossTaskRegularizer(student, teacher, [term]))
    loss = model(images)[1]["energy"]
    mapped = term.student_connector(student.layer2(student.layer1(images).relu()))
    assert loss.item() == pytest.approx(0.5 * mapped.square().mean().item(), rel=1e-5)
    loss.backward()
    assert student.layer1[0].weight.grad.any()
    assert runs == []
    copied = copy.deepcopy(model).double()
    assert copied(images.double())[1]["energy"].item() == pytest.approx(loss.item(), rel=1e-5)
    assert set(model.regularizer.state_dict()) == {f"terms.energy.student_connector.{n}" for n in ("weight", "bias")}


def test_balanced_term_of_the_student_alone(net) -> None:
    student = net(2, norm=False)
    term = xr.Term(Energy(), student="layer2", weight=xr.Balanced(0.3, every=1), name="energy")
    model = xr.Regularized(student, xr.CrossTaskRegularizer(student, None, [term], xr.Monitor([], every=1)))
    images = torch.randn(2, 3, 9, 11)
    for _ in range(7):
        output, losses = model(images)
        ((output - 1).square().mean() + losses["energy"]).backward()
        with torch.no_grad():
            student.fc.bias += 1e-6  # as a step would: else the student counts as measured already
    assert model.regularizer.report["ratio/energy"] == pytest.approx(0.3, rel=1e-3)


def test_missing_teacher_is_refused(net, ed) -> None:
    with pytest.raises(ValueError, match=r"give the regularizer FrozenTeacher\(source\)"):
        xr.CrossTaskRegularizer(net(2), None, [ed()])
    assert xr.CrossTaskRegularizer(net(2), None, [ed(weight=0)])() == {}
