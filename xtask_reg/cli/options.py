"""Types of arguments that several commands share."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


def positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number above 0")
    return int(text)


def positive_number(text: str) -> float:
    """A finite number above 0."""
    with suppress(ValueError):
        if math.isfinite(float(text)) and float(text) > 0:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r}; expected a number above 0")


def comma_list(text: str) -> tuple[str, ...]:
    """Words separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def device(text: str) -> str:
    """A PyTorch device that exists here; for ``auto`` the first GPU, or the CPU if there is none."""
    import torch

    if text == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=text)
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        first = str(error).partition("\n")[0]
        raise ValueError(f"--device {text} cannot be used: {first} (expected auto, cpu, cuda or cuda:1)") from error
    return text


def by_name(runs: Sequence[Path]) -> dict[str, Path]:
    """The runs by the last part of their path, without a file's suffix."""
    named = {path.stem if path.is_file() else path.resolve().name: path for path in runs}
    if len(named) < len(runs):
        raise ValueError(f"runs need different names: {', '.join(map(str, runs))}")
    return named
