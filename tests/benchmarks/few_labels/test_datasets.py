"""Nobody is in both training and test, and the people for fewer labels are a subset of those for more."""

from __future__ import annotations

import json

import numpy as np
import pytest
from grid.cell import Cell
from grid.datasets import FOLDS, FRL_FILES, folds, images_of_folds, people_of, read_people, write_people

PEOPLE = 142


def cell(fold=0, n_labels=20, seed=0, split="test"):
    return Cell("frl14", "dlib", "none", "FT", n_labels, fold, seed, split=split)


def test_folds_are_a_partition():
    assert sorted(np.concatenate(folds(PEOPLE))) == [*range(PEOPLE)]
    assert {len(fold) for fold in folds(PEOPLE)} == {28, 29}


@pytest.mark.parametrize("fold", range(FOLDS))
def test_trained_outside_the_fold_and_tested_in_it(fold):
    train, test = people_of(cell(fold), PEOPLE)
    assert {*test} == {*folds(PEOPLE)[fold]}
    assert not {*train} & {*test}
    assert len({*train}) == 20


@pytest.mark.parametrize("fold", range(FOLDS))
def test_tuned_in_the_fold_and_tested_outside(fold):
    train, test = people_of(cell(fold, split="tuning"), PEOPLE)
    assert {*train} < {*folds(PEOPLE)[fold]}
    assert {*test} == {*range(PEOPLE)} - {*folds(PEOPLE)[fold]}


def test_fewer_labels_are_a_part_of_more():
    sets = [{*people_of(cell(n_labels=number), PEOPLE)[0]} for number in (10, 20, 50)]
    assert sets[0] < sets[1] < sets[2]


def test_seeds_choose_others():
    assert {*people_of(cell(seed=0), PEOPLE)[0]} != {*people_of(cell(seed=1), PEOPLE)[0]}


def test_too_many_labels():
    with pytest.raises(ValueError, match="n_labels=114, but frl14 has 113 people"):
        people_of(cell(n_labels=114), PEOPLE)


def test_files_are_put_together_whatever_their_numbers(places):
    """The ids of images and faces start at the same number in all three files."""
    root = places.data_root / "frl"
    content = read_people(root, FRL_FILES)
    truth = {}
    for file in FRL_FILES:
        own = json.loads((root / file).read_text())
        names = {image["id"]: image["file_name"] for image in own["images"]}
        truth |= {names[each["image_id"]]: each["keypoints"] for each in own["annotations"]}
    assert len(truth) == 40
    names = {image["id"]: image["file_name"] for image in content["images"]}
    assert {names[each["image_id"]]: each["keypoints"] for each in content["annotations"]} == truth


def test_the_order_of_the_files_does_not_matter(places):
    root = places.data_root / "frl"
    assert read_people(root, FRL_FILES)["images"] == read_people(root, FRL_FILES[::-1])["images"]


def test_two_faces_in_an_image(places, tmp_path):
    content = json.loads((places.data_root / "frl" / "val.json").read_text())
    content["annotations"].append(content["annotations"][0])
    (tmp_path / "val.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="5 faces in 4 images"):
        read_people(tmp_path, ["val.json"])


def test_some_people_in_a_file(places, tmp_path):
    content = read_people(places.data_root / "frl", FRL_FILES)
    write_people(content, np.array([7, 3]), tmp_path / "some.json")
    written = json.loads((tmp_path / "some.json").read_text())
    assert [image["id"] for image in written["images"]] == [7, 3]
    assert [each["image_id"] for each in written["annotations"]] == [7, 3]


def test_images_of_folds(places):
    names = images_of_folds(places.landmarks("frl14"), FRL_FILES)
    assert [len(fold) for fold in names] == [8] * FOLDS
    assert len(set().union(*names)) == 40
