"""``xtask-reg convert-landmarks``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from xtask_reg.cli.options import comma_list, positive_number

if TYPE_CHECKING:
    from xtask_reg.data.conversion.convert import Summary
    from xtask_reg.data.conversion.formats import LandmarkTable

FORMAT_OF_SUFFIX = {".csv": "csv", ".pts": "pts", ".txt": "list", ".lst": "list", ".list": "list"}


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "convert-landmarks", help="cut out annotated faces and write them as COCO-style training, val and test files"
    )
    parser.add_argument("annotation", type=Path, help="CSV file, annotation list, .pts file, or folder of .pts files")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; must not exist, or be empty")
    parser.add_argument("--format", choices=("csv", "pts", "list"), help="annotation format (default: by suffix)")
    parser.add_argument("--images", type=Path, help="folder of the images (default: that of the annotation)")
    parser.add_argument("--points", type=int, help="landmarks per face in a list, if neither 68 nor 98")
    parser.add_argument(
        "--first-pixel", type=float, choices=(0, 0.5, 1),
        help="coordinate that the annotation gives the centre of the top left pixel (default: 1 for pts, otherwise 0)",
    )  # fmt: skip
    parser.add_argument(
        "--flip-pairs", metavar="FILE",
        help="CSV file with the names of one left and one right landmark per line, or ibug68 or wflw98 "
        "(default: ibug68 or wflw98 for lists and .pts files with 68 or 98 landmarks)",
    )  # fmt: skip
    parser.add_argument(
        "--mirror", type=comma_list, default=[], metavar="NAME,NAME",
        help="landmarks that are annotated on one side only: each gets a flip partner NAME_mirrored",
    )  # fmt: skip
    parser.add_argument("--persons", type=Path, help="CSV file with the columns file and person")
    parser.add_argument(
        "--split", type=float, nargs=3, metavar=("TRAIN", "VAL", "TEST"),
        help="fractions of the persons (default: 0.7 0.1 0.2)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="random seed of the split (default: %(default)s)")
    parser.add_argument("--size", type=int, default=256, help="width and height of the crops (default: %(default)s)")
    parser.add_argument(
        "--crop", choices=("landmarks", "whole"), default="landmarks",
        help="a square around the landmarks, or around the whole image (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--margin", type=float,
        help="space around the landmarks on each side, as a fraction of their extent (default: 0.25)",
    )  # fmt: skip
    parser.add_argument(
        "--mm-per-pixel", type=positive_number, metavar="MM",
        help="pixel size, the same for all images; if it differs, use a column mm_per_pixel in the CSV file instead",
    )  # fmt: skip
    parser.add_argument(
        "--outside", choices=("error", "clip", "mask"), default="error",
        help="landmarks outside their image: stop with an error, clip to its border, or mask as not annotated "
        "(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from dataclasses import asdict, replace

    from xtask_reg.data.conversion.convert import convert_landmarks
    from xtask_reg.data.conversion.flip_pairs import with_mirrored
    from xtask_reg.data.conversion.splits import read_persons, split_by_person

    style = options.format or _guess(options.annotation)
    table = _read(options, style).labelled()
    if options.persons:
        if table.persons is not None:
            raise ValueError(f"{options.annotation} has a column 'person': remove it or leave out --persons")
        table = replace(table, persons=read_persons(options.persons, table.files))
    if options.mm_per_pixel is not None:
        if table.mm_per_pixel is not None:
            raise ValueError(f"{options.annotation} has a column 'mm_per_pixel': remove it or leave out --mm-per-pixel")
        table = replace(table, mm_per_pixel=(options.mm_per_pixel,) * len(table.files))
    if table.splits is not None and options.split:
        raise ValueError(f"{options.annotation} has a column 'split': remove it or leave out --split")
    table, flip = with_mirrored(table, _flip(options.flip_pairs, style, table.names), options.mirror)
    fractions = options.split or (0.7, 0.1, 0.2)
    splits = table.splits or split_by_person(table.persons or table.files, fractions, options.seed)
    summary = convert_landmarks(
        table, options.out, flip, splits, options.size, outside=options.outside, crop=options.crop, **_margin(options)
    )
    if options.json:
        print(json.dumps({"out": str(options.out), **asdict(summary), "flip": flip}))
    else:
        _print(summary, table, flip, options.out)


def _margin(options: argparse.Namespace) -> dict[str, float]:
    if options.margin is None:
        return {}
    if options.crop == "whole":
        raise ValueError("--margin applies to crops around the landmarks only: leave it out with --crop whole")
    return {"margin": options.margin}


def _flip(given: str | None, style: str, names: tuple[str, ...]) -> tuple[int, ...]:
    from xtask_reg.data.conversion.flip_pairs import BUILT_IN, built_in_flip, read_flip_pairs

    if given in BUILT_IN:
        return built_in_flip(given, len(names))
    if given:
        return read_flip_pairs(Path(given), names)
    usual = [flip for flip in BUILT_IN.values() if len(flip) == len(names) and style != "csv"]
    return usual[0] if usual else tuple(range(len(names)))


def _guess(annotation: Path) -> str:
    if annotation.is_dir():
        return "pts"
    if annotation.suffix.lower() not in FORMAT_OF_SUFFIX:
        raise ValueError(f"{annotation}: the suffix does not identify the format; set --format to csv, pts or list")
    return FORMAT_OF_SUFFIX[annotation.suffix.lower()]


def _read(options: argparse.Namespace, style: str) -> LandmarkTable:
    from xtask_reg.data.conversion.formats import read_csv, read_list, read_pts

    origin = {} if options.first_pixel is None else {"first_pixel": options.first_pixel}
    if style == "list":
        return read_list(options.annotation, options.images, options.points, **origin)
    if options.points is not None:
        raise ValueError("--points is only for the format list: CSV and .pts files state their number of points")
    reader = read_csv if style == "csv" else read_pts
    return reader(options.annotation, options.images, **origin)


def _print(summary: Summary, table: LandmarkTable, flip: tuple[int, ...], out: Path) -> None:
    from xtask_reg.plain_text import printable

    names = printable(", ".join(summary.names))
    print(f"{out}: {sum(summary.images.values())} images, {len(summary.names)} landmarks: {names}")
    for split, count in summary.images.items():
        of = f"images of {summary.persons[split]} persons" if count else f"images: no {split}.json is written"
        print(f"  {split:<5} {count:5} {of}")
    print(f"  {summary.unannotated} points are not annotated")
    pairs = sum(index != mirrored for index, mirrored in enumerate(flip)) // 2
    print(f"  {pairs} flip pairs" + ("" if pairs else ": a flip swaps no landmarks (see --flip-pairs and --mirror)"))
    if table.persons is None:
        print("  persons are unknown: each image counts as a separate person (see --persons)")
    for note in summary.notes:
        print(f"  note: {printable(note)}")
