"""Splits by person."""

from __future__ import annotations

import numpy as np
import pytest

from xtask_reg.data.conversion.splits import check_splits, read_persons, split_by_person


@pytest.mark.parametrize("seed", range(20))
def test_persons_are_never_split(seed):
    generator = np.random.default_rng(seed)
    persons = [f"p{number}" for number in generator.integers(0, 40, 300)]
    splits = split_by_person(persons, (0.6, 0.15, 0.25), seed)
    check_splits(persons, splits)
    of = dict(zip(persons, splits))
    assert [list(of.values()).count(split) for split in ("train", "val", "test")] == [24, 6, 10]
    order = generator.permutation(300)
    assert split_by_person([persons[index] for index in order], (0.6, 0.15, 0.25), seed) == tuple(
        splits[index] for index in order
    )
    assert splits != split_by_person(persons, (0.6, 0.15, 0.25), seed + 1)


@pytest.mark.parametrize(
    ("fractions", "says"),
    [
        ((0.7, 0.2, 0.2), r"add up to 1.1; expected 1"),
        ((0.7, 0.1, 0.1), r"add up to 0.9; expected 1"),
        ((1.2, -0.1, -0.1), "three numbers >= 0"),
        ((float("nan"), 0.5, 0.5), "three numbers >= 0"),
        ((0.5, 0.5), "three numbers >= 0"),
        ((0.9, 0.05, 0.05), "no person is left for val with a fraction of 0.05 of 4 persons"),
    ],
)
def test_bad_fractions(fractions, says):
    with pytest.raises(ValueError, match=says):
        split_by_person(["a", "b", "c", "d", "d"], fractions)


def test_persons_file(write):
    path = write("persons.csv", "person,file,age\np1,sub\\a.png,3\np2,b.png,4\np2,c.png,5\np1,sub/a.png,3\n")
    assert read_persons(path, ["b.png", "sub/a.png"]) == ("p2", "p1")


def test_a_persons_file_may_write_accents_in_the_other_form_of_unicode(write):
    path = write("persons.csv", "file,person\nZoe\u0308.png,p1\nBj\u00f6rn.png,p2\n")
    assert read_persons(path, ["Zo\u00eb.png", "Bjo\u0308rn.png"]) == ("p1", "p2")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("file,name\na,b\n", "expected the columns file and person"),
        ("file,person\na,p1\na,p2\n", "line 3: expected one person for a, found 'p2'"),
        ("file,person\na,\n", "line 2: expected one person for a"),
        ("file,person\nb,p1\n", "has no person for 1 of 1 images, e.g. a"),
        ("file,person\n", "no lines after its header"),
    ],
)
def test_bad_persons(write, content, says):
    with pytest.raises(ValueError, match=says):
        read_persons(write("persons.csv", content), ["a"])
