"""A setting is chosen without the people that it is tested on."""

from __future__ import annotations

import few_labels
import pytest
from grid.cell import Cell
from grid.methods import METHODS
from grid.plans import CORE
from grid.results import Results
from grid.tuning import TUNING_FOLDS, chosen, is_tuned, scores, tuning_cells
from made_results import FOLDS, grid_cell, tune

RATES = [setting["lr"] for setting in METHODS["FT"].settings]


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path / "tuning.jsonl")


def test_the_lowest_error(results):
    tune(results, "FT", lambda setting, fold, image: 1e4 * abs(setting["lr"] - RATES[3]))
    assert chosen(results, grid_cell("FT", 2), FOLDS[2]) == {"lr": RATES[3]}


@pytest.mark.parametrize("fold", range(5))
def test_images_of_the_fold_have_no_part(results, fold):
    """The first rate is very good on the fold itself, and bad elsewhere."""

    def error(setting, trained_on, image):
        if setting["lr"] == RATES[0]:
            return -100.0 if image in FOLDS[fold] else 9.0
        return 1.0 if setting["lr"] == RATES[4] else 2.0

    tune(results, "FT", error)
    assert chosen(results, grid_cell("FT", fold), FOLDS[fold]) == {"lr": RATES[4]}


@pytest.mark.parametrize("fold", TUNING_FOLDS)
def test_what_was_trained_on_the_fold_has_no_part(results, fold):
    def error(setting, trained_on, image):
        if trained_on == fold:
            return -100.0 if setting["lr"] == RATES[0] else 9.0
        return 1.0 if setting["lr"] == RATES[4] else 2.0

    tune(results, "FT", error)
    assert chosen(results, grid_cell("FT", fold), FOLDS[fold]) == {"lr": RATES[4]}


def test_both_trainings_count_for_the_other_folds(results):
    tune(results, "FT", lambda setting, trained_on, image: 1.0 + trained_on)
    tried = scores(results, grid_cell("FT", 4), FOLDS[4])
    assert tried.error.tolist() == [1.5] * len(RATES)


def test_settings_with_several_values(results):
    best = METHODS["CTD-ED"].settings[4]
    tune(results, "CTD-ED", lambda setting, *_: 0.0 if setting == best else 1.0, teacher="source")
    assert chosen(results, grid_cell("CTD-ED", 0, teacher="source"), FOLDS[0]) == best


def test_incomplete_tuning(results):
    tune(results, "FT", lambda *_: 1.0)
    assert is_tuned(results, grid_cell("FT", 0))
    assert not is_tuned(results, grid_cell("FE", 0))
    assert not is_tuned(results, grid_cell("FT", 0, teacher="random"))


def test_a_method_with_the_setting_of_ft(results):
    cell = grid_cell("CTD-ED 0.002", 0, teacher="source")
    tune(results, "CTD-ED", lambda *_: 1.0, teacher="source")
    assert not is_tuned(results, cell)
    tune(results, "FT", lambda tried, *_: 0.0 if tried["lr"] == RATES[2] else 1.0)
    assert is_tuned(results, cell)
    assert chosen(results, cell, FOLDS[0]) == {"lr": RATES[2], "weight": 0.002}


def test_tuned_with_another_number_of_labels(results):
    """Such a cell takes nothing from the usual tuning, not even for a method that takes FT's setting."""
    own = {"tuned": 10.0}
    cells = [grid_cell("FT", 2, setting=own), grid_cell("CTD-ED 0.002", 2, teacher="source", setting=own)]
    tune(results, "FT", lambda setting, *_: 0.0 if setting["lr"] == RATES[1] else 1.0)
    assert not any(is_tuned(results, cell) for cell in cells)
    tune(results, "FT", lambda setting, *_: 0.0 if setting["lr"] == RATES[4] else 1.0, setting=own)
    assert [chosen(results, cell, FOLDS[2])["lr"] for cell in cells] == [RATES[4]] * 2
    assert chosen(results, grid_cell("FT", 2), FOLDS[2]) == {"lr": RATES[1]}
    assert {cell.n_labels for cell in tuning_cells(cells[0])} == {10}


@pytest.mark.parametrize(("plan", "labels", "trainings"), [("core", 20, 144), ("retuned", 10, 24)])
def test_the_command_tunes_each_method_once(plan, labels, trainings, tmp_path, monkeypatch):
    """As many trainings as docs/results.md states."""
    tuned = []
    monkeypatch.setattr(few_labels, "train", lambda cells, *_: tuned.extend(cells))
    arguments = ["--data-root", str(tmp_path), "--results", str(tmp_path), "--plan", plan]
    monkeypatch.setattr("sys.argv", ["few_labels", "tune", *arguments])
    few_labels.main()
    assert len({cell.identity for cell in tuned}) == len(tuned) == trainings
    assert {cell.n_labels for cell in tuned} == {labels}


@pytest.mark.parametrize(("method", "factor"), [("FT", 16), ("CTD-ED", 16), ("FE", 1)])
def test_rates_suit_the_source_where_the_encoder_trains(method, factor):
    dlib, imagenet = (
        [cell.setting["lr"] for cell in tuning_cells(Cell("frl14", source, "none", method, 20, 0))]
        for source in ("dlib", "imagenet")
    )
    assert imagenet == pytest.approx([factor * rate for rate in dlib])


@pytest.mark.parametrize("compared", [*CORE, ("scratch", "none", "HG")], ids=" ".join)
def test_every_method_has_the_same_budget(compared):
    settings = METHODS[compared[2]].settings
    assert len({tuple(setting.items()) for setting in settings}) == 6
    assert len({cell.identity for cell in tuning_cells(Cell("frl14", *compared, 20, 0))}) == 6 * len(TUNING_FOLDS)
