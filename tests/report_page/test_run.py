"""What is read from a work folder."""

from __future__ import annotations

import shutil

import pytest

from xtask_reg.report_page.run import read_run


def test_a_run(make_run):
    run = read_run("a", make_run("a", [1.0, 2.0], monitored=True))
    assert run.training == {"lr": [(n, 0.1) for n in (1, 2, 3, 4)], "loss": [(n, 8.0 / n) for n in (1, 2, 3, 4)]}
    assert run.validation == {"landmark/ME": [(1, 2.0), (2, 1.0)], "landmark/FR": [(1, 0.0), (2, 0.0)]}
    assert run.measurements["cosine"]["layer4"] == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 0.25)]
    assert run.config == "lr = 1\n"
    assert run.versions["PyTorch"] == "2.11.0+cu130"
    assert run.versions["seed"] == "3"
    assert run.predictions.scores.me == 1.5


def test_a_resumed_run_goes_on_where_the_second_log_begins(make_run, write_log):
    folder = make_run("a")
    lines = [{"loss": 5.0, "iter": 3, "step": 3}, {"landmark/ME": 7.0, "step": 2}]
    write_log(folder / "20260102_000000", lines, "lr = 2\n")
    run = read_run("a", folder)
    assert run.training["loss"] == [(1, 8.0), (2, 4.0), (3, 5.0)]
    assert run.validation["landmark/ME"] == [(1, 2.0), (2, 7.0)]
    assert run.config == "lr = 2\n"


def test_predictions_or_logs_alone(make_run):
    folder = make_run("a", [1.0])
    shutil.rmtree(folder / "20260101_000000")
    run = read_run("a", folder)
    assert (run.training, run.validation, run.config, run.versions) == ({}, {}, "", {})
    assert read_run("b", make_run("b")).predictions is None


def test_numbers_that_are_not_finite_are_left_out(make_run, write_log):
    folder = make_run("a")
    write_log(folder / "20260102_000000", [{"loss": float("nan"), "lr": 0.5, "iter": 5, "step": 5}])
    run = read_run("a", folder)
    assert run.training["loss"][-1] == (4, 2.0)
    assert run.training["lr"][-1] == (5, 0.5)


@pytest.mark.parametrize("line", [{"loss": 1.0, "iter": "x"}, {"landmark/ME": 1.0}])
def test_a_line_without_a_step(line, make_run, write_log):
    folder = make_run("a")
    write_log(folder / "20260102_000000", [line])
    with pytest.raises(ValueError, match=r"scalars.json, line 1: step is .*; expected a whole number"):
        read_run("a", folder)


def test_config_and_versions_are_those_of_the_training(make_run, write_log):
    """``tools/test.py`` writes a config too, perhaps without the options of the training, and no scalars."""
    folder = make_run("a", [1.0], config="weight = 0.02\n")
    write_log(folder / "20260102_000000", [], "weight = 0.002\n")
    (folder / "20260102_000000/vis_data/scalars.json").unlink()
    log = folder / "20260102_000000/20260102_000000.log"
    log.write_text(log.read_text().replace("seed: 3", "seed: 9"))
    (folder / "config.py").write_text("weight = 0.002\n")
    run = read_run("a", folder)
    assert run.config == "weight = 0.02\n"
    assert run.versions["seed"] == "3"


def test_a_training_that_began_anew_in_the_folder(make_run, write_log):
    """It has not been validated yet, and must not show the numbers of the run before it."""
    folder = make_run("a")
    write_log(folder / "20260102_000000", [{"loss": 9.0, "epoch": 1, "iter": 1, "step": 1}], "lr = 2\n")
    run = read_run("a", folder)
    assert run.training == {"loss": [(1, 9.0)]}
    assert run.validation == {}
    assert run.config == "lr = 2\n"


def test_a_resumed_training_keeps_what_was_validated_before(make_run, write_log):
    folder = make_run("a")
    write_log(folder / "20260102_000000", [{"loss": 9.0, "epoch": 2, "iter": 3, "step": 3}])
    assert read_run("a", folder).validation == {"landmark/ME": [(1, 2.0)], "landmark/FR": [(1, 0.0)]}
