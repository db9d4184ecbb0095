"""All cases of the folder ``references``, the marks that run a test over them, and their input."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from case import Case, Shape
from torch import Tensor

DEVICES = ("cpu", *(["cuda"] if torch.cuda.is_available() else []))


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"references.{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REFERENCES = sorted((Path(__file__).parent / "references").glob("*.py"))
CASES: list[Case] = [case for path in REFERENCES for case in load(path).CASES]


def name_of(case: Case, options: dict[str, Any]) -> str:
    return "-".join([case.id, *(f"{option}={value}" for option, value in options.items())])


def each(names: str, rows: Iterable[tuple[Case, Any]], name: Callable[[Case, Any], str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(names, [pytest.param(*row, id=name(*row)) for row in rows])


def over_cases(kept: Callable[[Case], bool] = lambda case: True) -> pytest.MarkDecorator:
    """Run a test with every case that is ``kept``."""
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES if kept(case)])


def over_alike(kept: Callable[[Case], bool] = lambda case: True) -> pytest.MarkDecorator:
    """Run a test with every case that is ``kept``, and all options for which its bounds hold."""
    rows = [(case, options) for case in CASES if kept(case) for options in case.alike]
    return each("case, options", rows, name_of)


def over_options() -> pytest.MarkDecorator:
    """Run a test with every case and each of its options."""
    return each("case, options", [(case, options) for case in CASES for options in case.options], name_of)


def over_values(of: Callable[[Case], Sequence[Any]]) -> pytest.MarkDecorator:
    """Run a test with every case and each value that ``of`` gives for it."""
    rows = [(case, value) for case in CASES for value in of(case)]
    return each("case, value", rows, lambda case, value: f"{case.id}-{value}")


def pair(case: Case, shape: Shape | None = None, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Random student (with gradient) and teacher."""
    shape = case.shapes[0] if shape is None else shape
    return different(shape, shape, dtype)


def different(student: Shape, teacher: Shape, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Random student (with gradient) and teacher of different shapes."""
    rng = torch.Generator().manual_seed(1)
    made = [2 * torch.randn(shape, dtype=torch.float64, generator=rng) for shape in (student, teacher)]
    return made[0].to(dtype).requires_grad_(), made[1].to(dtype)


def extremes(student: Tensor, teacher: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Input that makes losses overflow, divide by 0 or lose their gradient; made from float32 tensors."""
    first_is_zero = torch.ones(len(student), *[1] * (student.ndim - 1))
    first_is_zero[0] = 0
    return {
        "zeros": (torch.zeros_like(student), torch.zeros_like(teacher)),
        "zero student": (torch.zeros_like(student), teacher),
        "zero teacher": (student, torch.zeros_like(teacher)),
        "one zero image": (student * first_is_zero, teacher),
        "one image": (student[:1], teacher[:1]),
        "one image many times": (student[:1].expand_as(student), teacher[:1].expand_as(teacher)),
        "constant": (torch.full_like(student, 3), torch.full_like(teacher, 0.1)),
        "identical": (teacher, teacher),
        "opposite": (-teacher, teacher),
        "1e4": (1e4 * student, -1e4 * teacher),
        "fp16 largest": ((65504 * student.sign()).half(), (65504 * teacher.sign()).half()),
        "fp16 largest everywhere": (torch.full_like(student, 65504).half(), torch.full_like(teacher, -65504).half()),
        "fp16 smallest": ((student * 6e-8).half(), teacher.half()),
        "tiny": (1e-30 * student, 1e-30 * teacher),
    }


EXTREMES = list(extremes(torch.ones(2, 1), torch.ones(2, 1)))
