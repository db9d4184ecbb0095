"""``xtask-reg check-data``."""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("check-data", help="find what is wrong in COCO-style landmark files and their images")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE.json", help="the files of one data set, together")
    parser.add_argument("--images", type=Path, help="folder of the images (default: each file's own)")
    parser.add_argument("--picture", type=Path, metavar="OUT.png", help="draw some images with their landmarks")
    parser.add_argument("--count", type=int, default=12, help="number of images in the picture (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from xtask_reg.data.checks.check import check_data
    from xtask_reg.plain_text import printable
    from xtask_reg.whole_file import check_place

    if options.picture:
        if options.picture.suffix.lower() != ".png":
            raise ValueError(f"--picture {options.picture}: expected a name that ends in .png")
        check_place(options.picture)
    findings = sorted(check_data(options.files, options.images), key=lambda finding: finding.severity)
    errors = sum(finding.severity == "error" for finding in findings)
    counts = {"errors": errors, "warnings": len(findings) - errors, "files": len(options.files)}
    with suppress(BrokenPipeError):  # the exit status counts even if nobody reads the rest
        if options.json:
            print(json.dumps({**counts, "findings": [asdict(finding) for finding in findings]}, default=str))
        else:
            for finding in findings:
                print(printable(f"{finding.severity:<7}  {finding.file}: {finding.message}"))
    if options.picture:
        _draw(options)
    found = ", ".join(f"{what}: {count}" for what, count in counts.items())
    if errors:
        raise ValueError(found)
    if not options.json:
        print(found)


def _draw(options: argparse.Namespace) -> None:
    from xtask_reg.data.checks.contact_sheet import contact_sheet
    from xtask_reg.whole_file import whole_file

    with whole_file(options.picture) as part:
        contact_sheet(options.files, options.images, options.count).savefig(part, format="png")
    if not options.json:
        print(f"{options.picture}: at most {options.count} images with their landmarks")
