"""Real trainings with MMPose, as small as possible."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from grid.datasets import FRL_FILES, images_of_folds, read_people
from grid.engines import here
from grid.identities import seen
from grid.results import Results
from made_results import grid_cell, write_identities

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
STEPS = 20


PHOTOGRAPHS, PORTRAITS = "CTD-ED 0.01, photographs", "CTD-ED 0.01, portraits"


def cells(methods, **more):
    teachers = dict.fromkeys(["CTD-ED", PHOTOGRAPHS, PORTRAITS], "source")
    setting = {"lr": 1e-4, "weight": 1e-3, **more}
    return [
        grid_cell(method, 1, teacher=teachers.get(method, "none"), n_labels=5, steps=STEPS, setting=setting)
        for method in methods
    ]


def test_a_seed_gives_the_same_numbers(places):
    """Two trainings at a time, as the grid runs them."""
    lines = [line for _, line in here(cells(["FT"]) * 2, places, jobs=2)]
    for line in lines:
        line.pop("seconds")
    assert lines[0] == lines[1]


def test_what_a_line_says(places):
    ((cell, line),) = here(cells(["CTD-ED"], kept=1), places, jobs=1)
    assert set(line["errors"]) == images_of_folds(places.landmarks("frl14"), FRL_FILES)[cell.fold]
    assert line["me"] == pytest.approx(sum(line["errors"].values()) / 8)
    assert len(line["curve"]) == 4
    assert line["curve"][-1] == pytest.approx(line["me"], abs=1e-4)
    assert {"versions", "commit", "hardware", "config", "seconds", "me_argmax", "fr", "auc", "sd"} <= line.keys()
    assert line["accuracy"] in {n / 4 for n in range(5)}  # of four images
    assert line["verification_auc"] in {n / 8 for n in range(9)}  # of two pairs against four


def test_wise_ft_goes_from_the_source_to_what_fine_tuning_makes_of_it(places):
    """At its ends the encoder is the trained one, and the source's, with the accuracy of the frozen encoder."""
    ends = [dict(kept=1, alpha=alpha) for alpha in (1.0, 0.0)]
    wanted = [*(cells(["WiSE-FT 0.5"], **end)[0] for end in ends), *cells(["FT", "FE"], kept=1)]
    found = {(cell.method, cell.setting.get("alpha")): line for cell, line in here(wanted, places, jobs=2)}
    tuned, source = found["WiSE-FT 0.5", 1.0], found["WiSE-FT 0.5", 0.0]
    assert tuned["errors"] == found["FT", None]["errors"] != source["errors"]
    assert tuned["verification_auc"] == found["FT", None]["verification_auc"]
    assert tuned["me_argmax"] == found["FT", None]["me_argmax"]
    assert source["verification_auc"] == found["FE", None]["verification_auc"]
    assert source["curve"][:-1] == tuned["curve"][:-1]


def test_terms_on_photographs_and_on_how_many_are_other_trainings(places):
    wanted = [*cells([PHOTOGRAPHS, "CTD-ED"], weight=1.0), *cells([PHOTOGRAPHS], weight=1.0, photographs=1)]
    lines = [line for _, line in here(wanted, places, jobs=2)]
    assert len({tuple(line["errors"]) for line in lines}) == 1
    assert len({tuple(line["cosine"].values()) for line in lines}) == 3


def test_terms_on_portraits_are_compared_on_those_without_labels(places, tmp_path):
    (cell,) = cells([PORTRAITS])
    where = [str(path) for path in (places.data_root, places.prepared, tmp_path)]
    subprocess.run([sys.executable, "-m", "grid.run_cell", cell.identity, *where], cwd=BENCHMARKS, check=True)
    line = json.loads((tmp_path / "result.json").read_text())
    content = read_people(places.landmarks("frl14"), FRL_FILES)
    with_labels = {
        Path(image["file_name"]).name for image in json.loads((tmp_path / "train.json").read_text())["images"]
    }
    images = {Path(image["file_name"]).name for image in content["images"]}
    linked = {link.name for link in (tmp_path / "portraits").iterdir() if link.is_file()}
    assert linked == {name for name in images - with_labels if Path(name).stem not in line["errors"]}
    assert len(linked) == 40 - 5 - 8


@pytest.mark.parametrize(("without_strangers", "people"), [(False, {"a", "b"}), (True, {"b"})])
def test_photographs_are_those_that_are_not_held_out(places, without_strangers, people):
    found = {file.resolve() for file in seen(places.data_root, 0, without_strangers=without_strangers)}
    with (places.data_root / "lfw158" / "identities.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = [row["file"] for row in rows if row["split"] == "train" and row["identity"] in people]
    assert found == {(places.data_root / "lfw158" / file).resolve() for file in wanted}
    assert len(found) == len(people)


def test_fewer_photographs_are_a_part_of_more_and_others_in_another_fold(tmp_path):
    write_identities(tmp_path, np.zeros((40, 8, 8, 3), np.uint8), "ab" * 20, seen=30)
    ten, twenty, of_another = ({*seen(tmp_path, *each)} for each in ((0, 10), (0, 20), (1, 10)))
    assert ten < twenty
    assert ten != of_another
    assert [len(each) for each in (ten, twenty, of_another)] == [10, 20, 10]


def test_a_cell_without_monitor(places):
    """As for the cells whose time is measured."""
    ((_, line),) = here(cells(["CTD-ED"], monitored=0), places, jobs=1)
    assert len(line["curve"]) == 1
    assert not {"ratio", "cosine"} & line.keys()


def test_a_cell_that_fails_says_why(places):
    (cell,) = cells(["FT"])
    ((failed, text),) = here([grid_cell("FT", 1, n_labels=500, setting={"lr": 1e-4})], places, jobs=1)
    assert "n_labels=500, but frl14 has 32 people to train on" in text
    assert failed != cell


SCRIPT = """
import argparse, pathlib, sys
import few_labels
from grid.places import Places
from grid.results import Results
from made_results import grid_cell

cells = [grid_cell("FT", fold, n_labels=5, steps=20, setting={"lr": 1e-4}) for fold in range(3)]
data_root, prepared, out = map(pathlib.Path, sys.argv[1:])
few_labels.train(cells, Results(out), Places(data_root, prepared), argparse.Namespace(ray=False, jobs=1, gpus=()))
"""


def start(places, out):
    paths = os.pathsep.join([str(BENCHMARKS), str(Path(__file__).parent)])
    command = [sys.executable, "-c", SCRIPT, places.data_root, places.prepared, out]
    return subprocess.Popen(
        [*map(str, command)], env=os.environ | {"PYTHONPATH": paths}, stdout=subprocess.PIPE, start_new_session=True
    )


@pytest.mark.slow
def test_a_killed_grid_goes_on(places, tmp_path):
    out = tmp_path / "grid.jsonl"
    first = start(places, out)
    while not out.exists():
        assert first.poll() is None
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    done = out.read_text()
    assert start(places, out).wait() == 0
    assert out.read_text().startswith(done)
    results = Results(out)
    assert sorted(json.loads(line)["fold"] for line in out.read_text().splitlines()) == [0, 1, 2]
    assert results.errors.groupby("cell").size().tolist() == [8, 8, 8]
