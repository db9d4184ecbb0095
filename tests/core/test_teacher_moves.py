"""Moving, converting or emptying a model: the effect on its teacher, and on those of its copies."""

from __future__ import annotations

import copy
import tempfile

import pytest
import torch

import xtask_reg as xr


def kinds(model: xr.Regularized) -> set[tuple[torch.device, torch.dtype]]:
    network = model.regularizer.teacher.network
    return {(each.device, each.dtype) for each in (*network.parameters(), *network.buffers())}


CONVERSIONS = {
    "half": lambda model: copy.deepcopy(model).half(),
    "double": lambda model: copy.deepcopy(model).double(),
    "to": lambda model: copy.deepcopy(model).to("meta"),
    "copy of a copy": lambda model: copy.deepcopy(copy.deepcopy(model)).double(),
    "AveragedModel": lambda model: torch.optim.swa_utils.AveragedModel(model, device="meta").module,
    "channels last": lambda model: copy.deepcopy(model).to(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("how", CONVERSIONS)
def test_converted_copy_leaves_the_original(plain, images, train, how) -> None:
    before, given = kinds(plain), plain(images)[1]
    copied = CONVERSIONS[how](plain)
    teacher, own = plain.regularizer.teacher, copied.regularizer.teacher
    assert kinds(plain) == before
    assert own.network is not teacher.network
    assert teacher.network.layer1[0].weight.is_contiguous()
    parameter = next(copied.student.parameters())
    assert own.network.fc.weight.device == parameter.device
    assert own.network.fc.weight.dtype == parameter.dtype
    assert not any(each.requires_grad for each in own.network.parameters())
    assert {name: loss.item() for name, loss in plain(images)[1].items()} == {k: v.item() for k, v in given.items()}
    train(plain)


def test_converted_copy_works_with_a_network_of_its_own(plain, images, expected, values) -> None:
    plain(images)
    adapter = xr.InputAdapter(xr.InputConvention(), xr.InputConvention(mean=(0, 0, 0)))
    plain.regularizer.teacher.use_adapter(adapter)
    copied = copy.deepcopy(plain).double()
    assert adapter.scale.dtype == torch.float32
    copied.regularizer.teacher.use_adapter(None)
    assert expected(copied, images.double()) == values(copied(images.double())[1])
    own = copied.regularizer.teacher.network
    copied.float()  # no longer borrowed: converted in place
    assert copied.regularizer.teacher.network is own


def test_converted_copy_has_a_cache_of_its_own(net, images) -> None:
    with tempfile.TemporaryDirectory() as folder:
        teacher = xr.FrozenTeacher(net(), cache=xr.TeacherCache(folder, images=4))
        kept = teacher.features(images, ["layer2"])["layer2"]
        copied = copy.deepcopy(teacher).double()
        assert copied.cache is not teacher.cache
        precise = copied.features(images.double(), ["layer2"])["layer2"]
        assert torch.allclose(precise.float(), kept, atol=1e-5)


@pytest.mark.parametrize("move", [lambda m: m.to("cpu"), lambda m: m.float(), lambda m: m.train()])
def test_copy_shares_as_long_as_nothing_changes(plain, move) -> None:
    copied = move(copy.deepcopy(plain))
    assert copied.regularizer.teacher.network is plain.regularizer.teacher.network


def test_copy_follows_the_original_s_network(plain) -> None:
    copied = copy.deepcopy(plain)
    plain.double()
    assert kinds(copied) == {(torch.device("cpu"), torch.float64)}
    copied.double()
    assert copied.regularizer.teacher.network is plain.regularizer.teacher.network


@pytest.mark.parametrize("which", ["owner", "copy", "teacher"])
def test_to_empty_raises(plain, which) -> None:
    before = copy.deepcopy(plain.regularizer.teacher.network.state_dict())
    model = {"owner": plain, "copy": copy.deepcopy(plain), "teacher": plain.regularizer.teacher}[which]
    with pytest.raises(RuntimeError, match=r"values of the frozen teacher.*build the teacher after.*\.to\(\)"):
        model.to_empty(device="cpu")
    after = plain.regularizer.teacher.network.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_to_empty_of_a_teacher_on_meta(plain) -> None:
    plain.to("meta").to_empty(device="cpu")
    assert {device for device, _ in kinds(plain)} == {torch.device("cpu")}


def test_quantized_tensors_stay_beside_what_is_converted(net) -> None:
    source = net()
    source.register_buffer("table", torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8))
    copied = copy.deepcopy(xr.FrozenTeacher(source)).double()
    assert copied.network.fc.weight.dtype == torch.float64
    assert copied.network.table.dtype == torch.quint8
