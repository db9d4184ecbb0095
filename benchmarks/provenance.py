"""The origin of results, which each result file must state."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "torchvision", "timm", "segmentation-models-pytorch", "mmengine", "mmpose", "numpy", "xtask-reg")


def provenance() -> dict[str, Any]:
    """Versions, commit and hardware of this run.

    Where files were copied without their Git repository, the commit is the environment variable ``GIT_COMMIT``.
    """
    installed = {package.name.replace("_", "-"): package.version for package in distributions()}
    return {
        **_state(),
        "python": platform.python_version(),
        "versions": {package: installed[package] for package in PACKAGES if package in installed},
        "hardware": {"cpu": _cpu(), "cores": os.cpu_count(), "gpu": _gpu()},
    }


def _state() -> dict[str, Any]:
    named = os.environ.get("GIT_COMMIT")
    if named:
        return {"commit": named}
    changes = bool(_git("status", "--porcelain", "--untracked-files=no"))
    return {"commit": _git("rev-parse", "HEAD"), "uncommitted_changes": changes}


def _git(*arguments: str) -> str:
    folder = Path(__file__).parent
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False).stdout.strip()


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _gpu() -> str | None:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
