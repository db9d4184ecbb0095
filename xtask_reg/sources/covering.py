"""Fills a module completely from the tensors of a file, or says what does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from xtask_reg.kinds import check_kind

_SHOWN = 10


def load_covering(
    module: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    prefix: str = "",
    ignore: str | Sequence[str] = (),
    name: str = "source checkpoint",
) -> None:
    """Copy ``weights`` into ``module``, or nothing at all unless they cover it.

    Every parameter and persistent buffer of the module must be there with its shape (``num_batches_tracked`` may be
    missing, as in old files). The module keeps its devices and dtypes.

    Args:
        module: what is filled.
        weights: the file's tensors by name.
        prefix: only names that start with it are read, without it (``"backbone."``).
        ignore: beginnings of names (after ``prefix``) that are left out: what the module has no part for (``"fc."``).
        name: what error messages call the weights, the file's path for example.

    Raises:
        ValueError: for missing, misshapen or extra entries, integers where floating point numbers belong (or the
            reverse), and modules without anything to fill; it suggests another prefix if that fits.
        TypeError: for a path, or a network, in the place of the weights.
    """
    check_kind(weights, Mapping, f"what {name!r} names", "tensors by name, load_weights(path) for instance")
    targets = _targets(module)
    entries = part_of(weights, prefix, ignore)
    if targets.keys().isdisjoint(entries):
        found = sorted({key.partition(".")[0] + "." for key in weights if "." in key})
        problems = [f"no entry matches; prefixes in the file: {_listed(map(repr, found))}"]
    else:
        problems = _problems(targets, entries)
    if problems:
        what = f"{name} (prefix {prefix!r}) does not fit {type(module).__name__}"
        raise ValueError("\n  ".join([what, *problems, *_suggestion(targets, weights, prefix)]))
    with torch.no_grad():
        for key in filter(entries.__contains__, targets):
            targets[key].copy_(entries[key])


def part_of(weights: Mapping[str, Tensor], prefix: str, ignore: str | Sequence[str]) -> dict[str, Tensor]:
    """The tensors under ``prefix``, which is cut from their names; without those that then begin with ``ignore``."""
    ignored = tuple(prefix + start for start in ([ignore] if isinstance(ignore, str) else ignore))
    names = [name for name in weights if name.startswith(prefix) and not name.startswith(ignored)]
    return {name.removeprefix(prefix): weights[name] for name in names}


def _targets(module: nn.Module) -> dict[str, Tensor]:
    persistent = module.state_dict(keep_vars=True).keys()
    targets: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    targets |= {key: buffer for key, buffer in module.named_buffers(remove_duplicate=False) if key in persistent}
    if not targets:
        raise ValueError(f"{type(module).__name__} has no parameters or persistent buffers to fill")
    if any(target.is_meta for target in targets.values()):
        raise ValueError(f"{type(module).__name__} is on the meta device; give it memory first, with module.to_empty()")
    return targets


def _optional(key: str) -> bool:
    return key.endswith("num_batches_tracked")


def _problems(targets: Mapping[str, Tensor], entries: Mapping[str, Tensor]) -> list[str]:
    pairs = [(key, target, entries[key]) for key, target in targets.items() if key in entries]
    found = {
        "missing": [key for key in targets if key not in entries and not _optional(key)],
        "of another shape": [
            f"{key}: {tuple(target.shape)} in the module, {tuple(entry.shape)} in the file"
            for key, target, entry in pairs
            if target.shape != entry.shape
        ],
        "of another kind of number": [
            f"{key}: {target.dtype} in the module, {entry.dtype} in the file"
            for key, target, entry in pairs
            if target.is_floating_point() != entry.is_floating_point()
        ],
        "extra (ignore=... skips those that begin with it)": [key for key in entries if key not in targets],
    }
    return [f"{len(keys)} {what}: {_listed(keys)}" for what, keys in found.items() if keys]


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "") if names else "none"


def _suggestion(targets: Mapping[str, Tensor], weights: Mapping[str, Tensor], prefix: str) -> list[str]:
    """Suggest another prefix under which every required entry is found with its shape."""
    shapes = {key: target.shape for key, target in targets.items() if not _optional(key)}
    probe = next(iter(shapes), "")
    heads = [key.removesuffix(probe) for key in weights if key.endswith(probe)]
    fitting = [
        head
        for head in heads
        if all(head + key in weights and weights[head + key].shape == shape for key, shape in shapes.items())
    ]
    return [f"prefix={_listed(map(repr, fitting))} would fit"] if fitting and prefix not in fitting else []
