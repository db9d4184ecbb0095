"""Chooses the setting of each method, without the people of the test.

Each setting is trained twice, on people of fold 0 and on people of fold 1, and tested on all other people, with
:data:`grid.cell.TUNED` labels unless the cell has another number. The choice for a test fold uses only trainings on
other folds, and in these only people of other folds, so nobody of the fold influences it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import pandas as pd

from grid.cell import TUNED, Cell
from grid.methods import METHODS, Setting
from grid.results import Results

TUNING_FOLDS = (0, 1)


def tuning_cells(cell: Cell) -> list[Cell]:
    """The cells that tune the method of ``cell``."""
    labels = int(cell.setting.get("tuned", TUNED))
    return [
        Cell(cell.dataset, cell.source, cell.teacher, cell.method, labels, fold, setting=setting, split="tuning")
        for setting in METHODS[cell.method].settings_for(cell.source)
        for fold in TUNING_FOLDS
    ]


def tuned_as(cell: Cell) -> Cell:
    """The cell whose tuned setting applies: the cell itself, or FT's for a method that takes FT's setting."""
    method = METHODS[cell.method]
    return dataclasses.replace(cell, method="FT", teacher="none") if method.tuned_as_ft else cell


def is_tuned(results: Results, cell: Cell) -> bool:
    """Whether all settings for the method of ``cell`` were tried."""
    return all(each in results for each in tuning_cells(tuned_as(cell)))


def scores(results: Results, cell: Cell, held_out: Collection[str]) -> pd.DataFrame:
    """The settings tried for the method of ``cell``, with the mean error that counts for its fold.

    Args:
        results: of the tuning.
        cell: the cell to choose for; its tuning must be complete.
        held_out: the images of its fold.
    """
    wanted = tuning_cells(cell)
    errors = results.errors
    seen = errors[~errors.image.isin(held_out)].groupby("cell").error.mean()
    rows = [{**each.setting, "error": seen[each.folder]} for each in wanted if each.fold != cell.fold]
    return pd.DataFrame(rows).groupby([*wanted[0].setting], sort=False).error.mean().reset_index()


def chosen(results: Results, cell: Cell, held_out: Collection[str]) -> Setting:
    """The setting with the lowest error in :func:`scores`, and what the method adds to it."""
    tried = scores(results, tuned_as(cell), held_out)
    best = tried.loc[tried.error.idxmin()].drop("error")
    return {str(key): float(value) for key, value in best.items()} | METHODS[cell.method].fixed
