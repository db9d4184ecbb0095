"""Two processes under MMEngine's DDP: nothing stops the run, and the teacher is not sent between processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import two_ranks
from mmengine.config import Config, DictAction
from two_processes import found_by_each

DDP = {"launcher": "pytorch", "model_wrapper_cfg": dict(type="MMDistributedDataParallel", device_ids=None)}
SMALL = {"train_dataloader.batch_size": 2, "train_cfg.val_interval": 10}
UNUSED = {"model_wrapper_cfg.find_unused_parameters": True}
END_TERMS = {"default_hooks.end": dict(type="EndTerms", epochs={"loss_cd": 1, "loss_ed": 2}), "train_cfg.max_epochs": 3}
BALANCE = {f"model.terms.{i}.weight": dict(_delete_=True, type="Balanced", every=2) for i in (0, 1)}
UNLABELLED = {"default_hooks.unlabelled": dict(type="UnlabelledImagesHook", batch_size=3)}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "fe": ("fe", {}),
    "ft": ("ft", {}),
    "ctd-ed": ("ctd-ed", {}),
    "ctd-com": ("ctd-com", END_TERMS),
    "balanced": ("ctd-com", {**BALANCE, "train_cfg.max_epochs": 4}),
    "unlabelled": ("ctd-com", UNLABELLED),
    "find_unused_parameters": ("ctd-com", {**UNUSED, "another_teacher": True}),
}
LOSSES = {"ctd-ed": {"loss_ed"}, "fe": set(), "ft": set()}
EPOCHS = {"ctd-com": 3, "balanced": 4}
STEPS = 2


@pytest.fixture(scope="session")
def make_config(config_path, options, ft_options):
    """``make_config(system, changes)``: that system at 64 px."""

    def make(system: str, changes: dict[str, Any]) -> Config:
        config = Config.fromfile(config_path(system))
        own = options if system == "ctd-com" else ft_options
        config.merge_from_dict({key: DictAction._parse_iterable(str(value)) for key, value in own.items()})
        config.merge_from_dict({**SMALL, **changes})
        config.custom_imports.imports += ["end_terms"]
        return config

    return make


@pytest.fixture(scope="session")
def without_chance(make_config) -> Config:
    """No augmentation and, in encoder and decoder, no batch statistics: a batch is the sum of its parts."""
    changes = {"train_dataloader.dataset.pipeline.2.prob": 0.0, "train_dataloader.dataset.pipeline.3.scale_prob": 0.0}
    changes |= {"model.backbone.norm_eval": True, "model.head.deconv_out_channels": None, "model.terms.0.weight": 100.0}
    config = make_config("ctd-com", {**changes, "model.terms.1.weight": 1.0})
    config.train_dataloader.dataset.pipeline[5].encoder.stride = config.model.head.decoder.stride = 32
    return config


@pytest.fixture(scope="session")
def ranks(shared, make_config, without_chance) -> list[dict[str, Any]]:
    """The findings of each process in each run, and the gradients of its half of a batch."""

    def make(folder: Path) -> None:
        configs = {name: make_config(system, {**DDP, **changes}) for name, (system, changes) in RUNS.items()}
        configs["gradients"] = Config(without_chance.to_dict())
        configs["gradients"].merge_from_dict(DDP)
        unlabelled = configs["unlabelled"]
        unlabelled.default_hooks.unlabelled.folder = unlabelled.train_dataloader.dataset.data_root
        for name, config in configs.items():
            config.work_dir = str(folder / name)
            config.dump(folder / f"{name}.py")
        found_by_each(two_ranks.__file__, folder)

    folder = shared("two-ranks", make)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("name", RUNS)
def test_no_parameter_is_unused_and_both_processes_agree(ranks, name):
    """DDP stops at a parameter without a gradient: never, not even when a term ends during training."""
    found = [rank[name] for rank in ranks]
    for facts in found:
        assert len(facts["losses"]) == EPOCHS.get(name, 2) * STEPS
        for step in facts["losses"]:
            assert step.keys() == {"loss", "loss_kpt", *LOSSES.get(name, {"loss_cd", "loss_ed"})}
        assert facts["find_unused_parameters"] == (name == "find_unused_parameters")
    for key, value in found[0]["end"].items():
        if not key.startswith("teacher."):
            assert torch.equal(value, found[1]["end"][key]), key
    assert not torch.equal(found[0]["batches"][0], found[1]["batches"][0])


def test_each_process_has_images_without_labels_of_its_own(ranks):
    first, second = (rank["unlabelled"]["others"] for rank in ranks)
    assert [images.shape for images in first] == [(3, 3, 64, 64)] * 2 * STEPS
    assert not any(torch.equal(own, other) for own, other in zip(first, second, strict=True))
    assert ranks[0]["ctd-com"]["others"] == []


def test_ended_terms_are_zero_and_their_connectors_remain(ranks):
    """DDP stops at a connector whose term ended: it keeps its place in the graph."""
    for facts in (rank["ctd-com"] for rank in ranks):
        cd, ed = ([step[key] > 0 for step in facts["losses"]] for key in ("loss_cd", "loss_ed"))
        assert cd == [True] * STEPS + [False] * 2 * STEPS
        assert ed == [True] * 2 * STEPS + [False] * STEPS


def test_balanced_weights_are_the_same_in_both_processes(ranks):
    """Each process has its own images, and so its own gradients, from which it would derive another weight."""
    first, second = (rank["balanced"] for rank in ranks)
    assert first["weights"] == second["weights"]
    for name in ("loss_cd", "loss_ed"):
        weights = [step[name] for step in first["weights"]]
        assert weights[:5] == [0] * 5
        assert min(weights[5:]) > 0
    assert [step["loss_ed"] for step in first["losses"][5:]] != [step["loss_ed"] for step in second["losses"][5:]]


def test_teacher_is_not_synchronised(ranks):
    """DDP broadcasts or reduces the teacher: here two processes with different teachers keep them."""
    first, second = (rank["find_unused_parameters"] for rank in ranks)
    teachers = [key for key in first["end"] if key.startswith("teacher.") and first["end"][key].is_floating_point()]
    assert len(teachers) > 100
    for key in teachers:
        assert torch.equal(second["end"][key], 0.5 * first["end"][key]), key
        assert torch.equal(first["end"][key], first["start"][key]), key
    assert all(facts["names"] == ranks[0]["ctd-com"]["names"] for facts in (first, second))
    assert not [name for name in first["names"] if "teacher" in name]
    plain = set(ranks[0]["ft"]["names"])
    assert {name for name in first["names"] if name not in plain} == {
        f"module.regularizer.terms.loss_cd.student_connector.fc.{kind}" for kind in ("weight", "bias")
    }


def test_gradients_are_those_of_the_joined_batch(ranks, without_chance, tmp_path):
    """In a network without batch statistics, two processes have the gradients of one process with both halves."""
    config = Config(without_chance.to_dict())
    config.work_dir, config.experiment_name = str(tmp_path), "joined"
    expected = two_ranks.gradients(config, None)
    assert sum("student_connector" in name for name in expected) == 2
    for found in ranks:
        assert found["gradients"].keys() == expected.keys()
        for name, gradient in expected.items():
            scale = gradient.abs().max().item()
            torch.testing.assert_close(found["gradients"][name], gradient, rtol=0, atol=1e-5 * scale, msg=name)
    assert all(gradient.abs().max() > 1e-4 for gradient in expected.values())
