"""The measurements read from a run's log, and their plot, for logs written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from xtask_reg.measuring.plots import plot_measurements
from xtask_reg.measuring.run_log import read_log

OTHERS = {"lr": 0.001, "loss": 0.3, "loss_ed": 0.1, "time": 0.02, "epoch": 1, "memory": 12, "cosine": 7, "value/": 8}
"""Other keys that MMEngine logs, and keys that only look like measurements."""


def write(path: Path, *lines: dict[str, Any] | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(f"{text}\n" for text in texts))
    return path


def mmengine(folder: Path, start: str, *lines: dict[str, Any] | str) -> Path:
    """A log in a work folder, each line with the other keys of MMEngine, and a validation of epoch 1."""
    training = [line if isinstance(line, str) else {**OTHERS, **line, "step": line["iter"]} for line in lines]
    write(folder / start / "vis_data/scalars.json", *training, {"landmark/ME": 1.1, "time": 0.1, "step": 1})
    return folder


def test_mmengine_log(tmp_path):
    lines = [
        {"iter": 10, "cosine/backbone.layer4": 0.9, "value/ed": 0.1},
        {"iter": 20, "cosine/backbone.layer4": 0.8, "value/ed": 0.2, "cka/backbone.layer1": 1.0},
        {"iter": 30, "cosine/backbone.layer4": 0.7, "value/ed": 0.3, "cka/backbone.layer1": 0.9},
    ]
    assert read_log(mmengine(tmp_path, "20260101_000000", *lines)) == {
        "cosine": {"backbone.layer4": [(10, 0.9), (20, 0.8), (30, 0.7)]},
        "value": {"ed": [(10, 0.1), (20, 0.2), (30, 0.3)]},
        "cka": {"backbone.layer1": [(20, 1.0), (30, 0.9)]},
    }


def test_path_as_a_string(tmp_path):
    file = write(tmp_path / "log.jsonl", {"step": 7, "weight/ed": 0.5})
    assert read_log(str(file)) == read_log(file)


def test_own_loop_log(tmp_path):
    """One file, out of order; of several lines for a step the last counts, and "iter" has precedence over "step"."""
    lines = [
        {"step": 7, "weight/ed": 0.5, "ratio/ed": 0.1},
        {"step": 0, "weight/ed": 0.2, "ratio/ed": 0.3},
        {"task": 0.3},
        {"weight/ed": 11.0},
        {"step": 7, "weight/ed": 0.4, "cosine/encoder.1": 0.6},
        {"step": 9, "weight/ed": 0.4, "ratio/ed": 0.2},
        {"iter": 12, "step": 1, "cosine/encoder.1": 0.5},
    ]
    assert read_log(write(tmp_path / "log.jsonl", *lines)) == {
        "weight": {"ed": [(0, 0.2), (7, 0.4), (9, 0.4)]},
        "ratio": {"ed": [(0, 0.3), (7, 0.1), (9, 0.2)]},
        "cosine": {"encoder.1": [(7, 0.6), (12, 0.5)]},
    }


def test_a_resumed_run_replaces_what_was_lost(tmp_path):
    """The first run got to step 50, its last checkpoint was of step 25; the second one was stopped at step 40."""
    mmengine(tmp_path, "20260102_000000", *({"iter": n, "cosine/a": n / 1000} for n in (30, 40)))
    mmengine(tmp_path, "20260101_235959", *({"iter": n, "cosine/a": n / 100} for n in (10, 20, 30, 35, 40, 50)))
    assert read_log(tmp_path) == {"cosine": {"a": [(10, 0.1), (20, 0.2), (30, 0.03), (40, 0.04)]}}
    mmengine(tmp_path, "20260103_000000")  # ended before its first measurement
    assert read_log(tmp_path)["cosine"]["a"][-1] == (40, 0.04)


REPEATED = {
    "kept where it first stands": ([0.9, 0.9, 0.9, 0.8, 0.8, 0.7], [(0, 0.9), (3, 0.8), (5, 0.7)]),
    "back again": ([0.9, 0.8, 0.9, 0.9], [(0, 0.9), (1, 0.8), (2, 0.9)]),
    "at the end": ([0.9, 0.8, 0.8, 0.8], [(0, 0.9), (1, 0.8)]),
    "never changes": ([0.9, 0.9, 0.9], [(0, 0.9), (2, 0.9)]),
    "once": ([0.9], [(0, 0.9)]),
}


@pytest.mark.parametrize("case", REPEATED)
@pytest.mark.parametrize("key", ["cosine/a", "weight/a"])
def test_repeated_measurements(case, key, tmp_path):
    values, points = REPEATED[case]
    curves = read_log(write(tmp_path / "log", *({"step": n, key: value} for n, value in enumerate(values))))
    assert curves == {key.partition("/")[0]: {"a": points}}


def test_what_is_measured_together_is_kept_together(tmp_path):
    """A frozen stage beside one that trains, the fixed weight of a term beside its value; not another term's."""
    values = {
        "cosine/frozen": [1.0, 1.0, 1.0, 1.0],
        "cosine/trained": [0.9, 0.9, 0.8, 0.8],
        "cka/trained": [0.5, 0.5, 0.5, 0.4],
        "weight/ed": [0.2, 0.2, 0.2, 0.2],
        "value/ed": [0.3, 0.4, 0.4, 0.5],
        "weight/cd": [0.1, 0.1, 0.1, 0.0],
    }
    lines = ({"step": n, **{key: each[n] for key, each in values.items()}} for n in range(4))
    curves = read_log(write(tmp_path / "log", *lines))
    assert curves == {
        "cosine": {
            "frozen": [(0, 1.0), (2, 1.0), (3, 1.0)],
            "trained": [(0, 0.9), (2, 0.8), (3, 0.8)],
        },
        "cka": {"trained": [(0, 0.5), (2, 0.5), (3, 0.4)]},
        "weight": {"ed": [(0, 0.2), (1, 0.2), (3, 0.2)], "cd": [(0, 0.1), (3, 0.0)]},
        "value": {"ed": [(0, 0.3), (1, 0.4), (3, 0.5)]},
    }


def test_numbers_that_are_not_finite_are_left_out(tmp_path):
    """A report has NaN where there is no gradient to compare with, which Python writes as a literal."""
    lines = ('{"step": 1, "ratio/ed": NaN, "value/ed": 0.3}', '{"step": 2, "ratio/ed": Infinity, "value/ed": 0.2}')
    path = write(tmp_path / "log", *lines, {"step": 3, "ratio/ed": 0.1, "value/ed": 0.1})
    assert read_log(path) == {"ratio": {"ed": [(3, 0.1)]}, "value": {"ed": [(1, 0.3), (2, 0.2), (3, 0.1)]}}


GOOD = {"step": 1, "cosine/a": 0.5}


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path):
    """As after a full disk or a power cut; a resumed run continues in another file."""
    path = tmp_path / "log"
    path.write_text(json.dumps(GOOD) + '\n{"step": 2, "cosine/a": 0.')
    with pytest.warns(UserWarning, match="log, line 2 was cut off"):
        assert read_log(path) == {"cosine": {"a": [(1, 0.5)]}}


def test_a_file_of_one_line_that_is_none_is_no_log_that_was_cut_off(tmp_path):
    path = tmp_path / "log"
    path.write_text("a picture")
    with pytest.raises(ValueError, match="log, line 1: not JSON"):
        read_log(path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([GOOD, '{"step": 2, "cosine/a": 0.'], "log, line 2: not JSON"),
        ([GOOD, GOOD, ""], "log, line 3: not JSON"),
        (["[" * 10**5, GOOD], "log, line 1: not JSON"),
        (["\x89PNG\udc80"], "log, line 1: not JSON"),
        ([GOOD, "[1, 2]"], r"log, line 2: expected an object with keys, found '\[1, 2\]'"),
        ([{"step": 1, "cosine/a": "high"}], "log, line 1: cosine/a is 'high'; expected a number"),
        ([GOOD, {"step": 2, "weight/a": None}], "log, line 2: weight/a is None; expected a number"),
        ([{"step": 1, "cosine/a": True}], "log, line 1: cosine/a is True"),
        ([{"step": "one", "cosine/a": 0.5}], "log, line 1: step is 'one'; expected a number"),
        ([], "log has no measurements .*model.monitor.*Monitor"),
        ([{"step": 1, "loss": 0.3}, {"step": 2, "cosine": 0.3}], "log has no measurements"),
        ([{"cosine/a": 0.3}], "log has no measurements"),
        (['{"step": 1, "ratio/a": NaN}'], "log has no measurements"),
    ],
)
def test_errors(lines, message, tmp_path):
    path = tmp_path / "log"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_bytes("".join(f"{text}\n" for text in texts).encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=message) as error:
        read_log(path)
    assert "\n" not in str(error.value)


def test_no_log(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        read_log(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match=r"scalars.json: name the work folder"):
        read_log(tmp_path)


RUNS = {
    "FT": {
        "cosine": {"layer1": [(1, 1.0), (51, 0.9)], "layer4": [(1, 0.9), (51, 0.4)]},
        "cka": {"layer4": [(1, 0.8), (51, 0.7)]},
    },
    "CTD": {
        "cosine": {"layer4": [(1, 0.9), (51, 0.8), (101, 0.7)]},
        "ratio": {"cd": [(1, 0.02), (51, 0.1)], "ed": [(1, 0.0), (51, 0.3)]},
        "weight": {"ed": [(1, 0.002), (51, 0.02)]},
        "value": {"ed": [(1, 0.5)]},
    },
}
LABELS = ["cosine to the source", "CKA to the source", "gradient ratio, term : rest", "weight"]


def panels(figure: Figure, columns: int) -> list[list[Axes]]:
    """The axes by row and column."""
    return [figure.axes[start : start + columns] for start in range(0, len(figure.axes), columns)]


def legend(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()] if axes.get_legend() else []


def test_picture_has_a_column_a_run_and_a_row_a_kind():
    grid = panels(plot_measurements(RUNS), 2)
    assert [axes.get_title() for axes in grid[0]] == ["FT", "CTD"]
    assert [row[0].get_ylabel() for row in grid] == LABELS
    assert [[axes.get_xlabel() for axes in row] for row in grid] == [["", ""]] * 3 + [["training step"] * 2]
    assert [[legend(axes) for axes in row] for row in grid] == [
        [[], ["layer1", "layer4"]],
        [[], ["layer4"]],
        [[], ["cd", "ed"]],
        [[], ["ed"]],
    ]


def test_lines_are_the_measurements():
    for row, kind in zip(panels(plot_measurements(RUNS), 2), ("cosine", "cka", "ratio", "weight"), strict=True):
        for axes, run in zip(row, RUNS.values(), strict=True):
            drawn = {line.get_label(): line.get_xydata() for line in axes.lines}
            assert drawn.keys() == run.get(kind, {}).keys()
            for name, points in run.get(kind, {}).items():
                np.testing.assert_array_equal(drawn[name], points)


def test_a_stage_looks_the_same_in_all_runs():
    first, second = panels(plot_measurements(RUNS), 2)[0]
    looks = [
        {line.get_label(): (line.get_color(), line._dash_pattern) for line in axes.lines} for axes in (first, second)
    ]
    assert looks[0]["layer4"] == looks[1]["layer4"] != looks[0]["layer1"]
    handles = second.get_legend().get_lines()
    assert [handle.get_color() for handle in handles] == [looks[0][name][0] for name in ("layer1", "layer4")]


def test_a_single_measurement_is_seen():
    axes = plot_measurements({"run": {"cosine": {"a": [(1, 0.5)], "b": [(1, 0.5), (2, 0.4)]}}}).axes[0]
    assert [line.get_marker() for line in axes.lines] == [".", "None"]


def test_many_curves_differ():
    figure = plot_measurements({"run": {"cosine": {f"{n:02}": [(1, n)] for n in range(28)}}})
    assert len({(line.get_color(), str(line._dash_pattern)) for line in figure.axes[0].lines}) == 28


@pytest.mark.parametrize("kind", ["ratio", "weight"])
@pytest.mark.parametrize(
    ("values", "scale"),
    [([0.02, 3e-5], "log"), ([0.0, 0.02, 3e-5], "symlog"), ([0.0, 0.0], "linear")],
)
def test_scale_of_ratios_and_weights(kind, values, scale):
    """A logarithmic axis, on which 0 is drawn below all other values, and two decades are equally far apart."""
    runs = {"one": {kind: {"ed": [(0, values[0])]}}, "other": {kind: {"ed": list(enumerate(values))}}}
    figure = plot_measurements(runs)
    FigureCanvasAgg(figure).draw()
    for axes in figure.axes:
        assert axes.get_yscale() == scale
        heights = [axes.transAxes.inverted().transform(axes.transData.transform((0, value)))[1] for value in values]
        assert all(0 <= height <= 1 for height in heights)
        if scale != "linear":
            low, middle, high = (axes.transData.transform((0, value))[1] for value in (1e-4, 1e-3, 1e-2))
            assert middle - low == pytest.approx(high - middle)
        if scale == "symlog":
            assert heights[0] < heights[2] < heights[1]


@pytest.mark.parametrize("kind", ["cosine", "cka"])
def test_similarities_have_a_linear_scale(kind):
    assert plot_measurements({"run": {kind: {"a": [(1, 0.5)]}}}).axes[0].get_yscale() == "linear"


@pytest.mark.parametrize("runs", [{}, {"run": {}}, {"run": {"value": {"ed": [(1, 0.5)]}}}])
def test_nothing_to_plot(runs):
    with pytest.raises(ValueError, match=f"{len(runs)} runs with nothing to plot; expected measurements of cosine"):
        plot_measurements(runs)
