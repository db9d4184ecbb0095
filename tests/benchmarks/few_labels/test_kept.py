"""The accuracy on the source's task after training, compared with counts by hand."""

from __future__ import annotations

import dataclasses
from itertools import combinations
from pathlib import Path

import few_labels_report
import numpy as np
import pytest
import torch
from grid import identities, report
from grid.cell import Cell
from grid.config import cell_config
from grid.kept import kept, verification_auc
from grid.kept_report import draw_kept, kept_table, strangers_table
from grid.places import Places
from grid.results import Results
from grid.sources import SOURCES
from made_results import FOLDS, grid_cell, line, write_identities
from mmpose.registry import MODELS

from xtask_reg.sources import dlib_resnet29_dense, load_weights, save_weights

MEAN = (122.782, 117.001, 104.298)


def test_verification_counts_pairs():
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 20)
    features = random.normal(size=(20, 5)) + labels[:, None]
    cosine = {
        (i, j): features[i] @ features[j] / np.linalg.norm(features[i]) / np.linalg.norm(features[j])
        for i, j in combinations(range(20), 2)
    }
    same = [value for (i, j), value in cosine.items() if labels[i] == labels[j]]
    other = [value for (i, j), value in cosine.items() if labels[i] != labels[j]]
    wins = sum(one > two for one in same for two in other)
    found = verification_auc(torch.from_numpy(features), torch.from_numpy(labels))
    assert found == pytest.approx(wins / (len(same) * len(other)), abs=1e-12)


@pytest.fixture
def people(tmp_path):
    """Nine images, the first three of which a classifier may have seen; the source names the people of all but two."""
    torch.manual_seed(0)
    source = dlib_resnet29_dense().eval()
    images = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), np.uint8)
    normal = (torch.from_numpy(images).float() - torch.tensor(MEAN)) / 255
    with torch.no_grad():
        features = source(normal.permute(0, 3, 1, 2)).mean((2, 3))
    # each row of the classifier responds most to one image
    weight = torch.nn.functional.normalize(features[[0, 1, 2]] - features.mean(0))
    weight, bias = 100 * weight, -100 * weight @ features.mean(0)
    answers = (features @ weight.T + bias).argmax(1).tolist()
    assert set(answers[:3]) == {0, 1, 2}
    named = [*answers[:3], (answers[3] + 1) % 3, *answers[4:8], (answers[8] + 1) % 3]
    write_identities(tmp_path, images, ["abc"[name] for name in named], seen=3)
    weights = {**source.state_dict(), "fc.weight": weight, "fc.bias": bias}
    save_weights(weights, tmp_path / "dlib.safetensors", {})
    return Places(tmp_path, tmp_path)


def model_of(places, prepared, teacher="none", method="FT"):
    cell = Cell("frl14", "dlib", teacher, method, 20, 0, setting={"lr": 1e-4, "weight": 0.1})
    model = MODELS.build(cell_config(cell, Places(places.data_root, prepared), Path("here")).model)
    model.init_weights()
    return model


def test_the_source_itself(places, people):
    """Four of the six images that no classifier saw."""
    found = kept(model_of(places, people.prepared), "dlib", people)
    assert found["accuracy"] == pytest.approx(4 / 6, abs=1e-4)


def test_the_copy_of_the_classifier_that_a_term_trains(places, people, monkeypatch):
    monkeypatch.setitem(SOURCES, "dlib", dataclasses.replace(SOURCES["dlib"], classes=3))
    model = model_of(places, people.prepared, "source", "CTD-Com")
    copy = model.regularizer.terms["loss_cd"].student_connector
    found = kept(model, "dlib", people)
    assert found["accuracy_of_copy"] == found["accuracy"] == pytest.approx(4 / 6, abs=1e-4)
    with torch.no_grad():
        copy.fc.weight.copy_(copy.fc.weight.roll(1, 0))
        copy.fc.bias.copy_(copy.fc.bias.roll(1, 0))
    turned = kept(model, "dlib", people)
    assert turned["accuracy"] == found["accuracy"]
    assert turned["accuracy_of_copy"] <= 2 / 6
    assert "accuracy_of_copy" not in kept(model_of(places, people.prepared), "dlib", people)


def test_a_source_that_was_trained_on_these_images(places, people, monkeypatch):
    """On all but every third: so the fourth and the seventh count, and the classifier is wrong on the fourth."""
    monkeypatch.setattr("grid.kept.verification_auc", lambda features, labels: 0)  # too few pairs
    monkeypatch.setitem(SOURCES, "dlib", dataclasses.replace(SOURCES["dlib"], holds_out=3))
    found = kept(model_of(places, people.prepared), "dlib", people)
    assert found["accuracy"] == 0.5


def test_of_strangers(places, people, monkeypatch):
    """Every other person, in the order of their names: here a and c."""
    monkeypatch.setattr("grid.kept.verification_auc", lambda features, labels: 0)  # too few pairs
    known = identities.read(people.data_root)
    model = model_of(places, people.prepared)
    with torch.no_grad():
        features = model.backbone((known.images - torch.tensor(MEAN)[:, None, None]) / 255)[-1].mean((2, 3))
    weights = load_weights(people.prepared / "dlib.safetensors")
    right = [
        int((weights["fc.weight"] @ own + weights["fc.bias"]).argmax()) == label
        for own, label, held_out in zip(features, known.labels.tolist(), known.held_out.tolist())
        if label != 1 and held_out
    ]
    assert len(right) not in (0, known.held_out.sum())
    found = kept(model, "dlib", people, of_strangers=True)
    assert found["accuracy"] == pytest.approx(sum(right) / len(right), abs=1e-4)


def test_what_was_forgotten_is_not_known(places, people):
    """All features are 0: the prediction is the same for all images, and all pairs are equally similar."""
    model = model_of(places, people.prepared)
    before = kept(model, "dlib", people)
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter.zero_()
    after = kept(model, "dlib", people)
    assert after["verification_auc"] == 0.5 != before["verification_auc"]
    assert after["accuracy"] != before["accuracy"]


@pytest.fixture
def results(tmp_path):
    """FT forgets everything; FE nothing, but its error is 50 % larger; a term is half-way in both."""
    results = Results(tmp_path / "few_labels.jsonl")
    known = {
        "CTD-ED 0.02": (1.15, 0.7),
        "FT": (1.0, 0.2),
        "CTD-ED 2e-05": (1.05, 0.4),
        "CTD-ED 0.002": (1.1, 0.5),
        "FE": (1.5, 0.8),
    }
    for method, (error, accuracy) in known.items():
        for fold in range(5):
            cell = grid_cell(method, fold, setting={"lr": 1e-4, "kept": 1})
            own = {"accuracy": accuracy + 0.01 * fold, "verification_auc": accuracy + 0.1}
            results.add(line(cell, dict.fromkeys(FOLDS[fold], error), **own))
        results.add(line(grid_cell(method, 0, setting={"lr": 1e-4}), dict.fromkeys(FOLDS[0], 9.0)))
    return results


def test_table(results):
    rows = report.images(results, kept=[1])
    table = kept_table(report.lines(results, kept=[1]), rows, report.differences(rows)).splitlines()
    assert table[5] == "| FT | 22.0 | 20.0 to 24.0 | 0.300 | 1.000 |  | 5 trainings |  |"
    assert table[3].startswith("| CTD-ED 0.002 | 52.0 | 50.0 to 54.0 | 0.600 | 1.100 | **+10.0 (+10.0 to +10.0)** |")
    assert len(table) == 7


@pytest.mark.parametrize("wanted", [few_labels_report.KEPT, few_labels_report.UNLABELLED])
def test_what_is_asked_again_is_no_part_of_the_first_answer(results, wanted):
    """Trainings with another seed, possibly on some folds only, and with another source."""
    first = report.lines(results, **wanted).cell.tolist()
    cell = grid_cell("FT", 0, setting={"lr": 1e-4, "kept": 1})
    for other in (dataclasses.replace(cell, seed=1), dataclasses.replace(cell, source="lfw")):
        results.add(line(other, dict.fromkeys(FOLDS[0], 2.0)))
    assert report.lines(results, **wanted).cell.tolist() == first


def test_table_of_strangers(results):
    table = strangers_table(report.lines(results, kept=[1])).splitlines()
    assert table[3] == "| CTD-ED 0.002 | 52.0 | 50.0 to 54.0 | 0.600 |"
    assert [row.split(" | ")[0] for row in table[2:]] == [
        *("| CTD-ED 2e-05", "| CTD-ED 0.002", "| CTD-ED 0.02", "| FT", "| FE")
    ]


def test_picture(results):
    rows = report.images(results, kept=[1])
    axes = draw_kept(report.lines(results, kept=[1]), report.differences(rows)).axes[0]
    drawn = {each.get_label(): each.get_xydata().tolist() for each in axes.lines}
    points = [(5, 42), (10, 52), (15, 72)]
    assert drawn["CTD-ED"] == [[pytest.approx(change), pytest.approx(known)] for change, known in points]
    assert drawn["FT"] == [[pytest.approx(0), pytest.approx(22)]]
    assert drawn["the source itself"][0][1] == pytest.approx(82)
    assert "FE" not in drawn  # beyond the axis limit
