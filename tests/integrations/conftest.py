"""Tiny data, a tiny source, and runs of MMPose's own tools, each made once for all test processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from filelock import FileLock
from mmengine.config import Config, DictAction
from mmengine.runner import Runner

import xtask_reg.integrations.mmpose  # noqa: F401
from xtask_reg.data import synthetic
from xtask_reg.integrations.mmpose_files import configs, tool
from xtask_reg.sources import save_weights

SIZE = 64
CLASSES = 10
PLUGINS = ["xtask_reg.integrations.mmpose", "probe"]
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
ED = dict(
    name="loss_ed",
    loss=dict(type="CosineAlignmentLoss"),
    student="backbone.layer4",
    teacher="backbone.layer4",
    weight=0.5,
)
CD = dict(
    name="loss_cd", loss=dict(type="SoftmaxL2Loss"), student="backbone.layer4", teacher="classifier", weight=2.0,
    student_connector=dict(type="RetainedClassifier"),
)  # fmt: skip
PEOPLE = {"train": range(8), "val": range(8, 12), "test": range(12, 16)}


@pytest.fixture(autouse=True)
def _default_scope() -> None:
    from mmengine.registry import init_default_scope

    init_default_scope("mmpose")


@pytest.fixture(autouse=True)
def _repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, two convolutions of the same give the same to the last bit."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


@pytest.fixture
def watch() -> ModuleType:
    """``plugins/watch.py``, which records what happens in a run."""
    import watch

    return watch


@pytest.fixture
def nets() -> ModuleType:
    """``plugins/mmengine_nets.py``: models of MMEngine and MMDetection, and configs of their runs."""
    import mmdet_nets  # noqa: F401
    import mmengine_nets

    return mmengine_nets


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Callable[[str, Callable[[Path], None]], Path]:
    """``shared(name, make)``: the folder ``name``, filled by ``make(folder)`` in one of the test processes."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def get(name: str, make: Callable[[Path], None]) -> Path:
        folder = base / name
        with FileLock(base / f"{name}.lock"):
            if not (base / f"{name}.done").exists():
                folder.mkdir()
                make(folder)
                (base / f"{name}.done").touch()
        return folder

    return get


@pytest.fixture(scope="session")
def landmarks(shared) -> Path:
    """A folder with train.json, val.json and test.json of synthetic faces."""

    def make(folder: Path) -> None:
        for split, people in PEOPLE.items():
            synthetic.write_landmark_set(folder, people, 1, SIZE, split=split)

    return shared("landmarks", make)


@pytest.fixture(scope="session")
def encoder() -> dict[str, Any]:
    """Config of the tiny source's encoder."""
    return dict(type="ResNet", depth=18, base_channels=8, zero_init_residual=False)


@pytest.fixture(scope="session")
def source(shared, encoder) -> Path:
    """A source checkpoint: a random tiny ResNet-18 at the root, and its classifier ``fc``."""
    from mmpose.registry import MODELS

    def make(folder: Path) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            weights = MODELS.build({"_scope_": "mmpose", **encoder}).state_dict()
            for name, value in weights.items():  # as if trained: no initial value remains
                if value.is_floating_point():
                    weights[name] = torch.rand_like(value) + 0.5 if value.ndim < 2 else 0.1 * torch.randn_like(value)
            classifier = torch.nn.Linear(8 * 8, CLASSES)
        save_weights({**weights, "fc.weight": classifier.weight, "fc.bias": classifier.bias}, folder / "s.safetensors")

    return shared("source", make) / "s.safetensors"


@pytest.fixture
def model_config(encoder, source) -> dict[str, Any]:
    """A tiny CTD-Com model."""
    return dict(
        type="CrossTaskTopdownPoseEstimator",
        data_preprocessor=dict(type="PoseDataPreprocessor", mean=MEAN, std=STD, bgr_to_rgb=True),
        backbone={**encoder, "init_cfg": dict(type="SourceWeights", checkpoint=str(source))},
        head=dict(type="HeatmapHead", in_channels=64, out_channels=14, deconv_out_channels=(8, 8, 8),
                  loss=dict(type="KeypointMSELoss", use_target_weight=True), decoder=dict(type="ExactHeatmap")),
        train_cfg=dict(compute_acc=False),
        teacher=dict(type="FrozenTeacher", classifier=dict(in_channels=64, num_classes=10)),
        terms=[dict(CD), dict(ED)],
    )  # fmt: skip


@pytest.fixture
def first_batch(landmarks) -> dict[str, Any]:
    """Four images with their heatmaps, collated, without augmentation."""
    from mmengine.dataset import pseudo_collate
    from mmpose.registry import DATASETS

    target = dict(type="GenerateTarget", encoder=dict(type="ExactHeatmap"))
    affine = dict(type="TopdownAffine", input_size=(SIZE, SIZE))
    pipeline = [dict(type="LoadImage"), dict(type="GetBBoxCenterScale", padding=1.0), affine, target]
    pipeline.append(dict(type="PackPoseInputs"))
    data = DATASETS.build(
        dict(type="LandmarkDataset", data_root=str(landmarks), ann_file="train.json", pipeline=pipeline)
    )
    return pseudo_collate([data[index] for index in range(4)])


@pytest.fixture(scope="session")
def options(landmarks, source) -> dict[str, Any]:
    """The --cfg-options that turn a demo config of CTD into a tiny one."""
    loaders = ("train", "val", "test")
    return {
        **{f"{split}_dataloader.dataset.data_root": landmarks for split in loaders},
        **{f"{split}_dataloader.num_workers": 0 for split in loaders},
        **{f"{split}_dataloader.persistent_workers": False for split in loaders},
        "train_dataloader.dataset.pipeline.4.input_size": f"{SIZE},{SIZE}",
        "val_dataloader.dataset.pipeline.2.input_size": f"{SIZE},{SIZE}",
        "test_dataloader.dataset.pipeline.2.input_size": f"{SIZE},{SIZE}",
        "model.backbone.base_channels": 8,
        "model.backbone.init_cfg.checkpoint": source,
        "model.head.in_channels": 64,
        "model.head.deconv_out_channels": "8,8,8",
        "model.teacher.classifier.in_channels": 64,
        "model.teacher.classifier.num_classes": CLASSES,
        "train_cfg.max_epochs": 2,
        "train_cfg.val_interval": 1,
        "default_hooks.logger.interval": 1,
        "default_hooks.checkpoint.max_keep_ckpts": -1,
    }


@pytest.fixture(scope="session")
def ft_options(options) -> dict[str, Any]:
    """The same without the keys that a config without teacher lacks."""
    return {key: value for key, value in options.items() if not key.startswith("model.teacher")}


@pytest.fixture(scope="session")
def config_path() -> Callable[[str], str]:
    """``config_path('ctd-com')``: the shipped demo config of that method."""
    return lambda method: str(configs() / "demo" / f"td-hm_res18_{method}_synthetic-128x128.py")


def command(name: str, arguments: list[str], options: Mapping[str, Any]) -> list[str]:
    """The command line of MMPose's ``tools/<name>.py``."""
    return [sys.executable, str(tool(name)), *arguments, "--cfg-options", *(f"{k}={v}" for k, v in options.items())]


@pytest.fixture(scope="session")
def tool_command() -> Callable[..., list[str]]:
    return command


def run_process(
    arguments: list[str], cwd: Path, timeout: float = 300, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a process on one CPU thread that can import what lies in ``tests/integrations/plugins``."""
    path = os.pathsep.join([str(Path(__file__).parent / "plugins"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        arguments, cwd=cwd, capture_output=True, text=True, timeout=timeout,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **environment},
    )  # fmt: skip


@pytest.fixture(scope="session")
def process() -> Callable[..., subprocess.CompletedProcess[str]]:
    return run_process


@pytest.fixture(scope="session")
def train(shared, config_path) -> Callable[..., Path]:
    """``train(name, method, options, *arguments)``: the work folder of a finished run of tools/train.py.

    ``text`` is what else stands in the config.
    """

    def run(name: str, method: str, options: Mapping[str, Any], *arguments: str, text: str = "") -> Path:
        def make(folder: Path) -> None:
            config = folder / f"{name}.py"
            config.write_text(f"_base_ = [{config_path(method)!r}]\ncustom_imports = dict(imports={PLUGINS})\n{text}")
            probe = {"default_hooks.probe.type": "Probe", "default_hooks.probe.out": folder / "probe.pt"}
            arguments_ = [str(config), "--work-dir", str(folder), *arguments]
            result = run_process(command("train", arguments_, {**options, **probe}), folder)
            (folder / "output.txt").write_text(result.stdout + result.stderr)
            assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]

        return shared(name, make)

    return run


@pytest.fixture
def tiny_config(config_path, options, tmp_path, request) -> Callable[[Mapping[str, Any]], Config]:
    """``tiny_config(changes)``: the tiny CTD-Com config, read into this process."""

    def read(changes: Mapping[str, Any]) -> Config:
        config = Config.fromfile(config_path("ctd-com"))
        config.merge_from_dict({**{key: DictAction._parse_iterable(str(v)) for key, v in options.items()}, **changes})
        config.work_dir, config.experiment_name = str(tmp_path), f"test_{abs(hash(request.node.nodeid))}"
        return config

    return read


@pytest.fixture
def tiny_runner(tiny_config) -> Callable[[Mapping[str, Any]], Runner]:
    """``tiny_runner(changes)``: MMEngine's runner of that config, in this process."""
    return lambda changes: Runner.from_cfg(tiny_config(changes))
