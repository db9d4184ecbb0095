"""``xtask-reg wise-ft``."""

from __future__ import annotations

import argparse
import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xtask_reg.cli.options import comma_list

if TYPE_CHECKING:
    from torch import Tensor


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("wise-ft", help="interpolate between a fine-tuned encoder and its source")
    parser.add_argument("tuned", type=Path, metavar="TUNED", help="MMEngine checkpoint, state dict or .safetensors")
    parser.add_argument("source", type=Path, metavar="SOURCE", help="the weights that the encoder started from")
    parser.add_argument("--out", type=Path, required=True, help="new checkpoint; must not exist")
    parser.add_argument(
        "--alpha", type=_fraction, nargs="+", default=[0.5],
        help="from 0 (the source) to 1 (the tuned encoder); several write OUT_alpha0.25.pth and so on "
        "(default: 0.5)",
    )  # fmt: skip
    parser.add_argument(
        "--prefix", default="backbone.", help="name prefix of the encoder in TUNED (default: %(default)s)"
    )
    parser.add_argument("--source-prefix", default="", help="name prefix of the encoder in SOURCE (default: none)")
    parser.add_argument(
        "--ignore", type=comma_list, default=("fc.",), metavar="NAME,NAME",
        help="skip the tensors in SOURCE whose names start with these, after the prefix (default: fc.)",
    )  # fmt: skip
    parser.set_defaults(run=_run)


def _fraction(text: str) -> float:
    with suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r}; expected a number from 0 to 1")


def _run(options: argparse.Namespace) -> None:
    from xtask_reg.finetune import interpolate
    from xtask_reg.integrations.checkpoint_meta import checkpoint_meta
    from xtask_reg.sources import load_metadata, load_weights

    with suppress(ImportError):  # without MMEngine, files that contain only tensors can be read
        import xtask_reg.integrations.mmpose_compat  # noqa: F401

    alphas = list(dict.fromkeys(options.alpha))
    files = {alpha: _target(options.out, alpha if len(alphas) > 1 else None) for alpha in alphas}
    tuned, source = load_weights(options.tuned), load_weights(options.source)
    meta, stated = checkpoint_meta(options.tuned), load_metadata(options.tuned)
    encoder = _part(tuned, options.prefix, (), options.tuned)
    start = _part(source, options.source_prefix, options.ignore, options.source)
    for alpha, file in files.items():
        try:
            between = interpolate(start, encoder, alpha)
        except ValueError as error:
            raise ValueError(f"{options.source} and {options.tuned}: {error}; see --prefix and --ignore") from error
        mixed = {**tuned, **{options.prefix + name: value for name, value in between.items()}}
        _write(mixed, meta, stated, file)
        print(f"{file}: {len(between)} tensors of the encoder at alpha {alpha:g}, {len(tuned) - len(between)} as tuned")


def _target(out: Path, alpha: float | None) -> Path:
    from xtask_reg.whole_file import check_place

    file = out if alpha is None else out.with_name(f"{out.stem}_alpha{alpha}{out.suffix}")
    check_place(file)
    if file.exists():
        raise FileExistsError(f"{file} exists; remove it, or choose another --out")
    return file


def _part(weights: Mapping[str, Tensor], prefix: str, ignore: Sequence[str], file: Path) -> dict[str, Tensor]:
    from xtask_reg.sources.covering import part_of

    part = part_of(weights, prefix, ignore)
    if not part:
        beginnings = sorted({name.partition(".")[0] + "." for name in weights})
        raise ValueError(f"{file} has no tensor under {prefix!r}; its names begin with {', '.join(beginnings[:10])}")
    return part


def _write(weights: dict[str, Tensor], meta: dict[str, Any], stated: dict[str, str], file: Path) -> None:
    """Write the weights with the metadata of the kind of file: ``stated`` for safetensors, else ``meta``."""
    import torch

    from xtask_reg.sources import save_weights
    from xtask_reg.whole_file import replace_file

    if file.suffix.lower() == ".safetensors":
        return save_weights(weights, file, stated or None)
    content = io.BytesIO()  # given a path, torch.save does not report a full disk
    torch.save({**({"meta": meta} if meta else {}), "state_dict": weights}, content)
    replace_file(file, content.getbuffer())
