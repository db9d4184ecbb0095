"""A LightningModule with a regularizer, in real trainers on the CPU: training, weights, log."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import timm
import torch
from lightning_case import (
    BATCH,
    BATCHES,
    POINTS,
    TERMS,
    AtOnce,
    Detector,
    Make,
    Plain,
    by_hand,
    cd,
    data,
    ed,
    fit,
    rows,
    source,
    student,
)
from same_tensors import assert_same
from torch import Tensor
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

import xtask_reg as xr
from xtask_reg.integrations.lightning import CrossTaskMixin

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("name", TERMS)
def test_trains_as_the_loop_written_by_hand(name, tmp_path):
    """With a sanity check before, and a validation after each third step."""
    module = Detector(TERMS[name])
    fit(module, tmp_path, val_check_interval=3)
    net, keep = by_hand(TERMS[name]())
    assert_same(module.student.state_dict(), net.state_dict())
    assert_same(module.regularizer.state_dict(), keep.state_dict())
    assert not torch.equal(module.student.layer1[0].weight, student().layer1[0].weight)


@pytest.mark.parametrize("make", [list, lambda: [ed(0.0), cd(0.0)], lambda: [ed(xr.Steps([0.0], []))]])
def test_weight_0_is_plain_training(make, tmp_path):
    module, plain = Detector(make), Plain()
    fit(module, tmp_path)
    fit(plain, tmp_path)
    assert_same(module.state_dict(), plain.state_dict())
    assert {value["sum"] for value in module.values} == {0}


def test_a_monitor_changes_nothing(tmp_path):
    modules = [Detector(TERMS["cd"], monitor) for monitor in (None, 3)]
    for module in modules:
        fit(module, tmp_path)
    assert_same(*(module.state_dict() for module in modules))


def test_terms_and_report_are_logged(tmp_path):
    class Watched(Detector):
        def on_train_batch_end(self, *args: Any) -> None:
            super().on_train_batch_end(*args)
            self.reports.append(dict(self.regularizer.report))

    module = Watched(lambda: [ed(), cd()], monitor=3)
    found = [row for row in rows(fit(module, tmp_path)) if "loss/ed" in row]
    assert [row["step"] for row in found] == list(range(2 * BATCHES))
    expected = {f"{kind}/{term}" for kind in ("value", "weight", "ratio") for term in ("ed", "cd")}
    expected |= {f"{kind}/layer{number}" for kind in ("cosine", "cka") for number in (1, 2)}
    for row, report, value in zip(found, module.reports, module.values, strict=True):
        assert report.keys() == expected
        assert row["loss/ed"] + row["loss/cd"] == pytest.approx(value["sum"], rel=1e-5)
        assert {name: row[name] for name in expected} == pytest.approx(report, rel=1e-5)
    for step in range(0, 2 * BATCHES, 3):
        assert found[step]["loss/ed"] == pytest.approx(0.3 * found[step]["value/ed"], rel=1e-5)
        assert found[step]["loss/cd"] == pytest.approx(20 * found[step]["value/cd"], rel=1e-5)
    assert len({row["cosine/layer2"] for row in found}) == math.ceil(2 * BATCHES / 3)


def test_measurements_reach_a_logger_that_takes_other_steps(tmp_path):
    """Measured in the first step of the first epoch, logged in the fourth of the second one."""
    found = [row for row in rows(fit(Detector(TERMS["ed"], 16), tmp_path, log_every_n_steps=12)) if "ratio/ed" in row]
    assert [row["step"] for row in found] == [11]


def test_numbers_that_are_not_finite_are_not_logged(tmp_path):
    """If the backward pass does not reach the tap, the ratio is unknown."""

    class Elsewhere(Detector):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.student(batch[0])
            self.regularization()
            return self.student.fc.bias.square().sum()

    module = Elsewhere(TERMS["ed"], monitor=1)
    run = fit(module, tmp_path, epochs=1)
    assert math.isnan(module.regularizer.report["ratio/ed"])
    assert "value/ed" in run.logged_metrics
    assert "ratio/ed" not in run.logged_metrics


def test_connectors_are_optimized_and_the_teacher_is_not(tmp_path):
    module = Detector(TERMS["cd"])
    run = fit(module, tmp_path, epochs=1)
    given = {id(parameter) for group in run.optimizers[0].param_groups for parameter in group["params"]}
    connectors = dict(module.regularizer.named_parameters())
    assert given == {id(parameter) for parameter in (*module.student.parameters(), *connectors.values())}
    assert not torch.equal(connectors["terms.cd.student_connector.fc.weight"], source().fc.weight)
    assert_same(module.regularizer.teacher.network.state_dict(), source().state_dict())
    assert not module.regularizer.teacher.network.training


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [batch / 16 for batch in range(16)]),
        ({"accumulate_grad_batches": 2}, [batch // 2 / 8 for batch in range(16)]),
        ({"accumulate_grad_batches": 3}, [step / 6 for step in (0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5)]),
        ({"max_steps": 10}, [step / 10 for step in range(10)]),
        ({"max_epochs": -1, "max_steps": 12}, [step / 12 for step in range(12)]),
        ({"limit_train_batches": 5}, [step / 10 for step in range(10)]),
    ],
)  # fmt: skip
def test_scheduled_weight_follows_the_steps_of_the_optimizer(options, expected, tmp_path):
    module = Detector(lambda: [ed(xr.LinearDecay(1.0))])
    fit(module, tmp_path, **{"epochs": options.pop("max_epochs", 2), **options})
    assert [step["ed"] for step in module.weights] == pytest.approx([1 - progress for progress in expected])


def test_training_without_an_end_leaves_the_progress_to_the_user(tmp_path):
    class Endless(Detector):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
            self.regularizer.progress = 0.25
            return -1 if batch_idx == 2 else None

    module = Endless(lambda: [ed(xr.LinearDecay(1.0))])
    fit(module, tmp_path, epochs=-1, max_time={"seconds": 1})
    assert {step["ed"] for step in module.weights} == {0.75}
    with pytest.raises(RuntimeError, match=r"set regularizer\.progress"):
        fit(Detector(lambda: [ed(xr.LinearDecay(1.0))]), tmp_path, epochs=-1)


class Manual(Detector):
    """Two optimizers, each with a step in every batch."""

    def __init__(self, make: Make) -> None:
        super().__init__(make)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        total = super().training_step(batch, batch_idx)
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(total)
        for optimizer in self.optimizers():
            optimizer.step()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        parts = self.student.parameters(), self.regularizer.parameters()
        return [torch.optim.Adam(part, lr=0.01) for part in parts]


@pytest.mark.parametrize("name", ["cd", "balanced"])
def test_manual_optimization(name, tmp_path):
    module = Manual(TERMS[name])
    fit(module, tmp_path)
    net, keep = by_hand(module.make())
    assert_same(module.student.state_dict(), net.state_dict())
    assert_same(module.regularizer.state_dict(), keep.state_dict())


@pytest.mark.parametrize("options", [{"precision": "bf16-mixed"}, {"gradient_clip_val": 0.1}])
def test_with_other_options_of_the_trainer(options, tmp_path):
    module = Detector(lambda: [ed(xr.Balanced(0.5, every=1)), cd()], monitor=3)
    run = fit(module, tmp_path, **options)
    found = [row for row in rows(run) if "loss/ed" in row]
    assert all(math.isfinite(value) for row in found for value in row.values())
    assert found[-1]["loss/ed"] > 0 < found[-1]["loss/cd"]
    assert all(0.25 < row["ratio/ed"] < 1 for row in found[-4:])
    assert {tensor.dtype for tensor in module.parameters()} == {torch.float32}


def test_images_without_labels(tmp_path):
    """The result equals a step by hand, in which the terms read a second call of the student."""
    others = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(5))

    class Elsewhere(Detector):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            task = mse_loss(self.student(batch[0]), batch[1])
            self.student.eval()
            self.student(others)
            self.by_hand = sum(self.regularizer().values()).item()
            self.student.train()
            self.found = self.regularization(unlabelled=others)
            return task + self.found

    module = Elsewhere(TERMS["ed"])
    fit(module, tmp_path, epochs=1)
    with pytest.raises(ValueError, match="got both"):
        module.regularization(others, unlabelled=others)
    assert module.found.item() == pytest.approx(module.by_hand, rel=1e-6)
    assert module.by_hand > 0


def test_second_training_of_one_module(tmp_path):
    """The second one starts with new balanced weights, and a single regularizer on the student."""
    module = Detector(TERMS["balanced"])
    fit(module, tmp_path)
    first = copy.deepcopy(module.student.state_dict())
    fit(module, tmp_path)
    assert not torch.equal(first["fc.weight"], module.student.fc.weight)
    assert module.weights[BATCHES]["ed"] > 0 == module.weights[2 * BATCHES]["ed"]
    assert len(module.student._forward_pre_hooks) == 1
    assert list(module.state_dict()) == list(Plain().state_dict())


def test_student_may_be_the_module_itself(tmp_path):
    class Whole(CrossTaskMixin, Plain):
        def __init__(self) -> None:
            super().__init__()
            term = xr.Term(xr.CosineAlignmentLoss(), student="student.layer2", teacher="layer2", weight=0.3, name="ed")
            for _ in range(2):
                self.regularize(self, xr.FrozenTeacher(source()), [term])

        def forward(self, images: Tensor) -> Tensor:
            return self.student(images)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return mse_loss(self(batch[0]), batch[1]) + self.regularization()

    module = Whole()
    fit(module, tmp_path)
    assert_same(module.student.state_dict(), by_hand([ed()])[0].state_dict())


def test_shorthand_and_the_other_package(tmp_path):
    import pytorch_lightning
    import torchvision

    class Short(CrossTaskMixin, pytorch_lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.student = torchvision.models.resnet18(num_classes=POINTS)
            teacher = xr.FrozenTeacher(torchvision.models.resnet18())
            self.regularize(self.student, teacher, "ctd-ed + l2-sp", xr.Monitor())

        def training_step(self, batch: Any) -> Tensor:
            return mse_loss(self.student(batch[0]), batch[1]) + self.regularization()

        configure_optimizers = Plain.configure_optimizers

    options = dict(accelerator="cpu", devices=1, enable_progress_bar=False, enable_model_summary=False, logger=False)
    run = pytorch_lightning.Trainer(max_steps=1, enable_checkpointing=False, default_root_dir=tmp_path, **options)
    images = torch.randn(BATCH, 3, 32, 32)
    run.fit(Short(), DataLoader(TensorDataset(images, torch.randn(BATCH, POINTS)), BATCH))
    assert run.logged_metrics.keys() >= {"loss/ctd_ed", "loss/l2_sp", "ratio/ctd_ed", "cosine/layer4"}


def test_taps_are_found_with_the_images():
    class OneSize(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = timm.create_model("resnet10t", in_chans=5)

        def forward(self, images: Tensor) -> Tensor:
            assert images.shape[1:] == (5, 48, 48)
            return self.net(images)

    module, images = Detector(list), torch.rand(2, 5, 48, 48)
    with pytest.raises(ValueError, match=r"give images=\.\.\. that it takes"):
        module.regularize(OneSize(), xr.FrozenTeacher(OneSize()), "ctd-ed")
    module.regularize(OneSize(), xr.FrozenTeacher(OneSize()), "ctd-ed", images=images)
    assert module.regularizer.terms["ctd_ed"].student == "net.layer4"


def test_order_of_the_bases_is_checked():
    class Backwards(Plain, CrossTaskMixin):
        pass

    with pytest.raises(TypeError, match=r"class Backwards\(CrossTaskMixin, LightningModule\)"):
        Backwards().regularize(student(), None, [])


def test_forgotten_line_is_an_error():
    class Forgetful(CrossTaskMixin, Plain):
        pass

    with pytest.raises(RuntimeError, match="call self.regularize"):
        Forgetful().regularization()


def test_training_step_without_a_trainer():
    module = AtOnce()
    module.training_step(next(iter(DataLoader(data(), BATCH))), 0).backward()
    assert module.values[0]["sum"] > 0


def test_student_that_is_not_simply_called():
    module = AtOnce()
    images, _ = next(iter(DataLoader(data(), BATCH)))
    with module.regularizer.recording():
        module.student.layer2(module.student.layer1(images))
    found = module.regularization(images)
    module.student(images)
    assert found.item() == module.regularization().item() > 0


class OldFashioned(Detector):
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        Detector.on_save_checkpoint(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)

    def on_train_batch_end(self, *args: Any) -> None:
        super().on_train_batch_end(*args)


@pytest.mark.parametrize("hook", ["on_save_checkpoint", "on_load_checkpoint", "on_train_batch_end"])
def test_hooks_that_hide_those_of_the_mixin(hook, recwarn):
    """They are named before training; those that call them in any way are not."""
    lost = {"on_save_checkpoint": "not saved", "on_load_checkpoint": "not resumed", "on_train_batch_end": "not logged"}
    kind = type("Forgetful", (OldFashioned,), {hook: lambda self, *unused: None})
    for module in (kind(TERMS["cd"]), OldFashioned(TERMS["cd"])):
        module.setup("fit")
    (message,) = [str(each.message) for each in recwarn if "does not call super()" in str(each.message)]
    assert message.startswith(f"Forgetful.{hook} ")
    assert message.endswith(lost[hook])
