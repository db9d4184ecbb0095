"""Training, validation and test sets that share no person."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path

from xtask_reg.data.conversion.formats.csv_table import SPLITS, read_rows
from xtask_reg.data.conversion.formats.table import composed


def split_by_person(persons: Sequence[str], fractions: Sequence[float], seed: int = 0) -> tuple[str, ...]:
    """``train``, ``val`` or ``test`` for each entry of ``persons``, the same for the same person.

    The persons are sorted, shuffled with ``seed``, and cut at the rounded fractions of their number; the order of the
    images plays no role.

    Args:
        persons: who is on each image.
        fractions: of the persons, for train, val and test; they add to 1, and 0 leaves a split out.

    Raises:
        ValueError: for other fractions, or so few persons that a split with a fraction above 0 gets none.
    """
    if len(fractions) != len(SPLITS) or not all(fraction >= 0 for fraction in fractions):
        raise ValueError(f"split fractions {list(fractions)}: expected three numbers >= 0 for {', '.join(SPLITS)}")
    if not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise ValueError(f"split fractions {list(fractions)} add up to {sum(fractions):g}; expected 1")
    shuffled = sorted(set(persons))
    random.Random(seed).shuffle(shuffled)
    ends = [round(len(shuffled) * sum(fractions[: index + 1])) for index in range(len(SPLITS))]
    split_of: dict[str, str] = {}
    for name, fraction, start, end in zip(SPLITS, fractions, [0, *ends], ends):
        if fraction > 0 and start == end:
            raise ValueError(
                f"no person is left for {name} with a fraction of {fraction:g} of {len(shuffled)} persons; "
                "raise its fraction, or set it to 0"
            )
        split_of.update(dict.fromkeys(shuffled[start:end], name))
    return tuple(split_of[person] for person in persons)


def check_splits(persons: Sequence[str], splits: Sequence[str]) -> None:
    """Refuse splits that share a person.

    Raises:
        ValueError: if a person is in two splits; the message names such persons.
    """
    found: dict[str, set[str]] = {}
    for person, split in zip(persons, splits):
        found.setdefault(person, set()).add(split)
    shared = sorted(person for person, of_person in found.items() if len(of_person) > 1)
    if shared:
        raise ValueError(f"persons in two splits: {len(shared)}, e.g. {shared[0]!r} in {sorted(found[shared[0]])}")


def read_persons(path: Path, files: Sequence[str]) -> tuple[str, ...]:
    """Who is on each of ``files``, from a CSV file with the columns ``file`` and ``person``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it lacks a column, names two persons for a file, or none for one of ``files``.
    """
    header, rows = read_rows(path)
    if not {"file", "person"} <= set(header):
        raise ValueError(f"{path}: expected the columns file and person, found {header}")
    persons: dict[str, str] = {}
    for line, cells in rows:
        file = composed(Path(cells["file"].replace("\\", "/")).as_posix())
        if not cells["person"] or persons.setdefault(file, cells["person"]) != cells["person"]:
            raise ValueError(f"{path}, line {line}: expected one person for {file}, found {cells['person']!r}")
    unknown = [file for file in files if composed(file) not in persons]
    if unknown:
        raise ValueError(f"{path} has no person for {len(unknown)} of {len(files)} images, e.g. {unknown[0]}")
    return tuple(persons[composed(file)] for file in files)
