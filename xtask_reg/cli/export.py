"""``xtask-reg export``."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from pathlib import Path


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "export", help="write a trained student as .safetensors, ONNX or torch.export, run it and compare",
        description="Writes the plain student, without teacher and connectors; each file is read again, run on random "
        "images, and kept only if it gives the heatmaps of the checkpoint.",
    )  # fmt: skip
    parser.add_argument("config", type=Path, metavar="CONFIG", help="the config of the run, as in its work folder")
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="checkpoint of that run; no teacher needed")
    parser.add_argument("out", type=Path, metavar="OUT.safetensors", help="what to write")
    parser.add_argument("--onnx", action="store_true", help="also write OUT.onnx: RGB pixels to heatmaps")
    parser.add_argument("--torch-export", action="store_true", help="also write OUT.pt2, for torch.export.load")
    parser.add_argument("--json", action="store_true", help="print one JSON object: the difference of each file")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from xtask_reg.sources.weights import check_target
    from xtask_reg.whole_file import check_place, whole_file

    check_target(options.out)
    files = [options.out, options.out.with_suffix(".onnx"), options.out.with_suffix(".pt2")]
    files = [file for file, wanted in zip(files, (True, options.onnx, options.torch_export)) if wanted]
    for file in files:
        check_place(file)

    from xtask_reg.integrations.mmpose.export import save_onnx, save_student, save_torch_export
    from xtask_reg.integrations.mmpose.student import load_student

    model = load_student(options.config, options.checkpoint)
    differences: dict[str, float] = {}
    with ExitStack() as stack:
        for file in files:
            part = stack.enter_context(whole_file(file))
            try:
                if file.suffix == ".onnx":
                    differences[str(file)] = save_onnx(model, part)
                elif file.suffix == ".pt2":
                    differences[str(file)] = save_torch_export(model, part)
                else:
                    differences[str(file)] = save_student(model, options.config, part)
            except RuntimeError as error:
                raise RuntimeError(f"{file}: {error}") from error
    if options.json:
        print(json.dumps(differences))
        return
    for file, difference in differences.items():
        print(f"{file}: heatmaps differ from the checkpoint's by at most {difference:.1e} of their largest value")
