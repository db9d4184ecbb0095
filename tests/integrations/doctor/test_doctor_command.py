"""`xtask-reg doctor` as a command: text, JSON, errors of one line, and no trace left behind."""

from __future__ import annotations

import argparse
import json
import os
import tempfile

import pytest

from xtask_reg.cli import doctor as command
from xtask_reg.integrations.mmpose.doctor import examine, parse_options, to_json
from xtask_reg.integrations.mmpose_files import configs


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    command.add_to(parser.add_subparsers())
    options = parser.parse_args(["doctor", *arguments])
    options.run(options)


def test_command_prints_json_and_leaves_nothing(diagnose, config_path, tiny_options, tmp_path, monkeypatch, capfd):
    """Nothing in the current folder or the one for temporary files, and no other output."""
    for folder in ("here", "temporary"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    bad = {"model.terms.0.weight": 1e39}
    given = {**tiny_options("ctd-com"), **bad}
    run([config_path("ctd-com"), "--json", "--cfg-options", *(f"{k}={v}" for k, v in given.items())])
    output = capfd.readouterr()
    content = json.loads(output.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert content["facts"]["losses"]["total"] == "inf"
    assert [risk["name"] for risk in content["risks"]] == [risk.name for risk in diagnose(bad).risks]
    expected = json.loads(to_json(diagnose(bad)))["facts"]
    for part in ("run", "data", "parameters", "losses"):
        assert content["facts"][part] == expected[part]
    assert output.err == ""
    assert os.listdir(tmp_path / "here") == []
    assert [name for name in os.listdir(tmp_path / "temporary") if not name.startswith("torchinductor")] == []


def test_command_prints_text(config_path, tiny_options, capsys):
    run([config_path("ctd-com"), "--cfg-options", *(f"{k}={v}" for k, v in tiny_options("ctd-com").items())])
    assert "Risks: 0" in capsys.readouterr().out


def test_text(diagnose, source, printed):
    text = printed(diagnose())
    held = "teacher: eval mode, no gradient, absent from state_dict and optimizer, unchanged by 3 steps: yes"
    assert held in " ".join(text.split())
    for part in ("8 to train, 4 to validate", "4 x 3 x 64 x 64", "24 of 24", "10,414", "classifier", source.name):
        assert part in text
    risky = diagnose({"model.frozen": ["backbone"]})
    assert [risk.name for risk in risky.risks] == ["cannot-act", "cannot-act"]
    assert all(f"{risk.name}: {risk.message[:30]}" in printed(risky) for risk in risky.risks)


def test_risks_are_no_warnings_too(look, recwarn):
    assert look({"model.frozen": ["backbone"]}).risks
    assert not recwarn.list


@pytest.mark.parametrize("method", ["ft", "fe"])
def test_without_teacher(diagnose, method, printed):
    examination = diagnose(method=method)
    assert examination.facts.teachers == {}
    assert examination.facts.losses.task.keys() == {"loss_kpt"}
    assert examination.facts.parameters.frozen == (("backbone",) if method == "fe" else ())
    assert "none: no term needs one" in printed(examination)


def test_the_same_twice(diagnose, look):
    again = look().facts
    first = diagnose().facts
    assert again.losses == first.losses
    assert again.data == first.data
    assert again.parameters == first.parameters


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"model.type": "NoSuchEstimator"}, "NoSuchEstimator is not in the mmpose::model registry"),
        ({"model.terms.0.student": "backbone.layer5"}, "no submodule 'backbone.layer5'.*'backbone.layer4'"),
        ({"model.backbone.init_cfg.checkpoint": "none.safetensors"}, "no file none.safetensors"),
        ({"model.backbone.base_channels": 16}, "s.safetensors .* does not fit ResNet .* of another shape"),
        ({"model.head.in_channels": 32}, "expected input.*32 channels.*64 channels"),
        ({"model.head.out_channels": 13}, "14 landmarks, the head gives 13 heatmaps"),
        ({"train_dataloader.dataset.data_root": "nowhere"}, "nowhere/train.json does not exist"),
        ({"val_dataloader.dataset.ann_file": "nothing.json"}, "nothing.json does not exist"),
        ({"val_evaluator.space": "mm"}, "counts in mm, but the pixel size of .* is unknown"),
        (
            {"train_dataloader.batch_size": 9, "train_dataloader.drop_last": True, "param_scheduler": None},
            "does not fill one batch",
        ),
        ({"train_cfg.max_epochs": 0, "param_scheduler": None}, "ends before its first step"),
        ({"train_cfg": None}, "train_dataloader, train_cfg, and optim_wrapper"),
        ({"custom_hooks": [dict(type="NoSuchHook")]}, "^NoSuchHook is not in the mmpose::hook registry"),
        ({"model.head.unknown": 1}, "unexpected keyword argument 'unknown'"),
    ],
)
def test_broken_config(look, changes, match):
    with pytest.raises(ValueError, match=match) as caught:
        look(changes)
    assert "\n" not in str(caught.value)


def test_broken_files(tmp_path):
    with pytest.raises(ValueError, match=r"missing\.py"):
        examine(tmp_path / "missing.py")
    (tmp_path / "broken.py").write_text("model = dict(\n")
    with pytest.raises(ValueError, match="broken.py|never closed") as caught:
        examine(tmp_path / "broken.py")
    assert "\n" not in str(caught.value)


def test_options():
    assert parse_options(["a.b=[1,2]", "c=x=y"]) == {"a.b": [1, 2], "c": "x=y"}
    assert parse_options([]) == {}
    with pytest.raises(ValueError, match="--cfg-options lambda: expected key=value"):
        parse_options(["a=1", "lambda"])
    with pytest.raises(ValueError, match=r"brackets.* \[1,2"):
        parse_options(["a=[1,2"])


def test_cache_is_checked_and_not_written(config_path, tiny_options, tmp_path):
    config = tmp_path / "finite.py"
    config.write_text(
        f"_base_ = [{config_path('ctd-com')!r}]\ntrain_pipeline = _base_.train_pipeline\n"
        "train_pipeline[3] = dict(type='QuantizedBBoxTransform')\n"
        "train_dataloader = dict(dataset=dict(pipeline=train_pipeline))\n"
    )
    options = parse_options([f"{key}={value}" for key, value in tiny_options("ctd-com").items()])
    cache = {"folder": str(tmp_path / "cache"), "images": 8, "versions": 2}
    cached = {**options, **{f"model.teacher.cache.{name}": value for name, value in cache.items()}}
    with pytest.raises(ValueError, match="24 draws of the first sample made 24 different images"):
        examine(config_path("ctd-com"), cached)
    total, plain = (examine(str(config), each).facts.losses.total for each in (cached, options))
    assert total == pytest.approx(plain, rel=1e-6)
    assert not (tmp_path / "cache").exists()


def test_hourglass_whose_encoder_cannot_take_the_size(landmarks):
    """Its halves do not match at 18 cells, which its stride does not show: the message names the size."""
    small = dict(downsample_times=2, stage_channels=(256, 8, 8), stage_blocks=(1, 1, 1), feat_channel=8)
    changes = {
        **{f"{split}_dataloader.dataset.data_root": str(landmarks) for split in ("train", "val", "test")},
        "train_dataloader.num_workers": 0,
        **{f"model.backbone.{key}": value for key, value in small.items()},
        "model.head.in_channels": 8,
        "train_dataloader.dataset.pipeline.4.input_size": (72, 72),
    }
    with pytest.raises(ValueError, match="^the first step fails on images of 72 x 72: The size of tensor"):
        examine(configs() / "td-hm_hourglass52_hg_landmarks-256x256.py", changes)
