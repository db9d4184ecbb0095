"""Tables and figures of made-up results with known differences."""

from __future__ import annotations

import dataclasses

import few_labels_report
import pytest
from grid import figures, report
from grid.cell import STEPS
from grid.plans import COST_STEPS
from grid.results import Results
from grid.statistics import Estimate
from made_results import FOLDS, grid_cell, line, tune

ERRORS = {"FT": 1.0, "FE": 1.5, "LP-FT": 0.9}
"""The error of each method in fold 0; it grows by 0.1 from fold to fold, and falls with the labels."""
SECONDS = {"FT": 10.0, "FE": 5.0, "LP-FT": 11.0}


@pytest.fixture
def results(tmp_path):
    """Each image of a fold has the fold's error plus or minus an eighth."""
    results = Results(tmp_path / "few_labels.jsonl")
    for n_labels in (20, 10):
        for method, error in ERRORS.items():
            for fold in range(5):
                mean = error + 0.1 * fold + (0.5 if n_labels == 10 else 0)
                errors = dict(zip(sorted(FOLDS[fold]), (mean - 0.125, mean + 0.125)))
                cell = grid_cell(method, fold, n_labels=n_labels, setting={"lr": 1e-4})
                results.add(line(cell, errors, seconds=SECONDS[method]))
    return results


def cells_of(table, *starts):
    (row,) = [row for row in table.splitlines() if row.startswith(f"| {' | '.join(starts)} |")]
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_main_table(results):
    lines = report.lines(results)
    rows = report.images(results)
    table = report.main_table(rows, lines, report.differences(rows), report.times(lines))
    # means 1.0 to 1.4, an eighth about each: the sample variance is 10 / 9 of 0.02 + 1 / 64; five of ten are below 1.2,
    # by 0.325, 0.225, 0.125, 0.075 and 0.025, together 0.775, of which 1.2 and 10 make 0.065
    plain = cells_of(table, "20", "FT")
    assert plain == ["20", "FT", "1.200 ± 0.199", "50.0 %", "0.065", "", "5 trainings", "", "0.500", "1.00"]
    # 0.5 more in each image is 41.7 % of 1.2
    frozen = cells_of(table, "20", "FE")
    assert frozen[5:] == ["**+41.7 (+41.7 to +41.7)**", "0 of 5", "< 0.001", "0.500", "0.50"]
    assert cells_of(table, "10", "LP-FT")[5] == "**-5.9 (-5.9 to -5.9)**"


def test_trainings_made_again(results, tmp_path):
    """Errors 0.5 larger in folds 0 and 1: of 1.0 and 1.1 that is 50 and 45.5 %, of both together 47.6 %."""
    again = Results(tmp_path / "elsewhere" / "again.jsonl")  # a folder that is not there yet
    errors = results.errors.groupby("cell")
    for each in results.lines:
        cell = report.cell_of(each)
        if (cell.method, cell.n_labels) == ("FT", 20) and cell.fold < 2:
            own = errors.get_group(cell.folder)
            again.add({**each, "errors": dict(zip(own.image, own.error + 0.5))})
    table = report.repeat_table(report.images(results), report.images(again))
    assert cells_of(table, "20", "FT")[2:5] == ["1.050", "1.550", "+45.5 to +50.0"]
    assert cells_of(table, "20", "FT")[5].startswith("+47.6 (")
    assert len(table.splitlines()) == 3


def test_other_batches_by_hand(tmp_path):
    """In batches of ten, 10 % more error for as many images, at either rate, and 10 % less for as many steps."""
    trained = (
        (400, {}, 1.0),
        (200, {"batch": 10, "rate": 1}, 1.1),
        (200, {"batch": 10, "rate": 1.414}, 1.1),
        (400, {"batch": 10, "rate": 1}, 0.9),
    )
    results = Results(tmp_path / "few_labels.jsonl")
    for fold, images in enumerate(FOLDS):
        for steps, setting, factor in trained:
            if (fold, setting.get("rate")) != (4, 1.414):
                cell = grid_cell("FT", fold, steps=steps, setting={"lr": 1e-4, **setting})
                results.add(line(cell, dict.fromkeys(images, factor * (1 + fold))))
    table = report.batch_table(report.images(results)).splitlines()
    assert table[2] == "| FT | 5 | 400 | tuned | 3.000 |  | 5 trainings |  |"
    assert table[3].startswith("| FT | 10 | 200 | tuned | 3.300 | **+10.0 (")
    assert table[4].startswith("| FT | 10 | 200 | times 1.414 | 2.750 | **+10.0 (")
    assert "| 0 of 4 |" in table[4]
    assert table[5].startswith("| FT | 10 | 400 | tuned | 2.700 | **-10.0 (")
    assert "| 5 of 5 |" in table[5]
    # and the page's other parts are about the usual batch alone
    assert all(few_labels_report.PARTS[part]["batch"] == [5] for part in ("grid", "variants", "seeds"))


def test_only_what_both_have_is_compared(results, tmp_path):
    """FE lacks fold 4, where FT is worst."""
    fewer = Results(tmp_path / "fewer.jsonl")
    errors = results.errors.groupby("cell")
    for each in results.lines:
        cell = report.cell_of(each)
        if (cell.method, cell.fold) != ("FE", 4):
            own = errors.get_group(cell.folder)
            fewer.add({**each, "errors": dict(zip(own.image, own.error))})
    found = report.differences(report.images(fewer))
    assert found["FE", 20].percent.mean == pytest.approx(100 * 0.5 / 1.15)
    assert found["LP-FT", 20].percent.mean == pytest.approx(100 * -0.1 / 1.2)


def test_methods_against_each_other(results):
    """LP-FT has 0.6 less error than FE: 35 % of 1.7 with 20 labels, 27 % of 2.2 with 10."""
    table = report.pair_table(report.images(results), [("LP-FT", "FE"), ("LP-FT", "a method that is not there")])
    assert table.splitlines()[2:] == [
        "| 20 | LP-FT | FE | **-35.3 (-35.3 to -35.3)** | 5 of 5 | < 0.001 |",
        "| 10 | LP-FT | FE | **-27.3 (-27.3 to -27.3)** | 5 of 5 | < 0.001 |",
    ]


def test_the_reference_is_of_the_same_processor_where_there_is_one(tmp_path):
    """FT is 1 on the first processor, and 2 on the second, on which only the folds up to 2 were made again."""
    here, elsewhere = Results(tmp_path / "here.jsonl"), Results(tmp_path / "elsewhere.jsonl")

    def add(results, method, fold, error, cpu):
        results.add(line(grid_cell(method, fold), dict.fromkeys(FOLDS[fold], error), hardware={"cpu": cpu}))

    for fold in range(5):
        add(here, "FT", fold, 1.0, "first")
        add(here, "FE", fold, 3.0, "second")
        add(here, "LP-FT", fold, 3.0, "first")
        if fold < 3:
            add(elsewhere, "FT", fold, 2.0, "second")
    found = report.differences(report.images(here), report.images(elsewhere))
    assert found["LP-FT", 20].percent.mean == pytest.approx(200)
    # three folds of 1 above 2, two of 2 above 1, in percent of the mean of these references
    assert found["FE", 20].percent.mean == pytest.approx(100 * (3 * 1 + 2 * 2) / (3 * 2 + 2 * 1))


def test_another_source_is_compared_with_its_own_fine_tuning(tmp_path):
    """The other source is twice as bad and takes three times as long; its constraint adds a tenth to both.

    A network without a source, or with another decoder, is compared with FT.
    """
    results = Results(tmp_path / "few_labels.jsonl")
    for source, method, factor, seconds in (
        ("dlib", "FT", 1, 10),
        ("imagenet", "FT", 2, 30),
        ("imagenet", "CTD-ED", 2.2, 33),
        ("scratch", "HG", 4, 50),
        ("dlib-multiscale", "FT", 0.5, 20),
        ("dlib-multiscale", "FE", 0.6, 15),
    ):
        for fold in range(5):
            cell = dataclasses.replace(grid_cell(method, fold), source=source)
            slow = 5 if (source, fold) == ("dlib", 4) else 1  # an outlier, which does not change the median
            results.add(line(cell, dict.fromkeys(FOLDS[fold], factor * (1 + fold)), seconds=slow * seconds))
    rows, lines = report.images(results), report.lines(results)
    found, time = report.differences(rows), report.times(lines)
    assert found["FT, imagenet", 20].percent.mean == pytest.approx(100)
    assert found["CTD-ED, imagenet", 20].percent.mean == pytest.approx(10)
    assert found["HG, scratch", 20].percent.mean == pytest.approx(300)
    assert found["FT, dlib-multiscale", 20].percent.mean == pytest.approx(-50)
    assert found["FE, dlib-multiscale", 20].percent.mean == pytest.approx(-40)
    assert time == {
        **{"FT": 1, "FT, imagenet": 3, "CTD-ED, imagenet": pytest.approx(1.1), "HG, scratch": 5},
        **{"FT, dlib-multiscale": 2, "FE, dlib-multiscale": 1.5},
    }


def test_only_what_is_wanted(results):
    assert set(report.lines(results, n_labels=[10]).n_labels) == {10}
    assert set(report.images(results, n_labels=[10]).n_labels) == {10}
    assert len(report.images(results, n_labels=[10])) == 30


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ({"method": "FT", "teacher": "none", "source": "dlib"}, "FT"),
        ({"method": "CTD-ED", "teacher": "source", "source": "dlib"}, "CTD-ED"),
        ({"method": "CTD-ED", "teacher": "random", "source": "dlib"}, "CTD-ED, random teacher"),
        ({"method": "FT", "teacher": "none", "source": "imagenet"}, "FT, imagenet"),
        (
            {"method": "LwF 0.1, photographs", "teacher": "source", "source": "dlib", "setting": {"photographs": 50}},
            "LwF 0.1, 50 photographs",
        ),
    ],
)
def test_names(line, name):
    assert report.label(line) == name


def test_an_interval_beyond_the_axis_has_an_arrow():
    """The axis ends at -20 and 20 %: the first goes beyond the left end, the second beyond the right one."""
    intervals = {"HG": (-15, -25, -5), "FTP": (15, 5, 25), "FT": (0, -5, 5), "FE": (50, 40, 60)}
    against = {
        (name, 20): report.Comparison(Estimate(*interval), less=0, trainings=5, p=0.01)
        for name, interval in intervals.items()
    }
    drawn = figures.forest(against).axes[0].lines
    arrows = [(each.get_marker(), *each.get_xydata()[0]) for each in drawn if each.get_marker() in ("<", ">")]
    assert arrows == [("<", -20, 0), (">", 20, 1)]


def test_tuning_table(results, tmp_path):
    """The second rate is best except on fold 3, where it is bad: only the choice for fold 3 does not see that."""
    tuning = Results(tmp_path / "tuning.jsonl")
    second, third = 3e-5, 6e-5

    def error(setting, trained_on, image):
        if setting["lr"] == second:
            return 21.0 if image in FOLDS[3] else 1.0
        return 2.0 if setting["lr"] == third else 9.0

    tune(tuning, "FT", error)
    wanted = {"method": ["FT"]}
    table = report.tuning_table(tuning, report.images(results, **wanted), report.lines(results, **wanted))
    chosen = {row.split("|")[2].strip(): row.split("|")[4].strip() for row in table.splitlines()[2:]}
    assert (chosen["lr 3e-05"], chosen["lr 6e-05"], chosen["lr 0.0001"]) == ("3", "0, 1, 2, 4", "")


def test_the_command_writes_and_draws_what_is_there(results, tmp_path, monkeypatch):
    tuning = Results(tmp_path / "few_labels_tuning.jsonl")
    for method in ERRORS:
        tune(tuning, method, lambda *_: 1.0)
        short = grid_cell(method, 0, steps=COST_STEPS, setting={"lr": 1e-4})
        results.add(line(short, dict.fromkeys(FOLDS[0], 9.0), seconds=SECONDS[method] / 4))
    page, tuned = tmp_path / "results.md", tmp_path / "tuning.md"
    page.write_text("before\n<!-- grid -->\nold\n<!-- end -->\nafter\n")
    tuned.write_text("<!-- tuning -->\n<!-- end -->\n")
    readme = tmp_path / "readme.md"
    readme.write_text("<!-- results -->\n<!-- end -->\n")
    monkeypatch.setattr(few_labels_report, "SUMMED_UP", ("FT", "FE", "LP-FT"))
    monkeypatch.setattr(
        "sys.argv", ["report", "--results", str(tmp_path), "--docs", str(tmp_path), "--readme", str(readme)]
    )
    few_labels_report.main()
    wanted = {"steps": [STEPS]}
    time = report.times(report.lines(results, **wanted))
    rows = report.images(results, **wanted)
    grid = report.main_table(rows, report.lines(results, **wanted), report.differences(rows), time)
    chosen = report.tuning_table(tuning, report.images(results), report.lines(results))
    assert page.read_text() == f"before\n<!-- grid -->\n\n{grid}\n\n<!-- end -->\nafter\n"
    assert tuned.read_text() == f"<!-- tuning -->\n\n{chosen}\n\n<!-- end -->\n"
    # means 1.2, 1.7 and 1.1 at 20 labels, half a pixel more at 10
    assert "| 10 | 1.700 | 2.200 (**+29.4 %**) | 1.600 (**-5.9 %**) |" in readme.read_text()
    assert "| 20 | 1.200 | 1.700 (**+41.7 %**) | 1.100 (**-8.3 %**) |" in readme.read_text()
    names = {"labels", "grid", "curves", "cost", "ced_10", "ced_20"}
    assert {path.name for path in (tmp_path / "images").iterdir()} == {f"results_{name}.png" for name in names}
    page.write_text("no mark")
    with pytest.raises(ValueError, match="no <!-- grid -->"):
        few_labels_report.main()


def test_trainings_tuned_with_other_labels_have_tables_of_their_own(results, tmp_path, monkeypatch):
    def tables():
        pages = few_labels_report.Measured(tmp_path, "frl14").tables()
        return {mark: table for own in pages.values() for mark, table in own.items()}

    tuning, own = Results(tmp_path / "few_labels_tuning.jsonl"), {"tuned": 10}
    for method in ERRORS:
        tune(tuning, method, lambda *_: 1.0)
    before = tables()
    for method, error in {"FT": 4.0, "FE": 5.0}.items():
        tune(tuning, method, lambda *_: 2.0, setting=own)
        for fold in range(5):
            cell = grid_cell(method, fold, n_labels=10, setting={"lr": 1e-4, **own})
            results.add(line(cell, dict.fromkeys(FOLDS[fold], error)))
    retuned = few_labels_report.PARTS["retuned"]
    monkeypatch.setitem(few_labels_report.PARTS, "retuned", {**retuned, "seed": [0]})
    after = tables()
    assert cells_of(after.pop("retuned"), "10", "FE")[5] == "**+25.0 (+25.0 to +25.0)**"
    assert "| lr 1e-05 | 2.000 | " in after.pop("retuning")
    assert after == before


def test_larger_images_are_compared_among_themselves(tmp_path):
    """FT has an error of 2 on images of twice the sides, 1 on the usual ones, also on the other method's processor."""
    here, again = (Results(tmp_path / f"few_labels{name}.jsonl") for name in ("", "_repeat"))
    large = {"lr": 1e-4, "size": 256}
    for fold, images in enumerate(FOLDS):
        frozen = dataclasses.replace(grid_cell("FE", fold, setting=large), source="dlib-multiscale")
        here.add(line(grid_cell("FT", fold), dict.fromkeys(images, 1.0), hardware={"cpu": "first"}))
        here.add(line(grid_cell("FT", fold, setting=large), dict.fromkeys(images, 2.0), hardware={"cpu": "first"}))
        here.add(line(frozen, dict.fromkeys(images, 1.5), hardware={"cpu": "second"}))
        again.add(line(grid_cell("FT", fold), dict.fromkeys(images, 1.0), hardware={"cpu": "second"}))
    measured = few_labels_report.Measured(tmp_path, "frl14")
    assert "larger" in measured.parts()
    found = measured.differences("larger")
    assert {key: each.percent.mean for key, each in found.items()} == {("FE, dlib-multiscale", 20): pytest.approx(-25)}
    assert "FE, dlib-multiscale" not in {name for name, _ in measured.differences("grid")}
