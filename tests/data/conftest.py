"""Small photographs and landmark tables, converted and read back."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from xtask_reg.data.coco import check_landmark_file
from xtask_reg.data.conversion.convert import Summary, convert_landmarks
from xtask_reg.data.conversion.formats import LandmarkTable


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """``write(name, content)``: a file of text or bytes; returns its path."""

    def writer(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return writer


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    """``noise(width, height, seed)``: an image unlike that of any other seed."""

    def make(width: int, height: int, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)

    return make


@pytest.fixture
def save() -> Callable[[Path, np.ndarray], None]:
    """``save(path, image)``, with the folders of the path."""

    def write(path: Path, image: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())

    return write


@pytest.fixture
def table_of() -> Callable[..., LandmarkTable]:
    """``table_of(root, files, points, **fields)``: a table, all annotated unless the fields say otherwise."""

    def make(root: Path, files: list[str], points: Any, **fields: Any) -> LandmarkTable:
        points = np.array(points, dtype=float)
        names = tuple(f"p{index}" for index in range(points.shape[1]))
        fields = {"annotated": np.ones(points.shape[:2], dtype=bool), "names": names, **fields}
        return LandmarkTable(root, tuple(files), points, **fields)

    return make


@pytest.fixture
def convert() -> Callable[..., Summary]:
    """``convert(table, out, **options)``: by default without flip pairs, and all faces for training."""

    def run(table: LandmarkTable, out: Path, **options: Any) -> Summary:
        defaults = {"flip": range(len(table.names)), "splits": ["train"] * len(table.files)}
        return convert_landmarks(table, out, **{**defaults, **options})

    return run


@pytest.fixture
def read() -> Callable[[Path], tuple[list[dict[str, Any]], np.ndarray]]:
    """``read(path)``: the images and the points ``(N, K, 3)`` of a written file, after the check of its form."""

    def parse(path: Path) -> tuple[list[dict[str, Any]], np.ndarray]:
        content = check_landmark_file(path)
        points = np.array([entry["keypoints"] for entry in content["annotations"]])
        return content["images"], points.reshape(len(points), -1, 3)

    return parse


@pytest.fixture
def command_line() -> Callable[..., None]:
    """``command_line(module, name, *arguments)``: run the command of one module of ``xtask_reg.cli``."""

    def run(module: Any, name: str, *arguments: object) -> None:
        parser = argparse.ArgumentParser()
        module.add_to(parser.add_subparsers(dest="command"))
        options = parser.parse_args([name, *map(str, arguments)])
        options.run(options)

    return run
