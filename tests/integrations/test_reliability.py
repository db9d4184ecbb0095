"""How distillation silently goes wrong, and what must hold instead, in real steps of MMEngine's Runner."""

from __future__ import annotations

import copy
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.runner import Runner
from same_tensors import assert_same
from torch import Tensor, nn

import xtask_reg as xr
from xtask_reg.sources import load_weights, save_weights

EPOCHS, STEPS = 2, 2


# -- the teacher stays the source --------------------------------------------------------------------------------------


def test_train_mode_of_the_epoch_loop_does_not_reach_the_teacher(watch, tiny_config, tmp_path):
    """``model.train()`` each epoch puts the teacher in train mode: its batch norms drift, its dropout draws."""
    import nets

    source = nets.with_dropout()
    with torch.no_grad():
        source(torch.randn(8, 3, 64, 64))  # statistics of its own
    save_weights(source.state_dict(), tmp_path / "source.safetensors")
    config = tiny_config({})
    initial = dict(type="SourceWeights", checkpoint=str(tmp_path / "source.safetensors"))
    config.model.backbone = dict(type="ModuleBackbone", module="nets:with_dropout", init_cfg=initial)
    config.model.teacher = dict(type="FrozenTeacher")
    config.model.terms = [{**config.model.terms[1], "student": "backbone.net", "teacher": "backbone.net"}]
    calls: list[tuple[Tensor, Tensor, set[bool]]] = []

    def look_at_the_teacher(runner: Runner) -> None:
        runner.model.regularizer.teacher.network.register_forward_hook(
            lambda net, args, output: calls.append((args[0], output, {m.training for m in net.modules()}))
        )

    _, seen = watch.run(config, look_at_the_teacher)
    assert len(calls) == EPOCHS * STEPS
    source.eval()
    for images, output, modes in calls:
        assert modes == {False}
        assert torch.equal(output, source(images))
    expected = {f"backbone.net.{key}": value for key, value in source.state_dict().items()}
    for state in (seen.start, seen.end):
        assert_same(watch.part(state, "teacher"), expected)
    statistics = "backbone.net.1.running_mean"
    assert not torch.equal(seen.end[statistics], seen.start[statistics])  # what would have drifted


def test_init_weights_leaves_the_teacher_alone(watch, tiny_config, encoder, source):
    """MMEngine's ``init_weights``, called when everything is built and read, re-initialises the teacher."""
    config = tiny_config({"train_cfg.max_epochs": 1})
    initial = [dict(type="Kaiming", layer="Conv2d"), dict(type="Constant", layer="BatchNorm2d", val=3)]
    config.model.teacher.backbone = {**encoder, "zero_init_residual": True, "init_cfg": initial}
    config.model.teacher.checkpoint = str(source)
    _, seen = watch.run(config, lambda runner: runner.model.init_weights())
    expected = {
        f"classifier.{key}" if key.startswith("fc.") else f"backbone.{key}": value
        for key, value in load_weights(source).items()
    }
    for state in (seen.start, seen.end):
        assert_same(watch.part(state, "teacher"), expected)


def test_files_have_the_size_of_the_plain_student(train, ft_options, tmp_path):
    """The teacher gets into the checkpoint: here CTD-ED's file, and the exported student, have FT's size within 1 %."""
    folders = {system: train(system, system, ft_options) for system in ("ft", "ctd-ed")}
    sizes, keys = {}, {}
    for system, folder in folders.items():
        weights = load_weights(folder / "epoch_2.pth")
        save_weights(weights, tmp_path / f"{system}.safetensors")
        torch.save(weights, tmp_path / f"{system}.pth")
        files = (folder / "epoch_2.pth", tmp_path / f"{system}.pth", tmp_path / f"{system}.safetensors")
        sizes[system], keys[system] = [file.stat().st_size for file in files], list(weights)
    assert "loss_ed" in (folders["ctd-ed"] / "output.txt").read_text()
    assert sizes["ctd-ed"] == pytest.approx(sizes["ft"], rel=0.01)
    assert keys["ctd-ed"] == keys["ft"]


# -- EMA ---------------------------------------------------------------------------------------------------------------


def stepped(model: nn.Module, batch: dict[str, Any]) -> set[str]:
    """The names of the losses of one step of SGD."""
    losses = model(**model.data_preprocessor(copy.deepcopy(batch), training=True), mode="loss")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sum(losses.values()).backward()
    optimizer.step()
    return set(losses)


def test_averaged_copy_and_original_have_separate_taps_and_train(watch, tiny_config):
    """EMA's deep copy shares hooks or buffers with the original."""
    runner, _ = watch.run(tiny_config({"default_hooks.ema.type": "EMAHook"}))
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, EMAHook))
    original, averaged = runner.model.train(), hook.ema_model.module.requires_grad_(True).train()
    memory = [{t.data_ptr() for t in (*m.parameters(), *m.buffers())} for m in (original, averaged)]
    assert not memory[0] & memory[1]
    assert averaged.regularizer.teacher.network is original.regularizer.teacher.network
    batch = next(iter(runner.train_dataloader))
    for model, other in ((averaged, original), (original, averaged)):
        stepped(other, batch)  # nothing is left of its last call
        before, others = watch.values(model), watch.values(other)
        with model.regularizer.recording(torch.zeros(1, 3, 64, 64)):
            model.extract_feat(torch.zeros(1, 3, 64, 64))
        with pytest.raises(xr.TapError, match="did not fire"):
            other.regularizer()
        assert stepped(model, batch) == {"loss_kpt", "loss_cd", "loss_ed"}
        assert watch.changed(before, watch.values(model)) == {"backbone", "head", "connectors"}
        assert_same(watch.values(other), others)


# -- what the teacher sees ---------------------------------------------------------------------------------------------

OWN = {"channels": "rgb", "mean": "123.675,116.28,103.53", "std": "58.395,57.12,57.375", "value_range": "255"}
CONVENTIONS = {
    "channel order": {**OWN, "channels": "bgr"},
    "range": {**OWN, "mean": "0,0,0", "std": "1,1,1", "value_range": "1"},
    "mean and std": {**OWN, "mean": "131.0912,103.8827,91.4953", "std": "1,2,3"},
    "size": {**OWN, "size": "128,96"},
    "everything": {"channels": "bgr", "mean": "0.5,0.4,0.3", "std": "0.5,1,2", "value_range": "1", "size": "128,128"},
}


def by_hand(pixels: np.ndarray, convention: dict[str, str]) -> np.ndarray:
    """The input of a network with this convention, for images ``(B, 3, H, W)`` as OpenCV reads them: BGR, 0..255."""
    mean, std = (np.array([float(number) for number in convention[key].split(",")]) for key in ("mean", "std"))
    height, width = map(int, convention.get("size", "64,64").split(","))
    images = []
    for image in pixels.transpose(0, 2, 3, 1).astype(np.float64):
        ordered = image if convention["channels"] == "bgr" else image[..., ::-1]
        values = (ordered / 255 * float(convention["value_range"]) - mean) / std
        images.append(cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR))
    return np.stack(images).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("name", CONVENTIONS)
def test_teacher_is_given_the_same_pixels_in_its_own_convention(watch, tiny_config, source, tmp_path, name):
    """The teacher sees the wrong pixels: BGR for RGB, another range, mean and std, or size."""
    convention = CONVENTIONS[name]
    save_weights(load_weights(source), tmp_path / "stated.safetensors", convention)
    config = tiny_config({"train_cfg.max_epochs": 1})
    config.model.backbone.init_cfg.checkpoint = str(tmp_path / "stated.safetensors")
    config.model.terms[1].loss.over = "pooled"  # student and teacher may have maps of other sizes
    inputs: dict[str, list[np.ndarray]] = {"student": [], "teacher": []}

    def look_at_the_inputs(runner: Runner) -> None:
        model = runner.model
        model.regularizer.teacher.network.register_forward_pre_hook(
            lambda net, args: inputs["teacher"].append(args[0].numpy())
        )
        model.backbone.register_forward_pre_hook(
            lambda net, args: inputs["student"].append(args[0].numpy()) if net.training else None
        )

    with pytest.warns(UserWarning, match=r"preprocessor makes .*rgb.* but .*stated\.safetensors says that the source"):
        _, seen = watch.run(config, look_at_the_inputs)
    assert len(seen.batches) == STEPS
    for pixels, student, teacher in zip(seen.batches, inputs["student"], inputs["teacher"], strict=True):
        np.testing.assert_allclose(student, by_hand(pixels, OWN), atol=1e-4)
        np.testing.assert_allclose(teacher, by_hand(pixels, convention), atol=1e-3)
