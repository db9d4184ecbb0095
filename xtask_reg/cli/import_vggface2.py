"""``xtask-reg import-vggface2``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("import-vggface2", help="convert a published VGGFace2 ResNet-50 to .safetensors")
    parser.add_argument("file", type=Path, help="resnet50_ft_weight.pkl, resnet50_ft_dag.pth, or the _scratch_ ones")
    parser.add_argument("out", type=Path, metavar="OUT.safetensors", help="what to write: torchvision's names, RGB")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from xtask_reg.sources.vggface2 import import_vggface2

    found = import_vggface2(options.file, options.out)
    if options.json:
        print(json.dumps({"read": str(options.file), "written": str(options.out), **found}))
        return
    print(f"read     {options.file}: {found['format']}, {found['tensors']} tensors, {found['num_classes']} classes")
    print(f"sha256   {found['sha256']}")
    print(f"written  {options.out}: channels {found['channels']}, mean {found['mean']}, 0..{found['value_range']}")
