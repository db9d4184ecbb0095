"""Files of weights: read without trusting them, written completely or not at all."""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TypeGuard

import torch
from torch import Tensor

from xtask_reg.sources.stored_archive import MAGIC, check_stored
from xtask_reg.whole_file import check_place, replace_file

_CONTAINERS = ("state_dict", "model")
SAFE_TORCH = "2.10"
"""The first version of torch without known vulnerabilities in ``torch.load(weights_only=True)``."""


def load_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint onto the CPU, by name, executing nothing that the file contains.

    ``.safetensors`` is read by safetensors, everything else by ``torch.load(weights_only=True)``, from torch 2.10 on:
    before, a file could corrupt the memory of who reads it (CVE-2026-24747). The state dict may be the whole file, or
    its entry ``state_dict`` or ``model``; then other entries (``meta``, ``optimizer``, ...) are ignored.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a regular file, is damaged, holds more than plain data, or has no state dict.
        RuntimeError: if the torch that is installed cannot read the file safely.
        ImportError: if safetensors is needed and not installed.
    """
    path = regular_file(path)
    is_safetensors = _is_safetensors(path)
    if not is_safetensors:
        _check_torch(path)
    read = _safetensors().torch.load_file if is_safetensors else _torch_load
    try:
        content = read(path)
    except OSError:
        raise
    except Exception as error:  # a hostile file can raise nearly anything
        raise ValueError(_unreadable(path, is_safetensors, error)) from error
    return _dense_tensors(_find_state_dict(content, path), path)


def save_weights(
    weights: Mapping[str, Tensor], path: str | os.PathLike[str], metadata: dict[str, str] | None = None
) -> None:
    """Write tensors, each with storage of its own, and string metadata to a ``.safetensors`` file.

    The file appears complete or not at all; an older one stays until then.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ValueError: if the path has another suffix, or the weights are not a mapping of names to tensors.
        ImportError: if safetensors is not installed.
    """
    target = check_target(path)
    if not _is_state_dict(weights) or "__metadata__" in weights:
        raise ValueError(f"cannot write {path}: expected tensors by name (not '__metadata__'), got {_outline(weights)}")
    tensors = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in weights.items()}
    content = _safetensors().torch.save(tensors, metadata)
    replace_file(target, content)


def check_target(path: str | os.PathLike[str]) -> Path:
    """The file that :func:`save_weights` would write, checked; for use before long work.

    Raises:
        FileNotFoundError, IsADirectoryError, OSError: as :func:`xtask_reg.whole_file.check_place` does.
        ValueError: if the path does not end in ``.safetensors``.
    """
    target = Path(path).resolve()
    if not _is_safetensors(target):
        raise ValueError(f"cannot write {path}: expected a name that ends in .safetensors")
    check_place(Path(path))
    return target


def load_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Metadata of a ``.safetensors`` file; empty for other files, which have none.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a regular file, or damaged.
        ImportError: if safetensors is needed and not installed.
    """
    path = regular_file(path)
    if not _is_safetensors(path):
        return {}
    safetensors = _safetensors()
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise ValueError(_unreadable(path, True, error)) from error


def regular_file(path: str | os.PathLike[str]) -> Path:
    """``path``, if it is a regular file (links are followed), not a folder, or a pipe or device that may never end.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a regular file.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}; check the path, or download the weights first")
    if not path.is_file():
        raise ValueError(f"{path} is not a regular file; name the checkpoint itself")
    return path


def _is_safetensors(path: Path) -> bool:
    return path.suffix.lower() == ".safetensors"


def _safetensors() -> ModuleType:
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError(
            "a .safetensors file needs the package safetensors: pip install safetensors, or xtask-reg[data]"
        ) from error
    return safetensors


def _check_torch(path: Path) -> None:
    if torch.__version__ < SAFE_TORCH:
        raise RuntimeError(
            f"{path} is not read with torch {torch.__version__}: before {SAFE_TORCH} its weights_only is vulnerable, "
            "CVE-2026-24747. Update torch, or use a .safetensors file; if you trust the file's origin, make one: "
            "save_weights(torch.load(path, weights_only=True), 'source.safetensors')"
        )


def _torch_load(path: Path) -> object:
    with path.open("rb") as file:
        is_archive = file.read(len(MAGIC)) == MAGIC
    if is_archive:
        check_stored(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _unreadable(path: Path, is_safetensors: bool, error: Exception) -> str:
    refused = re.search(r"\bGLOBAL (\S+)", str(error))  # torch's message for a class that weights_only does not allow
    if refused:
        return (
            f"{path} holds more than tensors ({refused[1]}), and reading it could execute arbitrary code. If you trust "
            "its origin, export the state dict alone: with torch.save(ckpt['state_dict'], ...), or to .safetensors"
        )
    expected = "a safetensors file" if is_safetensors else "a state dict written by torch.save"
    return (
        f"{path} cannot be read: expected {expected}, but it is empty, truncated, compressed, damaged or of another "
        "format; download or export it again"
    )


def _is_state_dict(content: object) -> TypeGuard[Mapping[str, Tensor]]:
    return (
        isinstance(content, Mapping)
        and len(content) > 0
        and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())
    )


def _find_state_dict(content: object, path: Path) -> Mapping[str, Tensor]:
    inner = [content.get(key) for key in _CONTAINERS] if isinstance(content, Mapping) else []
    for candidate in (*inner, content):
        if _is_state_dict(candidate):
            return candidate
    raise ValueError(
        f"{path} has no state dict: expected tensors by name, as the whole file or as its entry "
        f"{' or '.join(map(repr, _CONTAINERS))}, got {_outline(content)}; export the state dict alone"
    )


def _outline(content: object) -> str:
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    return f"entries {reprlib.repr({key: type(value).__name__ for key, value in content.items()})}"


def _dense_tensors(weights: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    for key, value in weights.items():
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            raise ValueError(f"{path}: {key} is a sparse, quantized or meta tensor; export it with dense values")
        if value.nbytes > value.untyped_storage().nbytes():
            raise ValueError(f"{path}: {key} {tuple(value.shape)} repeats stored values; export a .contiguous() copy")
    return {key: value.detach() for key, value in weights.items()}
