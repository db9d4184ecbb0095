"""Finds MMPose's tools and this library's configs for them, without importing MMPose."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import xtask_reg


def configs() -> Path:
    """The folder of the MMPose configs: inside the installed package, or in the repository.

    Raises:
        FileNotFoundError: if it is in neither place.
    """
    package = Path(xtask_reg.__file__).parent
    folders = (package / "configs" / "mmpose", package.parent / "configs" / "mmpose")
    for folder in folders:
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"no configs in {' or '.join(map(str, folders))}")


def tool(name: str) -> Path:
    """MMPose's ``tools/<name>.py`` (``train`` or ``test``) in its package.

    Raises:
        ModuleNotFoundError: if MMPose is not installed.
        FileNotFoundError: if it is installed without its tools.
    """
    spec = importlib.util.find_spec("mmpose")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named 'mmpose'", name="mmpose")
    path = Path(spec.origin).parent / ".mim" / "tools" / f"{name}.py"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: use tools/{name}.py of your copy of MMPose")
    return path
