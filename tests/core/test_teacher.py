from __future__ import annotations

import copy
import hashlib
import io

import pytest
import torch
from torch import Tensor, nn

import xtask_reg as xr


def checksum(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for key, tensor in sorted({**dict(network.named_parameters()), **dict(network.named_buffers())}.items()):
        digest.update(key.encode() + tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


class Owner(nn.Module):
    def __init__(self, teacher: xr.FrozenTeacher) -> None:
        super().__init__()
        self.own = nn.Linear(2, 2)
        self.teacher = teacher


@pytest.fixture
def source(net):
    return net()


@pytest.fixture
def owner(source):
    return Owner(xr.FrozenTeacher(source))


@pytest.mark.parametrize("mode", [True, False])
def test_is_in_eval_mode_whatever_the_parent_is(owner, source, mode) -> None:
    assert not any(module.training for module in (owner.teacher, *source.modules()))
    assert owner.train(mode) is owner
    assert owner.teacher.train(mode) is owner.teacher
    assert not any(module.training for module in (owner.teacher, *source.modules()))


@pytest.mark.parametrize("part", ["", "layer1", "layer1.1", "layer2.1"])
def test_comes_back_to_eval_mode_if_trained_from_outside(source, images, part) -> None:
    source.register_module("taken_away", None)
    teacher = xr.FrozenTeacher(source)
    before, expected = checksum(source), teacher(images)
    source.get_submodule(part).train()
    assert torch.equal(teacher(images), expected)
    assert checksum(source) == before


def test_adapter_is_in_eval_mode_and_frozen(source, images) -> None:
    adapter = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    teacher = xr.FrozenTeacher(source, adapter)
    expected = source(adapter(images))
    teacher.train()
    assert torch.equal(teacher(images), expected)
    assert not any(parameter.requires_grad for parameter in adapter.parameters())
    assert not list(teacher.parameters())


def test_is_in_no_listing_of_its_owner(owner) -> None:
    assert [name for name, _ in owner.named_parameters()] == ["own.weight", "own.bias"]
    assert not list(owner.buffers())
    assert set(owner.state_dict()) == {"own.weight", "own.bias"}
    assert list(owner.modules()) == [owner, owner.own, owner.teacher]
    assert owner.load_state_dict(nn.ModuleDict({"own": nn.Linear(2, 2)}).state_dict()).missing_keys == []


def test_does_not_receive_gradients(source, images) -> None:
    teacher = xr.FrozenTeacher(source)
    images.requires_grad_()
    output = teacher(images)
    assert not output.requires_grad
    assert not any(parameter.requires_grad for parameter in source.parameters())
    assert not any(each.requires_grad for each in teacher.features(images, ["layer1", "fc"]).values())


def test_output_can_be_saved_for_a_backward(source, images) -> None:
    teacher = xr.FrozenTeacher(source)
    weight = torch.ones(5, requires_grad=True)
    output = teacher(images)
    (output * weight + teacher.features(images, ["fc"])["fc"] * weight).sum().backward()
    assert torch.allclose(weight.grad, 2 * output.sum(dim=0))


def test_features_are_those_before_an_inplace_activation(net, source, images) -> None:
    plain = net(inplace=False)
    plain.load_state_dict(source.state_dict())
    expected = plain.eval().layer2(plain.layer1(images).relu())
    features = xr.FrozenTeacher(source).features(images, ["layer2", "layer2.0", "fc"])
    assert (expected < 0).any()
    assert torch.equal(features["layer2"], expected)
    assert torch.equal(features["layer2.0"], expected)
    assert torch.equal(features["fc"], plain(images))


def test_features_leave_no_hooks_even_after_an_error(source, images) -> None:
    teacher = xr.FrozenTeacher(source)
    teacher.features(images, ["layer2"])
    with pytest.raises(RuntimeError, match="channels"):
        teacher.features(images[:, :2], ["layer2"])
    assert not any(module._forward_hooks for module in source.modules())


def test_features_of_an_unknown_path(source, images) -> None:
    with pytest.raises(ValueError, match=r"'layer3' in Net; the nearest are .*'layer2'"):
        xr.FrozenTeacher(source).features(images, ["layer3"])


@pytest.mark.parametrize("move", ["double", "half", "bfloat16", "to"])
def test_follows_the_dtype_of_its_owner(owner, source, move) -> None:
    expected = {"double": torch.float64, "half": torch.float16, "bfloat16": torch.bfloat16, "to": torch.float64}[move]
    owner.to(torch.float64) if move == "to" else getattr(owner, move)()
    tensors = [*source.parameters(), *source.buffers()]
    assert {tensor.dtype for tensor in tensors if tensor.is_floating_point()} == {expected}
    assert source.layer1[1].num_batches_tracked.dtype == torch.int64
    assert not any(parameter.requires_grad for parameter in source.parameters())


def test_follows_memory_format_and_device_of_its_owner(owner, source) -> None:
    owner.to(memory_format=torch.channels_last)
    assert source.layer1[0].weight.is_contiguous(memory_format=torch.channels_last)
    owner.to("meta")
    assert {tensor.device.type for tensor in (*source.parameters(), *source.buffers())} == {"meta"}


def test_adapter_follows_its_owner(source, images) -> None:
    adapter = xr.InputAdapter(xr.InputConvention(), xr.InputConvention(channels="bgr"))
    owner = Owner(xr.FrozenTeacher(source, adapter)).double()
    assert adapter.scale.dtype == torch.float64
    assert owner.teacher(images.double()).dtype == torch.float64


def test_deepcopy_of_the_owner_shares_the_network(owner, source, images) -> None:
    copied = copy.deepcopy(owner)
    assert copied.teacher is not owner.teacher
    assert copied.teacher.network is source
    assert copied.own.weight is not owner.own.weight
    assert torch.equal(copied.teacher(images), owner.teacher(images))


def test_pickle_of_the_owner_has_a_network_that_is_frozen(owner, source, images) -> None:
    file = io.BytesIO()
    torch.save(owner, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert loaded.teacher.network is not source
    assert not any(parameter.requires_grad for parameter in loaded.teacher.network.parameters())
    assert torch.equal(loaded.teacher(images), owner.teacher(images))


@pytest.mark.parametrize("use_buffers", [True, False])
def test_averaged_model_does_not_contain_it(regularized, net, train, use_buffers) -> None:
    source = net()
    model = regularized(source=source)
    before = checksum(source)
    averaged = torch.optim.swa_utils.AveragedModel(model, use_buffers=use_buffers)
    for _ in range(2):
        train(model, 1)
        averaged.update_parameters(model)
    assert set(averaged.module.state_dict()) == set(model.state_dict())
    assert not any("teacher" in key for key in averaged.state_dict())
    assert averaged.module.regularizer.teacher.network is source
    assert checksum(source) == before


def test_is_unchanged_by_training(regularized, net, train) -> None:
    source = net()
    model = regularized(source=source).train()
    before, student_before = checksum(source), checksum(model.student)
    train(model, 5)
    model.requires_grad_(True)
    train(model, 5)
    assert checksum(source) == before
    assert checksum(model.student) != student_before
    assert all(parameter.grad is None for parameter in source.parameters())


def test_optimizer_of_regularized_has_student_and_connectors_only(regularized, net) -> None:
    student = net(2)
    model = regularized(student)
    names = {name for name, _ in model.named_parameters()}
    connector = "regularizer.terms.cd.student_connector.fc"
    assert names == {
        *(f"student.{name}" for name, _ in student.named_parameters()),
        f"{connector}.weight",
        f"{connector}.bias",
    }
    assert {name for name, _ in model.named_buffers()} == {f"student.{name}" for name, _ in student.named_buffers()}


def view_of_fc(source, student) -> None:
    student.fc.weight = nn.Parameter(source.fc.weight.detach()[1:3])


def same_parameter(source, student) -> None:
    student.layer2[0].weight = source.layer2[0].weight


def same_buffer(source, student) -> None:
    student.layer1[1].running_mean = source.layer1[1].running_mean


def same_module(source, student) -> None:
    student.layer1 = source.layer1


@pytest.mark.parametrize(
    ("share", "named"),
    [
        (view_of_fc, "fc.weight"),
        (same_parameter, "layer2.0.weight"),
        (same_buffer, "layer1.1.running_mean"),
        (same_module, "layer1.0.weight"),
    ],
)
def test_shared_tensor_raises(net, ed, source, share, named) -> None:
    student = net(2)
    share(source, student)
    with pytest.raises(ValueError, match=f"'{named}' of the student is the teacher's own.*deepcopy"):
        xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [ed()])


def test_student_that_is_the_source_raises(ed, source) -> None:
    with pytest.raises(ValueError, match="teacher's own"):
        xr.CrossTaskRegularizer(source, xr.FrozenTeacher(source), [ed()])


@pytest.mark.parametrize("side", ["student_connector", "teacher_connector"])
def test_connector_that_shares_the_teacher_s_tensor_raises(net, ed, source, side) -> None:
    term = ed(**{side: xr.PooledClassifier(source.fc)})
    with pytest.raises(ValueError, match=f"'ed.{side}.fc.weight' of the terms is the teacher's own.*retained"):
        xr.CrossTaskRegularizer(net(2), xr.FrozenTeacher(source), [term])


class Shifted(nn.Module):
    """Changes what it is given in place, before a network that may be None."""

    def __init__(self, network: nn.Module | None) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        images.sub_(0.5)
        return images if self.network is None else self.network(images)


@pytest.mark.parametrize("where", ["network", "adapter"])
@pytest.mark.parametrize("options", [{}, {"compile": True}], ids=str)
def test_what_works_in_place_changes_nothing_for_others(net, source, images, where, options) -> None:
    torch.compiler.reset()
    network = copy.deepcopy(source.eval())
    altering = xr.FrozenTeacher(Shifted(network), **options)
    path = "network.layer2"
    if where == "adapter":
        altering, path = xr.FrozenTeacher(network, Shifted(None), **options), "layer2"
    before, expected = images.clone(), source.layer2(source.layer1(images - 0.5).relu())
    terms = [xr.Term(xr.HintLoss(), student="layer2", teacher=f"a.{path}", weight=1, name="a")]
    terms.append(xr.Term(xr.HintLoss(), student="layer2", teacher="b.layer2", weight=1, name="b"))
    student = net(norm=False)
    teachers = {"a": altering, "b": xr.FrozenTeacher(copy.deepcopy(source))}
    regularizer = xr.CrossTaskRegularizer(student, teachers, terms)
    for _ in range(3):
        with regularizer.recording(images):
            student(images)
        losses = regularizer()
        assert torch.equal(images, before)
        torch.testing.assert_close(altering.features(images, [path])[path], expected)
        features = student.layer2(student.layer1(images).relu())
        torch.testing.assert_close(losses["a"], (features - expected).square().mean() / 2)
        other = source.layer2(source.layer1(images).relu())
        torch.testing.assert_close(losses["b"], (features - other).square().mean() / 2)


def test_integers_reach_the_network_as_they_are() -> None:
    class Scaling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 2, 1)

        def forward(self, images: Tensor) -> Tensor:
            return self.layer(images / 255 if images.dtype == torch.uint8 else images)

    network = Scaling()
    images = torch.randint(256, (2, 3, 4, 4), dtype=torch.uint8)
    found = xr.FrozenTeacher(network).features(images, ["layer"])["layer"]
    torch.testing.assert_close(found, network.layer(images / 255))


def test_integer_parameters_do_not_tell_the_precision(source, images) -> None:
    """As quantized layers have them."""
    expected = xr.FrozenTeacher(source)(images)
    source.codes = nn.Parameter(torch.ones(2, dtype=torch.int8), requires_grad=False)
    assert torch.equal(xr.FrozenTeacher(source)(images), expected)
    assert xr.list_taps(source, images)[0].path == "layer1"


def test_network_whose_train_returns_nothing(net, images) -> None:
    """Some frameworks' backbones do."""

    class Careless(type(net())):
        def train(self, mode: bool = True) -> None:
            super().train(mode)

    teacher = xr.FrozenTeacher(Careless())
    assert not any(part.training for part in teacher.network.modules())
    assert not any(parameter.requires_grad for parameter in teacher.network.parameters())
    assert not teacher(images).requires_grad


@pytest.mark.parametrize("make", [torch.jit.script, lambda network: torch.jit.trace(network, torch.rand(1, 3, 9, 11))])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_network_of_torchscript(source, images, make) -> None:
    network = make(source.eval())
    output = xr.FrozenTeacher(network)(images)
    assert torch.equal(output, source(images))
    assert not output.requires_grad
    assert not any(parameter.requires_grad for parameter in network.parameters())
