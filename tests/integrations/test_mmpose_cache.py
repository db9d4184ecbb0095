"""The cache of the teacher's outputs in runs of MMPose's own tools/train.py on a shipped config."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from mmpose.registry import TRANSFORMS

EPOCHS, IMAGES, BATCH, TAPS = 3, 8, 4, 2
SCALES = (1.0, 1.25)
VERSIONS = 2 * len(SCALES)  # with the flip
BOX = dict(type="QuantizedBBoxTransform", scales=list(SCALES))
PIPELINE = f"""
train_pipeline = _base_.train_pipeline
train_pipeline[3] = {BOX}
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
"""


@pytest.fixture(scope="session")
def finite(options) -> dict[str, Any]:
    """Two workers and three epochs."""
    return {
        **options,
        "train_dataloader.num_workers": 2,
        "train_dataloader.persistent_workers": True,
        "train_cfg.max_epochs": EPOCHS,
        "train_cfg.val_interval": EPOCHS,
    }


@pytest.fixture(scope="session")
def folder(shared) -> Path:
    """The cache folder of all runs."""
    return shared("teacher_cache", lambda made: None)


def cache(folder: Path | str, **changes: Any) -> dict[str, Any]:
    settings = {"folder": folder, "images": IMAGES, "versions": VERSIONS, **changes}
    return {f"model.teacher.cache.{name}": value for name, value in settings.items()}


@pytest.fixture(scope="session")
def without(train, finite) -> Path:
    return train("finite", "ctd-com", finite, text=PIPELINE)


@pytest.fixture(scope="session")
def first(train, finite, folder) -> Path:
    return train("first", "ctd-com", {**finite, **cache(folder)}, text=PIPELINE)


@pytest.fixture(scope="session")
def second(train, finite, folder, first) -> Path:
    return train("second", "ctd-com", {**finite, **cache(folder)}, text=PIPELINE)


@pytest.fixture(scope="session")
def half(train, finite, folder) -> Path:
    averaged = {"default_hooks.ema.type": "EMAHook", "default_hooks.ema.momentum": 0.5}
    return train("half", "ctd-com", {**finite, **cache(folder, dtype="float16"), **averaged}, text=PIPELINE)


def seen(run: Path, rank: str = "") -> dict[str, Any]:
    return torch.load(run / f"probe.pt{rank}", weights_only=True)


def test_each_image_passes_once(without, first):
    """Except for the audited image of each tap, and the monitor's other stages in the first step."""
    facts = seen(first)
    different = len(set(facts["pixels"]))
    assert different < EPOCHS * IMAGES == len(facts["pixels"])
    assert different <= IMAGES * VERSIONS
    assert sum(facts["taught"]) == different + TAPS + BATCH
    assert sum(seen(without)["taught"]) == EPOCHS * IMAGES


def test_next_run_hits_from_the_start(first, second):
    assert seen(second)["pixels"] == seen(first)["pixels"]
    assert sum(seen(second)["taught"]) == TAPS + BATCH
    assert "the cache of the teacher's outputs" in (first / "output.txt").read_text()
    assert "the cache of the teacher's outputs" not in (second / "output.txt").read_text()


@pytest.mark.parametrize(("run", "tolerance"), [("first", 1e-5), ("second", 1e-5), ("half", 2e-3)])
def test_losses_are_those_without_cache(request, without, run, tolerance):
    own, plain = seen(request.getfixturevalue(run)), seen(without)
    assert own["inputs"] == plain["inputs"]
    for found, expected in zip(own["logged"], plain["logged"], strict=True):
        assert found == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("run", ["first", "second", "half"])
def test_checkpoint_is_that_of_a_run_without_cache(request, without, run):
    plain, own = (
        torch.load(each / f"epoch_{EPOCHS}.pth", weights_only=True) for each in (without, request.getfixturevalue(run))
    )
    assert list(own["state_dict"]) == list(plain["state_dict"])
    assert list(own["xtask_reg"]) == list(plain["xtask_reg"])
    if run != "half":  # which saves averaged weights
        torch.testing.assert_close(own["state_dict"], plain["state_dict"], rtol=1e-3, atol=1e-4)


def test_continuous_augmentation_is_refused_with_the_reason(tmp_path, tool_command, process, config_path, options):
    arguments = [config_path("ctd-com"), "--work-dir", str(tmp_path / "run")]
    result = process(tool_command("train", arguments, {**options, **cache(tmp_path / "cache")}), tmp_path)
    assert result.returncode
    said = result.stderr[-1500:]
    assert "is for versions=4 of each image, but 40 draws of the first sample made 40 different images" in said
    assert "RandomFlip (2 outcomes), RandomBBoxTransform (another outcome in each draw). Draw from a finite" in said
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"versions": 3},
            r"is for versions=3 .* made 4 different .* RandomFlip \(2 outcomes\), QuantizedBBoxTransform \(2",
        ),
        ({"images": 7}, r"8 samples, but the teacher's cache is for images=7: set model.teacher.cache.images=8"),
    ],
)
def test_cache_for_too_few_is_refused(tiny_config, tmp_path, changes, message):
    config = tiny_config(cache(str(tmp_path / "cache"), **changes))
    config.train_dataloader.dataset.pipeline[3] = BOX
    runner = Runner.from_cfg(config)
    with pytest.raises(ValueError, match=message):
        runner.train()
    assert not (tmp_path / "cache").exists()


def test_two_processes_share_the_folder(shared, tool_command, process, config_path, finite):
    def make(folder: Path) -> None:
        config = folder / "cached.py"
        plugins = ["xtask_reg.integrations.mmpose", "probe"]
        base = f"_base_ = [{config_path('ctd-com')!r}]\ncustom_imports = dict(imports={plugins})\n"
        config.write_text(base + PIPELINE)
        extra = {"env_cfg.dist_cfg.backend": "gloo", "model_wrapper_cfg.device_ids": None,
                 "train_dataloader.batch_size": 2, "model.monitor": None,
                 "default_hooks.probe.type": "Probe", "default_hooks.probe.out": folder / "probe.pt"}  # fmt: skip
        arguments = [str(config), "--work-dir", str(folder), "--launcher", "pytorch"]
        options = {**finite, **extra, **cache(folder / "cache")}
        _, *command = tool_command("train", arguments, options)
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        result = process([*torchrun, str(Path(__file__).parent / "plugins" / "on_cpu.py"), *command], folder)
        assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]

    run = shared("distributed_cache", make)
    ranks = [seen(run), seen(run, ".rank1")]
    pixels = [set(rank["pixels"]) for rank in ranks]
    computed = sum(sum(rank["taught"]) for rank in ranks)
    at_once = len(pixels[0]) + len(pixels[1])
    assert len(pixels[0] | pixels[1]) + 2 * TAPS <= computed <= at_once + 4 * TAPS  # with those audited
    assert sum(len(rank["pixels"]) for rank in ranks) == EPOCHS * IMAGES


def test_quantized_box_is_a_box_of_the_list():
    transform = TRANSFORMS.build(dict(type="QuantizedBBoxTransform", scales=[0.8, 1.0], rotations=[0, -30, 30]))
    np.random.seed(0)
    found = set()
    for _ in range(200):
        center, scale = np.array([[30.0, 40.0]]), np.array([[20.0, 10.0]])
        box = transform(dict(bbox_center=center, bbox_scale=scale))
        np.testing.assert_array_equal(box["bbox_center"], center)
        found.add((*box["bbox_scale"][0], box["bbox_rotation"][0]))
    assert found == {(20 * s, 10 * s, r) for s in (0.8, 1.0) for r in (0, -30, 30)}


def test_repeated_values_are_drawn_more_often():
    transform = TRANSFORMS.build(dict(type="QuantizedBBoxTransform", scales=[1, 1, 1, 1.25]))
    np.random.seed(0)
    scales = transform(dict(bbox_center=np.zeros((4000, 2)), bbox_scale=np.ones((4000, 2))))["bbox_scale"][:, 0]
    assert (scales == 1.25).mean() == pytest.approx(1 / 4, abs=0.03)


@pytest.mark.parametrize(
    "arguments",
    [dict(scales=[]), dict(scales=[0.0]), dict(scales=[-1, 1]), dict(rotations=[]), dict(rotations=[float("nan")])],
)
def test_bad_lists(arguments):
    with pytest.raises(ValueError, match="QuantizedBBoxTransform: scales=.*expected a list of positive numbers"):
        TRANSFORMS.build(dict(type="QuantizedBBoxTransform", **arguments))
