"""DDP, FSDP and SyncBatchNorm leave the teacher alone; two real processes (gloo, CPU), whose program this file is."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from two_processes import WORLD_SIZE, found_by_each, work

import xtask_reg as xr

STEPS = 4


class Net(nn.Module):
    def __init__(self, outputs: int, norm: bool) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4) if norm else nn.Identity(), nn.ReLU(True))
        self.layer2 = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6) if norm else nn.Identity())
        self.fc = nn.Linear(6, outputs)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.layer2(self.layer1(images)).relu().mean(dim=(2, 3)))


def make(norm: bool = False, teacher_seed: int = 0) -> xr.Regularized:
    """The teacher has batch norm, with values of its own; the student has it if ``norm``."""
    torch.manual_seed(teacher_seed)
    source = Net(5, norm=True)
    for norm_layer in (source.layer1[1], source.layer2[1]):
        for tensor in (norm_layer.weight, norm_layer.bias, norm_layer.running_mean, norm_layer.running_var):
            nn.init.uniform_(tensor, 0.5, 1.5)
    torch.manual_seed(0)
    student, connector = Net(2, norm), xr.retained_classifier(Net(5, norm=False).fc)
    terms = [
        xr.Term(xr.CosineAlignmentLoss(), student="layer2", teacher="layer2", weight=0.7, name="ed"),
        xr.Term(
            xr.SoftmaxL2Loss(), student="layer2", teacher="fc", weight=30.0, name="cd", student_connector=connector
        ),
    ]
    return xr.Regularized(student, xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), terms)).train()


def train(model: nn.Module, regularizer: xr.CrossTaskRegularizer, rank: int | None) -> list[dict[str, float]]:
    """Steps of Adam, with the joined batch or with this rank's half of it; one term ends half way."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    values = []
    for step in range(STEPS):
        if step == STEPS // 2:
            regularizer.set_weight("cd", 0)
        images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        output, losses = model(images if rank is None else images.chunk(WORLD_SIZE)[rank])
        optimizer.zero_grad()
        (output.square().mean() + sum(losses.values())).backward()
        optimizer.step()
        values.append({name: loss.item() for name, loss in losses.items()})
    return values


def validated_in_one(rank: int) -> list[str]:
    """Rank 0 alone calls the module within DDP, without gradients."""
    model = make()
    DistributedDataParallel(model)
    with torch.no_grad():
        return [] if rank else sorted(model(torch.randn(2, 3, 8, 8))[1])


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def in_ddp(rank: int) -> dict[str, Any]:
    """Teachers that differ, and students whose batch norms see different halves."""
    model = make(norm=True, teacher_seed=rank)
    teacher = model.regularizer.teacher.network
    before = tensors_of(teacher)
    wrapped = DistributedDataParallel(model)
    train(wrapped, model.regularizer, rank)
    with torch.no_grad():
        wrapped(torch.randn(2, 3, 8, 8))  # DDP sends the buffers before a call
    return {
        "teacher before": before,
        "teacher": tensors_of(teacher),
        "connector": tensors_of(model.regularizer),
        "bytes": sum(buffer.nbytes for buffer in wrapped.modules_buffers),
        "student's bytes": sum(buffer.nbytes for buffer in model.student.buffers()),
    }


def in_fsdp(rank: int) -> dict[str, Any]:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    mesh = init_device_mesh("cpu", (WORLD_SIZE,))
    model = make()
    teacher = model.regularizer.teacher.network
    before = tensors_of(teacher)
    for part in (model.student.layer1, model.student.layer2, model.regularizer, model):
        fully_shard(part, mesh=mesh)
    sharded = [type(parameter) is DTensor for parameter in model.parameters()]
    values = train(model, model.regularizer, rank)
    return {
        "all is sharded": all(sharded),
        "teacher before": before,
        "teacher": tensors_of(teacher),
        "types": {type(tensor) for tensor in (*teacher.parameters(), *teacher.buffers())} - {nn.Parameter, Tensor},
        "values": values,
        "parameters": {name: parameter.full_tensor() for name, parameter in model.named_parameters()},
    }


def balanced_in_fsdp(rank: int) -> float:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = make()
    model.regularizer.set_weight("ed", xr.Balanced(0.1))
    for part in (model.student.layer1, model.student.layer2, model.regularizer, model):
        fully_shard(part, mesh=init_device_mesh("cpu", (WORLD_SIZE,)))
    for _ in range(2):
        train(model, model.regularizer, rank)
    return model.regularizer.terms["ed"].weight


def warnings_in_fsdp(rank: int) -> list[str]:
    """The warnings while student and connectors train, for more steps than the check of connectors needs."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = make()
    for part in (model.student.layer1, model.student.layer2, model.regularizer, model):
        fully_shard(part, mesh=init_device_mesh("cpu", (WORLD_SIZE,)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(6):
            output, losses = model(torch.randn(4, 3, 8, 8))
            (output.square().mean() + sum(losses.values())).backward()
            optimizer.step()
            optimizer.zero_grad()
    return [str(warning.message) for warning in caught if "do not train" in str(warning.message)]


def in_fsdp_without_the_regularizer(rank: int) -> str:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = make()
    fully_shard(model.student, mesh=init_device_mesh("cpu", (WORLD_SIZE,)))
    try:
        train(model, model.regularizer, rank)
    except RuntimeError as error:
        return str(error)
    return "no error"


def make_penalty() -> xr.Regularized:
    model = make()
    term = xr.Term(xr.L2SPPenalty(), student="", teacher="", weight=0.1, name="sp")
    return xr.Regularized(model.student, xr.CrossTaskRegularizer(model.student, model.regularizer.teacher, [term]))


def penalty_in_fsdp(rank: int) -> dict[str, str]:
    """The errors if parameters are sharded, flat or rounded when the penalty reads them."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel, MixedPrecisionPolicy, fully_shard
    from torch.distributed.fsdp.wrap import ModuleWrapPolicy

    def layers(model: xr.Regularized) -> nn.Module:
        fully_shard(model.student.layer1, mesh=mesh)
        return fully_shard(model, mesh=mesh)

    def first_fsdp(model: nn.Module, **options: Any) -> nn.Module:
        return FullyShardedDataParallel(model, device_id=torch.device("cpu"), **options)

    def student_alone(model: xr.Regularized) -> nn.Module:
        student = first_fsdp(model.student, use_orig_params=True)
        return lambda images: (student(images), model.regularizer())

    mesh, layer = init_device_mesh("cpu", (WORLD_SIZE,)), ModuleWrapPolicy({nn.Sequential})
    ways = {
        "layers": layers,
        "rounded": lambda model: fully_shard(model, mesh=mesh, mp_policy=MixedPrecisionPolicy(torch.bfloat16)),
        "FSDP1, layers": lambda model: first_fsdp(model, use_orig_params=True, auto_wrap_policy=layer),
        "FSDP1, flat": lambda model: first_fsdp(model, use_orig_params=False),
        "FSDP1, student alone": student_alone,
    }
    found = {}
    for name, wrap in ways.items():
        try:
            wrap(make_penalty())(torch.randn(2, 3, 8, 8))
            found[name] = "no error"
        except RuntimeError as error:
            found[name] = str(error)
    return found


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each process found in each scenario."""
    return found_by_each(__file__, tmp_path_factory.mktemp("ranks"))


def test_balance_under_fsdp(ranks: list[dict[str, Any]]) -> None:
    """A step changes only the shards: here these are compared, and all processes find the weight."""
    one, other = (found["balanced_in_fsdp"] for found in ranks)
    assert one == other > 0


@pytest.mark.parametrize("how", ["in_ddp", "in_fsdp"])
def test_teacher_s_tensors_are_untouched(ranks: list[dict[str, Any]], how: str) -> None:
    """DDP or FSDP changes the teacher's parameters or statistics: here neither a bit nor their type."""
    for found in ranks:
        torch.testing.assert_close(found[how]["teacher"], found[how]["teacher before"], rtol=0, atol=0)
        assert not found[how].get("types")


def test_teacher_is_not_sent_over_the_wire(ranks: list[dict[str, Any]]) -> None:
    """DDP broadcasts the teacher at the start, and its statistics before each call: here only the student's."""
    one, other = (found["in_ddp"] for found in ranks)
    for name, tensor in one["teacher"].items():
        assert name.endswith("num_batches_tracked") or not torch.equal(tensor, other["teacher"][name]), name
    assert one["bytes"] == one["student's bytes"] > 0


def test_connectors_in_ddp(ranks: list[dict[str, Any]]) -> None:
    """Connectors drift apart between the processes, though the teachers and the images differ: here they do not."""
    one, other = (found["in_ddp"]["connector"] for found in ranks)
    assert len(one) == 2
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_numbers_in_fsdp_are_those_of_one_process(ranks: list[dict[str, Any]]) -> None:
    """FSDP loses the taps, or the gradients of connectors: here training equals one process with the joined batch."""
    model = make()
    values = train(model, model.regularizer, None)
    halves = [found["in_fsdp"]["values"] for found in ranks]
    for step, wanted in enumerate(values):
        for name, value in wanted.items():
            assert sum(half[step][name] for half in halves) / WORLD_SIZE == pytest.approx(value, rel=1e-4, abs=1e-6)
    for found in ranks:
        assert found["in_fsdp"]["all is sharded"]
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(found["in_fsdp"]["parameters"][name], parameter.data, rtol=1e-4, atol=1e-5)


def test_connectors_that_train_in_fsdp_are_seen_to(ranks: list[dict[str, Any]]) -> None:
    """FSDP writes gathered parameters without counting the change."""
    for found in ranks:
        assert not found["warnings_in_fsdp"]


def test_validation_in_one_process(ranks: list[dict[str, Any]]) -> None:
    """Without gradients, trainable connectors are allowed."""
    assert ranks[0]["validated_in_one"] == ["cd", "ed"]


def test_connectors_outside_fsdp_raise(ranks: list[dict[str, Any]]) -> None:
    """Only the student is sharded, and the connectors train unsynchronised: here an error that says what to do."""
    for found in ranks:
        assert "fully_shard(regularizer)" in found["in_fsdp_without_the_regularizer"]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("layers", "parameters that FSDP or tensor parallelism shards"),
        ("rounded", "was torch.float32 and is torch.bfloat16 in this step"),
        ("FSDP1, layers", "parameters that FSDP or tensor parallelism shards"),
        ("FSDP1, flat", "FSDP's flat parameters"),
        ("FSDP1, student alone", "parameters that FSDP or tensor parallelism shards"),
    ],
)
def test_penalty_of_what_fsdp_has_raises(ranks: list[dict[str, Any]], how: str, message: str) -> None:
    """A penalty compares shards, or rounded copies, with the source's parameters: here an error in each process."""
    for found in ranks:
        assert message in found["penalty_in_fsdp"][how]


def test_sync_batchnorm_conversion() -> None:
    """SyncBatchNorm's conversion goes through the teacher: here only the student is converted, and trains as before."""
    plain, model = make(norm=True), make(norm=True)
    network = model.regularizer.teacher.network
    own = list(network.modules())
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    kinds = {type(module) for module in converted.student.modules()}
    assert nn.SyncBatchNorm in kinds
    assert nn.BatchNorm2d not in kinds
    assert converted.regularizer.teacher.network is network
    assert list(network.modules()) == own
    assert [type(network.layer1[1]), type(network.layer2[1])] == [nn.BatchNorm2d] * 2
    before = tensors_of(network)
    assert train(converted, converted.regularizer, None) == train(plain, plain.regularizer, None)
    torch.testing.assert_close(tensors_of(network), before, rtol=0, atol=0)


def test_tapped_batchnorm_that_was_converted() -> None:
    """The conversion puts a new layer in the place of a tapped batch norm, without the hook: here an error says so."""
    model = make(norm=True)
    term = xr.Term(xr.CosineAlignmentLoss(), student="layer2.1", teacher="layer2.1", weight=1.0, name="ed")
    regularizer = xr.CrossTaskRegularizer(model.student, model.regularizer.teacher, [term])
    student = nn.SyncBatchNorm.convert_sync_batchnorm(model.student)
    student(torch.randn(2, 3, 8, 8))
    with pytest.raises(xr.TapError, match="'layer2.1' was replaced: there is a SyncBatchNorm now"):
        regularizer()


if __name__ == "__main__":
    in_ddp_and_fsdp = (in_ddp, validated_in_one, in_fsdp, balanced_in_fsdp, warnings_in_fsdp)
    work((*in_ddp_and_fsdp, in_fsdp_without_the_regularizer, penalty_in_fsdp))
