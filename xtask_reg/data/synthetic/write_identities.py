"""Writes sets of faces of known people to disk, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from xtask_reg.data.synthetic.pictures import checked_people, cleared, write_face
from xtask_reg.whole_file import replace_file


def write_identity_set(
    root: str | Path, people: Iterable[int], images_per_person: int, size: int, seed: int = 0
) -> Path:
    """Write ``root/images/*.png`` and then ``root/identities.csv``, whose path is returned.

    The CSV has the columns ``file`` (relative to ``root``) and ``identity`` (the person's seed). Arguments, determinism
    and errors are those of :func:`write_landmark_set`.
    """
    people = checked_people(people, images_per_person, size, seed)
    target = cleared(Path(root), "identities.csv")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["file", "identity"])
    for person in people:
        for index in range(images_per_person):
            _, file_name = write_face(target.parent, "identities", seed, person, index, size)
            writer.writerow([file_name, person])
    replace_file(target, table.getvalue().encode())
    return target
