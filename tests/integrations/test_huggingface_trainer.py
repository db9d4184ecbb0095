"""The recipe for ``Trainer`` in docs/huggingface.md, compared with a loop by hand."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments, ViTConfig, ViTForImageClassification

import xtask_reg as xr

PAGE = (Path(__file__).parents[2] / "docs" / "huggingface.md").read_text()
SIZES = dict(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32)
SIZES |= dict(image_size=32, patch_size=8)
STEPS = 4


def recipe() -> dict[str, Any]:
    """The two classes of the page."""
    namespace: dict[str, Any] = {"xr": xr, "TrainerCallback": TrainerCallback}
    for name in ("ForTrainer", "Progress"):
        (code,) = re.findall(rf"^class {name}.*?(?=\n\n\n)", PAGE, re.DOTALL | re.MULTILINE)
        exec(code, namespace)
    return namespace


def network(labels: int) -> ViTForImageClassification:
    config = ViTConfig(**SIZES, num_labels=labels, problem_type="regression" if labels == 4 else None)
    return ViTForImageClassification(config)


def made() -> nn.Module:
    """A term with a connector that trains, and a weight that changes over the training."""
    torch.manual_seed(0)
    source, student = network(5), network(4)
    student.vit.load_state_dict(source.vit.state_dict())
    (term,) = xr.shorthand(student, xr.FrozenTeacher(source), "ctd-cd")
    term.set_weight(xr.LinearDecay(start=0.5, until=1.0))
    return recipe()["ForTrainer"](student, xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [term]))


def drawn() -> list[dict[str, torch.Tensor]]:
    """Samples of a single batch, so that their order does not matter."""
    random = torch.Generator().manual_seed(1)
    return [
        {"pixel_values": torch.rand(3, 32, 32, generator=random), "labels": torch.rand(4, generator=random)}
        for _ in range(6)
    ]


@pytest.fixture(autouse=True)
def _same_safe_globals() -> Iterator[None]:
    """Restore torch's safe globals: ``Trainer`` uses ``safe_globals``, which on exit drops earlier ones as well."""
    before = torch.serialization.get_safe_globals()
    yield
    torch.serialization.add_safe_globals(before)


@pytest.fixture
def model() -> nn.Module:
    return made()


@pytest.fixture
def data() -> list[dict[str, torch.Tensor]]:
    return drawn()


def trainer(model: nn.Module, data: list[dict[str, torch.Tensor]], folder: Path, **more: Any) -> Trainer:
    usual = dict(per_device_train_batch_size=6, learning_rate=0.05, lr_scheduler_type="constant", max_grad_norm=0.0)
    usual |= dict(optim="sgd", report_to="none", disable_tqdm=True, use_cpu=True, max_steps=STEPS)
    arguments = TrainingArguments(str(folder), **{**usual, **more})
    return Trainer(model, arguments, train_dataset=data, eval_dataset=data, callbacks=[recipe()["Progress"]()])


def by_hand(model: nn.Module, data: list[dict[str, torch.Tensor]]) -> nn.Module:
    model = copy.deepcopy(model).train()
    images, labels = (torch.stack([each[key] for each in data]) for key in ("pixel_values", "labels"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for step in range(STEPS):
        scores = model.student(images).logits
        (term,) = model.regularizer.terms.values()
        term.progress = step / STEPS
        answers = [term.student_connector(model.student(images, output_hidden_states=True).hidden_states[3])]
        with torch.no_grad():
            answers.append(model.regularizer.teacher.network(images).logits)
        student, teacher = ((each / 2).softmax(1) for each in answers)
        weight = 0.5 * (1 - step / STEPS)
        loss = (scores - labels).square().mean() + weight * (student - teacher).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def test_trains_student_and_connector_as_a_loop_by_hand(model, data, tmp_path) -> None:
    before = copy.deepcopy(model.state_dict())
    expected = by_hand(model, data).state_dict()
    trainer(model, data, tmp_path).train()
    found = model.state_dict()
    assert found.keys() == expected.keys()
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    moved = {key for key in found if not torch.equal(found[key], before[key])}
    assert any(key.startswith("regularizer.terms.") for key in moved)
    assert not any("teacher" in key for key in found)


def test_gradient_checkpointing_is_the_student_s(model, data, tmp_path) -> None:
    expected = by_hand(model, data).state_dict()
    with pytest.raises(AttributeError, match="gradient_checkpointing_enable"):
        trainer(model, data, tmp_path, gradient_checkpointing=True).train()
    assert "`student.gradient_checkpointing_enable()`" in PAGE
    model.student.gradient_checkpointing_enable()
    trainer(model, data, tmp_path).train()
    torch.testing.assert_close(model.state_dict(), expected, atol=1e-6, rtol=1e-5)


def test_accumulated_gradients_are_those_of_the_whole_batch(model, data, tmp_path) -> None:
    expected = by_hand(model, data).state_dict()
    trainer(model, data, tmp_path, per_device_train_batch_size=3, gradient_accumulation_steps=2).train()
    torch.testing.assert_close(model.state_dict(), expected, atol=1e-6, rtol=1e-5)


def test_resumed_from_its_checkpoint(model, data, tmp_path) -> None:
    again = copy.deepcopy(model)
    whole = trainer(model, data, tmp_path / "run", save_steps=STEPS // 2)
    whole.train()
    checkpoint = tmp_path / "run" / f"checkpoint-{STEPS // 2}"
    trainer(again, data, tmp_path / "again", save_steps=STEPS // 2).train(resume_from_checkpoint=str(checkpoint))
    torch.testing.assert_close(again.state_dict(), model.state_dict(), atol=1e-6, rtol=1e-5)


def test_what_is_validated_is_the_task_s(model, data, tmp_path) -> None:
    images, labels = (torch.stack([each[key] for each in data]) for key in ("pixel_values", "labels"))
    with torch.no_grad():
        expected = (model.student.eval()(images).logits - labels).square().mean().item()
    assert trainer(model, data, tmp_path).evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)


def test_two_processes_are_one_with_both_batches(model, data, tmp_path) -> None:
    expected = by_hand(model, data).state_dict()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(tmp_path)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def one_of_two_processes(folder: Path) -> None:
    own = made()
    processes = dict(ddp_backend="gloo", ddp_find_unused_parameters=False)
    trainer(own, drawn(), folder / "run", per_device_train_batch_size=3, **processes).train()
    torch.save(own.state_dict(), folder / f"{os.environ['RANK']}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    one_of_two_processes(Path(sys.argv[1]))
