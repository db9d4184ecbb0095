"""Which parts of the teacher a pass computes, and which it skips."""

from __future__ import annotations

import copy
import gc
import pickle
import shutil
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import xtask_reg as xr


class Counted(nn.Linear):
    """A last layer that counts its calls."""

    calls = 0

    def forward(self, features: Tensor) -> Tensor:
        Counted.calls += 1
        return super().forward(features)


@pytest.fixture
def source(net):
    network = net(inplace=False).eval()
    network.fc = Counted(6, 5)
    Counted.calls = 0
    return network


@pytest.fixture
def plain_source(net):
    return net(inplace=False).eval()


def by_hand(source: nn.Module, images: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        first = source.layer1(images)
        second = source.layer2(first.relu())
        return {"layer1": first, "layer2": second, "fc": nn.Linear.forward(source.fc, second.relu().mean((2, 3)))}


def assert_right(source: nn.Module, teacher: xr.FrozenTeacher, images: Tensor, paths: tuple[str, ...]) -> None:
    found, wanted = teacher.features(images, paths), by_hand(source, images)
    assert set(found) == set(paths)
    for path in paths:
        torch.testing.assert_close(found[path], wanted[path], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("paths", "whole"), [(("layer1",), 0), (("layer2", "layer1"), 0), (("fc", "layer1"), 3), (("layer2", "fc"), 3)]
)
def test_ends_at_the_deepest_tap(source, images, paths, whole) -> None:
    teacher = xr.FrozenTeacher(source)
    assert_right(source, teacher, images, paths)  # the first pass is complete
    assert Counted.calls == 1
    for _ in range(3):
        assert_right(source, teacher, images + 1, paths)
    assert Counted.calls == 1 + whole


def test_each_set_of_taps_ends_at_its_own(source, images) -> None:
    teacher = xr.FrozenTeacher(source)
    for _ in range(2):
        for paths in (("layer1",), ("layer1", "layer2"), ("fc",)):
            assert_right(source, teacher, images, paths)
    assert Counted.calls == 3 + 1


def test_training_pays_for_no_more(source, images, net, ed) -> None:
    student = net()
    regularizer = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [ed()])
    for _ in range(4):
        student(images)
        regularizer()["ed"].backward()
    assert Counted.calls == 1


def hooked(source: nn.Module) -> nn.Module:
    source.fc.register_forward_hook(lambda module, args, output: None)
    return source


def offloaded(source: nn.Module) -> nn.Module:
    forward = source.layer2.forward
    source.layer2.forward = lambda features: forward(features)
    return source


class Owner(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.module = network

    def forward(self, images: Tensor) -> Tensor:
        return self.module(images)


@pytest.mark.parametrize("owned", [hooked, offloaded, Owner], ids=lambda owned: owned.__name__)
def test_whole_where_something_is_to_do_behind_the_tap(source, images, owned: Callable[..., nn.Module]) -> None:
    teacher = xr.FrozenTeacher(owned(source))
    for _ in range(3):
        teacher.features(images, ["layer2"])
    assert Counted.calls == 3


def test_a_network_that_catches_errors_is_left_all_the_same(source, images) -> None:
    class Careful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = source

        def forward(self, images: Tensor) -> Tensor | None:
            try:
                return self.net(images)
            except Exception:
                return None

    teacher = xr.FrozenTeacher(Careful())
    for _ in range(2):
        found = teacher.features(images, ["net.layer2"])
    torch.testing.assert_close(found["net.layer2"], by_hand(source, images)["layer2"], rtol=0, atol=0)
    assert Counted.calls == 1


def test_interruption_within_the_pass_is_not_swallowed(source, images) -> None:
    teacher = xr.FrozenTeacher(source)
    teacher.features(images, ["layer2"])
    source.layer1[0].weight.data = torch.zeros(1)
    with pytest.raises(RuntimeError, match="weight"):
        teacher.features(images, ["layer2"])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda teacher: pickle.loads(pickle.dumps(teacher))])
def test_copies_go_on(source, images, copied) -> None:
    teacher = xr.FrozenTeacher(source)
    teacher.features(images, ["layer2"])
    for _ in range(2):
        assert_right(source, copied(teacher), images, ("layer2",))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.03), (torch.float16, 0.004)])
@pytest.mark.parametrize("autocast", [False, True])
def test_precision(source, images, dtype, tolerance, autocast) -> None:
    wanted = by_hand(source, images)
    teacher = xr.FrozenTeacher(source, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = teacher.features(images, ["layer1", "layer2"])
    for path, output in found.items():
        assert output.dtype == dtype
        torch.testing.assert_close(output.float(), wanted[path], rtol=tolerance, atol=tolerance)


def test_terms_beside_a_teacher_in_half_precision(net, images, ed, cd) -> None:
    student, source = net().eval(), net()
    source.load_state_dict(student.state_dict())
    teacher = xr.FrozenTeacher(source, dtype=torch.bfloat16)
    regularizer = xr.CrossTaskRegularizer(student, teacher, [ed(), cd(source)])
    connector = regularizer.terms["cd"].student_connector
    assert connector.fc.weight.dtype == torch.float32
    student(images)
    losses = regularizer()
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert losses["ed"].item() == pytest.approx(0, abs=1e-4)  # 0 but for the rounding
    sum(losses.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in connector.parameters())


def test_penalty_on_rounded_parameters_is_refused(net) -> None:
    student, teacher = net(), xr.FrozenTeacher(net(), dtype=torch.float16)
    term = xr.Term(xr.L2SPPenalty(), student="layer1", teacher="layer1", weight=0.1, name="l2sp")
    with pytest.raises(ValueError, match="'0.weight' is torch.float32 in the student.*torch.float16 in the teacher"):
        xr.CrossTaskRegularizer(student, teacher, [term])


def test_channels_last(source, images) -> None:
    wanted = by_hand(source, images)
    teacher = xr.FrozenTeacher(source, channels_last=True)
    assert source.layer1[0].weight.is_contiguous(memory_format=torch.channels_last)
    found = teacher.features(images, ["layer2"])["layer2"]
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, wanted["layer2"])


def compiling_with(backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda run, mode: compiler(run, backend=backend, fullgraph=True))


def test_compiled(plain_source, images, monkeypatch) -> None:
    graphs = []

    def counting(graph: torch.fx.GraphModule, inputs: object) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    compiling_with(counting, monkeypatch)
    teacher = xr.FrozenTeacher(plain_source, compile=True)
    for shift in range(4):
        assert_right(plain_source, teacher, images + shift, ("layer2", "layer1"))
    assert len(graphs) == 1
    for _ in range(2):
        assert_right(plain_source, teacher, images, ("layer1",))
    assert len(graphs) == 2
    assert_right(plain_source, pickle.loads(pickle.dumps(teacher)), images, ("layer1",))


def test_compiled_graph_leaves_out_what_is_not_used(plain_source, images, monkeypatch) -> None:
    from torch._dynamo.backends.common import aot_autograd

    operations: list[str] = []

    def reading(graph: torch.fx.GraphModule, inputs: object) -> torch.fx.GraphModule:
        operations.extend(str(node.target) for node in graph.graph.nodes)
        return graph

    compiling_with(aot_autograd(fw_compiler=reading), monkeypatch)
    teacher = xr.FrozenTeacher(plain_source, compile=True)
    for _ in range(2):
        assert_right(plain_source, teacher, images, ("layer2",))
    assert sum("convolution" in operation for operation in operations) == 2
    assert not any("addmm" in operation for operation in operations)  # the last layer


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_compiled_by_inductor(plain_source, images) -> None:
    teacher = xr.FrozenTeacher(plain_source, compile=True)
    for shift in range(3):
        found = teacher.features(images + shift, ["layer2"])["layer2"]
        torch.testing.assert_close(found, by_hand(plain_source, images + shift)["layer2"])


class Remembered(nn.Linear):
    """A layer with weak references to its outputs."""

    def __init__(self) -> None:
        super().__init__(4, 4)
        self.outputs: list[weakref.ref[Tensor]] = []

    def forward(self, features: Tensor) -> Tensor:
        output = super().forward(features)
        self.outputs.append(weakref.ref(output))
        return output


class Collecting(nn.Module):
    """A network that holds the outputs of all its layers while it runs, as MMPose's backbones do."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Remembered() for _ in range(3))

    def forward(self, features: Tensor) -> list[Tensor]:
        outputs = []
        for layer in self.layers:
            features = layer(features)
            outputs.append(features)
        return outputs


def test_what_was_computed_on_the_way_is_freed_at_once() -> None:
    """An exception that ends the pass, and is kept for a while, keeps every frame's tensors (Python 3.12)."""
    source = Collecting()
    teacher = xr.FrozenTeacher(source)
    gc.disable()
    try:
        for _ in range(3):
            teacher.features(torch.rand(2, 4), ["layers.1"])
        freed = [output() is None for layer in source.layers for output in layer.outputs]
    finally:
        gc.enable()
    assert freed == [True] * (3 + 3 + 1)  # the last layer runs in the first pass only


@pytest.mark.parametrize(("size", "path", "noted"), [(12, "0", True), (12, "2", False), (3, "0", False)])
def test_a_head_for_images_of_one_size(size, path, noted) -> None:
    """It fails behind the tap, or at it, or before it."""
    network = nn.Sequential(nn.Conv2d(3, 4, 5), nn.Flatten(), nn.Linear(4 * 5 * 5, 2))
    with pytest.raises(RuntimeError) as failure:
        xr.FrozenTeacher(network).features(torch.zeros(1, 3, size, size), [path])
    notes = "".join(getattr(failure.value, "__notes__", ()))
    assert ("put nn.Identity() in its place" in notes) is noted
