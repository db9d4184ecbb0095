"""The configs of two methods differ only in what defines the methods."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from grid.cell import SIZE, Cell
from grid.config import cell_config, fingerprint
from grid.places import Places
from grid.plans import CORE, KEPT, LABELS, ON_PORTRAITS, PLANS, VARIANTS, batches, core, cost, larger
from mmpose.registry import MODELS

DLIB = [each for each in dict.fromkeys((*CORE, *VARIANTS, *KEPT, *ON_PORTRAITS)) if each[0] == "dlib"]
TERMS = {method: 2 if method == "CTD-Com" else 1 for _, teacher, method in DLIB if teacher != "none"}
OWN = {"FT": set(), "FE": {"optim_wrapper", "model.frozen"}, "FTP": {"model.frozen", "model.frozen_but"}}
OWN |= {"LP-FT": {"custom_hooks"}}
OWN |= {method: {"custom_hooks"} for _, _, method in DLIB if method.startswith("WiSE-FT")}
OWN |= {
    method: {"model.teacher", "model.terms", "model.monitor"}
    | ({"custom_hooks"} if method.endswith(("photographs", "portraits")) else set())
    for method in TERMS
}


def config_of(places, cell, folder=Path("here")):
    return cell_config(cell, places, folder)


def cell(source, teacher, method, n_labels=20, **more):
    setting = {"lr": 6e-5, "weight": 1e-3, "until": 0.5, "alpha": 0.5}
    return Cell("frl14", source, teacher, method, n_labels, 0, setting=setting, **more)


def changed(one, other, prefix=""):
    """The keys at which two configs differ, one level into the model."""
    keys = {key for key in {*one, *other} if one.get(key) != other.get(key)}
    inside = changed(one["model"], other["model"], "model.") if "model" in keys else set()
    return {prefix + key for key in keys - {"model"}} | inside


@pytest.mark.parametrize("compared", DLIB, ids=" ".join)
def test_all_else_is_fine_tuning(places, compared):
    plain, other = (config_of(places, cell(*each)).to_dict() for each in (("dlib", "none", "FT"), compared))
    assert changed(plain, other) == OWN[compared[2]]


@pytest.mark.parametrize("compared", DLIB, ids=" ".join)
def test_it_can_be_built(places, compared):
    model = MODELS.build(config_of(places, cell(*compared)).model)
    model.init_weights()
    assert len(model.regularizer.terms if model.regularizer else ()) == TERMS.get(compared[2], 0)


def test_the_hourglass_differs_in_its_network_and_learning_rate_alone(places):
    plain, other = (config_of(places, cell(*each)) for each in (("dlib", "none", "FT"), ("scratch", "none", "HG")))
    of_the_source = {"source", "teacher", "monitor", "loss_cd", "loss_ed", "loss_sa", "loss_ca"}
    network = {f"model.{part}" for part in ("type", "data_preprocessor", "backbone", "head", "train_cfg")}
    own = {"stacks", "find_unused_parameters", "optim_wrapper"}
    assert changed(plain.to_dict(), other.to_dict()) == of_the_source | network | own
    heads = [config.model.head for config in (plain, other)]
    assert [head.out_channels for head in heads] == [14, 14]
    assert heads[0].decoder == heads[1].decoder
    assert heads[0].loss == heads[1].loss
    assert "checkpoint" not in str(other.model)
    optimizers = [config.optim_wrapper.optimizer.to_dict() for config in (plain, other)]
    assert optimizers[1] == {**optimizers[0], "lr": 6e-5}
    assert "paramwise_cfg" not in other.optim_wrapper


@pytest.mark.parametrize("own", larger("frl14")[:2], ids=lambda own: own.folder)
def test_larger_images_are_all_that_changes_with_them(places, own):
    own = dataclasses.replace(own, setting={"lr": 1e-4, **own.setting})
    usual = dataclasses.replace(own, setting={"lr": 1e-4})
    plain, other = (config_of(places, each).to_dict() for each in (usual, own))
    loaders = {f"{split}_dataloader" for split in ("train", "val", "test")}
    assert changed(plain, other) == loaders
    for loader in loaders:
        steps = [config[loader]["dataset"]["pipeline"] for config in (plain, other)]
        differ = [(one, two) for one, two in zip(*steps, strict=True) if one != two]
        assert [(one["input_size"], two) for one, two in differ] == [
            ((128, 128), {**one, "input_size": (256, 256)}) for one, _ in differ
        ]
        assert len(differ) == 1


@pytest.mark.parametrize("source", ["dlib", "untrained"])
def test_another_decoder_is_all_that_a_multiscale_network_changes(places, source):
    own = (f"{source}-multiscale", "none", "FT")
    plain, other = (config_of(places, cell(*each)) for each in ((source, "none", "FT"), own))
    named_parts = {"head", "multiscale_neck", "multiscale_head"}
    assert changed(plain.to_dict(), other.to_dict()) - named_parts == {"model.backbone", "model.neck", "model.head"}
    heads = [config.model.head for config in (plain, other)]
    assert changed({"model": heads[0]}, {"model": heads[1]}) <= {
        f"model.{key}" for key in ("in_channels", "deconv_out_channels", "conv_out_channels", "conv_kernel_sizes")
    }
    model = MODELS.build(other.model)
    model.init_weights()
    maps = model.extract_feat(torch.zeros(1, 3, SIZE, SIZE))
    assert [tuple(each.shape) for each in maps] == [(1, 32 + 64 + 128 + 256, 32, 32)]
    assert model.head.forward(maps).shape == (1, 14, 32, 32)


def test_a_random_teacher_has_other_weights(places):
    networks = {}
    for teacher in ("source", "random"):
        model = MODELS.build(config_of(places, cell("dlib", teacher, "CTD-ED")).model)
        model.init_weights()
        networks[teacher] = model.regularizer.teacher.network.backbone.net.state_dict()
        student = model.backbone.net.state_dict()
        same = [bool((student[key] == value).all()) for key, value in networks[teacher].items() if "conv.weight" in key]
        assert all(same) if teacher == "source" else not any(same)


@pytest.mark.parametrize("n_labels", LABELS)
def test_equal_numbers_of_steps(places, n_labels):
    config = config_of(places, cell("dlib", "none", "FT", n_labels))
    per_epoch = n_labels // config.train_dataloader.batch_size
    assert config.train_cfg.max_epochs * per_epoch == 400
    assert config.train_cfg.max_epochs % config.train_cfg.val_interval == 0


@pytest.mark.parametrize("own", batches("frl14"), ids=lambda own: own.folder)
def test_other_batches_make_as_many_steps_or_see_as_many_images_as_the_usual_one(places, own):
    usual, setting = cell("dlib", "none", "FT", 50), {"lr": 1e-4, "weight": 1e-3}
    plain = config_of(places, dataclasses.replace(usual, method=own.method, teacher=own.teacher, setting=setting))
    other = config_of(places, dataclasses.replace(own, n_labels=20, setting={**setting, **own.setting}))
    batch = min(int(own.setting["batch"]), 20)
    assert other.train_dataloader.batch_size == batch
    images = usual.steps * plain.train_dataloader.batch_size
    assert own.steps == usual.steps or own.steps * own.setting["batch"] == images
    rates = [config.optim_wrapper.optimizer.lr for config in (plain, other)]
    assert rates[1] / rates[0] == own.setting["rate"]
    assert own.setting["rate"] in (1, pytest.approx((own.setting["batch"] / 5) ** 0.5, abs=1e-3))
    multipliers = [config.optim_wrapper.paramwise_cfg for config in (plain, other)]
    assert multipliers[0] == multipliers[1]


def test_a_training_that_is_timed_measures_nothing_on_its_way(places):
    for own in cost("frl14")[:2]:
        config = config_of(places, dataclasses.replace(own, setting={**own.setting, "lr": 1e-4, "weight": 1e-3}))
        assert config.train_cfg.val_interval == config.train_cfg.max_epochs
        assert "monitor" not in config.model


def test_the_fingerprint_is_that_of_the_training_and_not_of_the_place(places, tmp_path):
    def of(own, folder):
        return fingerprint(config_of(places, own, folder), places, folder)

    one = cell("dlib", "none", "FT")
    assert of(one, tmp_path / "a") == of(one, tmp_path / "b")
    assert of(one, tmp_path) != of(dataclasses.replace(one, setting={"lr": 1e-3}), tmp_path)


def test_sources_that_were_not_prepared(places, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"dlib.safetensors does not exist: run `few_labels.py prepare`"):
        cell_config(cell("dlib", "none", "FT"), Places(places.data_root, tmp_path), tmp_path)


def test_the_core_grid():
    assert len(core("frl14")) == 180


def test_no_cell_stands_in_two_plans():
    """Except for the plan that repeats some cells, into another folder."""
    cells = [each.identity for name, plan in PLANS.items() for each in plan("frl14") if name != "repeat"]
    assert len(set(cells)) == len(cells)
    assert {each.identity for each in PLANS["repeat"]("frl14")} <= {each.identity for each in core("frl14")}
