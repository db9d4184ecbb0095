"""Names of runs, terms and files are theirs to choose; pictures show them letter by letter."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from xtask_reg.landmarks.plots import plot_ced
from xtask_reg.measuring.plots import plot_measurements

NAMES = ["_ft", "lr$a$", "$\\foo$", "50%_a"]


def texts(figure: Figure) -> set[str]:
    """What it shows, drawn as it is saved."""
    figure.savefig(io.BytesIO(), format="png")
    shown = {text.get_text() for text in figure.findobj(Text)}
    parsed = {text: Text(text=text)._preprocess_math(text) for text in shown}
    assert not any(is_math for _, is_math in parsed.values())
    return {plain.strip() for plain, _ in parsed.values()}


@pytest.mark.parametrize("name", NAMES)
def test_runs(name):
    shown = texts(plot_ced({name: np.array([0.1, 0.5]), "other": np.array([0.2, 0.3])}))
    assert [text for text in shown if text.startswith(f"{name}\n")]


@pytest.mark.parametrize("name", NAMES)
def test_terms(name):
    points = [(1, 0.5), (2, 0.6)]
    figure = plot_measurements({name: {"cosine": {f"{name}2": points}}})
    assert {name, f"{name}2"} <= texts(figure)
