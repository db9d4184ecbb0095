"""``xtask-reg check-data``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("check-data", help="find what is wrong in COCO-style landmark files and their images")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE.json", help="the files of one data set, together")
    parser.add_argument("--images", type=Path, help="folder of the images (default: each file's own)")
    parser.add_argument("--picture", type=Path, metavar="OUT.png", help="draw some images with their landmarks")
    parser.add_argument("--count", type=int, default=12, help="number of images in the picture (default: %(default)s)")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from xtask_reg.data.checks.check import check_data

    if options.picture and not options.picture.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder for {options.picture}; create it first")
    findings = check_data(options.files, options.images)
    for finding in sorted(findings, key=lambda finding: finding.severity):
        print(f"{finding.severity:<7}  {finding.file}: {finding.message}")
    errors = sum(finding.severity == "error" for finding in findings)
    found = f"errors: {errors}, warnings: {len(findings) - errors}, files: {len(options.files)}"
    if options.picture:
        _draw(options)
    if errors:
        raise ValueError(found)
    print(found)


def _draw(options: argparse.Namespace) -> None:
    from xtask_reg.data.checks.contact_sheet import contact_sheet

    part = options.picture.with_name(f".{options.picture.name}.part")
    try:
        contact_sheet(options.files, options.images, options.count).savefig(part, format="png")
        os.replace(part, options.picture)
    finally:
        part.unlink(missing_ok=True)
    print(f"{options.picture}: {options.count} images at most, with their landmarks")
