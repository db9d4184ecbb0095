"""The command line: a thin layer over the library, one file per command."""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
from collections.abc import Sequence

from xtask_reg import __version__
from xtask_reg.cli import (
    check_data,
    configs,
    convert_landmarks,
    demo,
    doctor,
    export,
    import_vggface2,
    mmpose_tool,
    plot_source,
    predict,
    report,
    taps,
    wise_ft,
)
from xtask_reg.plain_text import printable

COMMANDS = (
    demo,
    *(convert_landmarks, check_data, import_vggface2),
    *(configs, doctor, taps),
    *(predict, export, report, plot_source, wise_ft, mmpose_tool),
)

EXTRAS = {
    **dict.fromkeys(("check-data", "convert-landmarks", "import-vggface2", "taps", "wise-ft"), "data"),
    **{"plot-source": "plots", "report": "report"},
}
"""The extra that each command needs; those not listed here need ``mmpose``."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    _let_all_be_printed()
    options = _parser().parse_args(arguments)
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated|Fail to import")
    status = _status_of(options)
    try:
        sys.stdout.flush()
    except OSError:  # already reported, or the reader is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def _status_of(options: argparse.Namespace) -> int:
    try:
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader stopped, as in `xtask-reg configs | head`
        return 0
    except ModuleNotFoundError as error:
        extra = EXTRAS.get(options.command, "mmpose")
        needed = "--no-deps mmpose==1.3.2" if error.name == "mmpose" else f"'xtask-reg[{extra}]'"
        print(f"xtask-reg {options.command}: {error}: pip install {needed}", file=sys.stderr)
        return 1
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        said = "\n".join(map(printable, str(error).split("\n")))
        print(f"xtask-reg {options.command}: {said}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _let_all_be_printed() -> None:
    """Escape characters that the encoding of the output lacks, and discard the output if it is closed."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="xtask-reg", description="Cross-task distillation regularizers for PyTorch.")
    parser.add_argument("--version", action="version", version=f"xtask-reg {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for command in COMMANDS:
        command.add_to(commands)
    return parser
