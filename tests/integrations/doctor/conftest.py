"""Examinations of the tiny configs, each made once."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import DictAction
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from torch import Tensor, nn

from xtask_reg.integrations.mmpose.doctor import Examination, examine, show

MEAN, STD = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])

CALM = {
    "model.terms.0.weight": 1e-5,  # at 0.002 the terms are ten times the task, since the tiny source is untrained
    "model.terms.1.weight": 1e-4,
    "train_dataloader.dataset.serialize_data": False,  # saves half a second each
    "val_dataloader.dataset.serialize_data": False,
}


@pytest.fixture(autouse=True, scope="module")
def _configs_are_not_made_pretty() -> Iterator[None]:
    """MMEngine formats each config several times; that would be most of the time of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmengine.config.config.FormatCode", lambda text, **options: (text, True))
        yield


@pytest.fixture(scope="session")
def tiny_options(options, ft_options) -> Callable[[str], dict[str, Any]]:
    """``tiny_options(method)``: the ``--cfg-options`` of a tiny demo config without risks, as text."""
    return lambda method: {**options, **CALM} if method.startswith("ctd") else ft_options


@pytest.fixture(scope="session")
def look(config_path, tiny_options) -> Callable[..., Examination]:
    """``look(changes, method)``: examine a tiny demo config."""

    def get(changes: Mapping[str, Any] | None = None, method: str = "ctd-com") -> Examination:
        given = {key: DictAction._parse_iterable(str(value)) for key, value in tiny_options(method).items()}
        return examine(config_path(method), {**given, **(changes or {})})

    return get


@pytest.fixture(scope="session")
def diagnose(look) -> Callable[..., Examination]:
    """As ``look``, but each examination is made once."""
    made: dict[str, Examination] = {}

    def get(changes: Mapping[str, Any] | None = None, method: str = "ctd-com") -> Examination:
        key = repr((changes, method))
        if key not in made:
            made[key] = look(changes, method)
        return made[key]

    return get


@pytest.fixture(scope="session")
def risks() -> Callable[[Examination], dict[str, str]]:
    """``risks(examination)``: the messages by name; several with one name are joined by line breaks."""

    def get(examination: Examination) -> dict[str, str]:
        found: dict[str, str] = {}
        for risk in examination.risks:
            found[risk.name] = "\n".join([*filter(None, [found.get(risk.name)]), risk.message])
        return found

    return get


@pytest.fixture(scope="session")
def printed() -> Callable[[Examination], str]:
    """``printed(examination)``: its text."""

    def get(examination: Examination) -> str:
        text = io.StringIO()
        show(examination, Console(file=text, width=120))
        return text.getvalue()

    return get


class FirstBatch(Exception):
    pass


class Stop(Hook):
    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.batch = data_batch
        raise FirstBatch


@pytest.fixture
def at_first_step(tiny_runner) -> Callable[..., tuple[nn.Module, Any]]:
    """``at_first_step(changes)``: the tiny model and batch as they are before the first step, on the CPU."""

    def get(changes: Mapping[str, Any]) -> tuple[nn.Module, Any]:
        runner, stop = tiny_runner(changes), Stop()
        runner.register_hook(stop)
        with pytest.raises(FirstBatch):
            runner.train()
        return runner.model.cpu(), stop.batch

    return get


@pytest.fixture(scope="session")
def preprocessed() -> Callable[[Any], Tensor]:
    """``preprocessed(batch)``: the input of the networks."""

    def get(batch: Any) -> Tensor:
        images = torch.stack([image.float() for image in batch["inputs"]]).flip(1)
        return (images - MEAN[:, None, None]) / STD[:, None, None]

    return get


@pytest.fixture(scope="session")
def task_loss() -> Callable[[nn.Module, Tensor, Any], Tensor]:
    """``task_loss(model, features, batch)``: the head's mean squared error, written out."""

    def get(model: nn.Module, features: Tensor, batch: Any) -> Tensor:
        samples = batch["data_samples"]
        heatmaps = torch.stack([sample.gt_fields.heatmaps for sample in samples])
        weights = torch.stack([torch.as_tensor(sample.gt_instance_labels.keypoint_weights[0]) for sample in samples])
        return ((model.head((features,)) - heatmaps).square() * weights[:, :, None, None]).mean()

    return get


LAYERS = ("layer3", "layer4")


@pytest.fixture
def first_step(at_first_step, preprocessed, task_loss) -> Callable[..., dict[str, Any]]:
    """``first_step(changes)``: features of student and teacher by layer, the task's loss, L_ED by layer, the model."""

    def get(changes: dict[str, Any]) -> dict[str, Any]:
        model, batch = at_first_step(changes)
        images, found = preprocessed(batch), {}
        source = copy.deepcopy(model.backbone)
        source.eval()
        for name, net in (("student", model.backbone), ("teacher", source)):
            stem = net.maxpool(F.relu(net.bn1(net.conv1(images))))
            layer3 = net.layer3(net.layer2(net.layer1(stem)))
            found[name] = {"layer3": layer3, "layer4": net.layer4(layer3)}
        found["ed"] = {
            layer: _cosine_loss(*(found[name][layer] for name in ("student", "teacher"))) for layer in LAYERS
        }
        return {**found, "task": task_loss(model, found["student"]["layer4"], batch), "model": model}

    return get


def _cosine_loss(student: Tensor, teacher: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(student.flatten(1), teacher.detach().flatten(1)).mean()
