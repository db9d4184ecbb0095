"""Does the same lambda mean the same under other settings? A fixed weight against a balanced one.

CTD-ED and FT on synthetic faces: mean and sum of L_R, batches of 2 and 16, inputs of 64 and 128 px, several seeds,
always the same number of steps. The encoder's batch norms use the source's statistics: with batch statistics, a batch
of two gives another network than one of sixteen, as --statistics batch shows. The comparison is of the student's
similarity to its source (cosine of the last features on test images, in eval mode) and of the mean error, as a fraction
of the input's side.

python benchmarks/balanced_weight.py            # about 40 minutes on 2 cores; continues where it was stopped
python benchmarks/balanced_weight.py --report   # tables from the raw results alone
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from mmengine.config import DictAction
from mmengine.runner import Runner
from mmpose.registry import MODELS
from provenance import provenance
from result_lines import append
from rich.progress import track
from run_log import logged

from xtask_reg.data import synthetic
from xtask_reg.demo.source import train_source
from xtask_reg.integrations.mmpose.tools import read_config, train_and_test
from xtask_reg.integrations.mmpose_files import configs
from xtask_reg.landmarks.predictions import read_predictions
from xtask_reg.measuring import mean_cosine
from xtask_reg.measuring.plots import plot_measurements
from xtask_reg.measuring.run_log import read_log

STEPS, IMAGES, RATIO, STRIDE = 144, 48, 0.5, 4
PEOPLE = {"train": range(1000, 1000 + IMAGES), "val": range(2000, 2008), "test": range(3000, 3060)}
SETTINGS = {"reduction": ("mean", "sum"), "batch": (2, 16), "size": (64, 128)}
WEIGHTS = ("FT", "fixed", "balanced")
RESULTS = Path(__file__).parent / "results" / "balanced_weight.jsonl"
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "source_left.png"


def cells(seeds: int, statistics: str) -> list[dict[str, Any]]:
    """All runs; FT, which has no lambda, only with the mean: Adam ignores the scale of a loss."""
    names = ("statistics", "seed", *SETTINGS, "weight")
    values = itertools.product([statistics], range(seeds), *SETTINGS.values(), WEIGHTS)
    every = [dict(zip(names, cell)) for cell in values]
    return [cell for cell in every if not (cell["weight"] == "FT" and cell["reduction"] == "sum")]


def options(cell: dict[str, Any], out: Path) -> dict[str, Any]:
    """The options of tools/train.py besides the demonstration's config."""
    side, epochs = cell["size"], STEPS * cell["batch"] // IMAGES
    chosen = {
        **{f"{split}_dataloader.dataset.data_root": out / "landmarks" for split in PEOPLE},
        **{f"{split}_dataloader.num_workers": 0 for split in PEOPLE},
        "val_dataloader.persistent_workers": False,
        "train_dataloader.dataset.pipeline.4.input_size": f"{side},{side}",
        "val_dataloader.dataset.pipeline.2.input_size": f"{side},{side}",
        "test_dataloader.dataset.pipeline.2.input_size": f"{side},{side}",
        "train_dataloader.batch_size": cell["batch"],
        "train_cfg.val_interval": epochs,
        "default_hooks.checkpoint.interval": epochs,
        "default_hooks.logger.interval": 1,
        "model.backbone.init_cfg.checkpoint": out / "source.safetensors",
        "model.backbone.norm_eval": cell["statistics"] == "source",
        "model.head.loss.reduction": cell["reduction"],
        "randomness.seed": cell["seed"],
    }
    if cell["weight"] != "FT":
        chosen |= {"model.monitor.every": 10}
    if cell["weight"] == "balanced":
        weight = {"_delete_": True, "type": "Balanced", "ratio": RATIO}
        chosen |= {f"model.terms.0.weight.{key}": value for key, value in weight.items()}
    return chosen


@torch.no_grad()
def source_cosine(config_file: Path, chosen: dict[str, Any], checkpoint: Path) -> float:
    """Mean cosine of the last encoder features of the trained student and the source, over the test images."""
    config = read_config(config_file)
    config.merge_from_dict({key: DictAction._parse_iterable(str(value)) for key, value in chosen.items()})
    source, student = MODELS.build(config.model).eval(), MODELS.build(config.model).eval()
    source.init_weights()
    student.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"])
    cosines: list[float] = []
    for batch in Runner.build_dataloader(config.test_dataloader):
        images = student.data_preprocessor(batch)["inputs"]
        cosines += [
            mean_cosine(*pair).item() for pair in zip(*(m.backbone(images)[-1][:, None] for m in (student, source)))
        ]
    return sum(cosines) / len(cosines)


def run(cell: dict[str, Any], out: Path) -> dict[str, Any]:
    """Train and test one cell."""
    method = "ft" if cell["weight"] == "FT" else "ctd-ed"
    config, chosen = configs() / "demo" / f"td-hm_res18_{method}_synthetic-128x128.py", options(cell, out)
    epochs = STEPS * cell["batch"] // IMAGES
    folder = out / "-".join(map(str, cell.values()))
    train_and_test(config, folder, chosen, epochs, threads=1)
    error = float(read_predictions(folder / "predictions.json").errors.mean()) * STRIDE / cell["size"]
    cosine = source_cosine(config, chosen, folder / f"epoch_{epochs}.pth")
    result = {**cell, "steps": STEPS, "error_percent": 100 * error, "cosine": cosine}
    if cell["weight"] != "FT":
        ratios, weights = logged(folder, "ratio/ed"), logged(folder, "weight/ed")
        result |= {"mean_ratio": sum(ratios) / len(ratios), "last_weight": weights[-1]}
    return result


def prepare(out: Path) -> None:
    """Make the faces and the source network."""
    source = out / "source.safetensors"
    if source.exists():
        return
    synthetic.write_identity_set(out / "identities", range(40), 20, 128)
    for split, people in PEOPLE.items():
        synthetic.write_landmark_set(out / "landmarks", people, 1, 128, split=split)
    model = read_config(configs() / "demo" / "td-hm_res18_ctd-com_synthetic-128x128.py").model
    train_source(out / "identities" / "identities.csv", source, model, 5, 8, lambda loss: None)


def by_setting(runs: pd.DataFrame) -> str:
    """Cosine and error in each setting, mean and SD over the seeds, as a Markdown table."""
    lines = [
        "| input | batch | L_R | weight | cosine to the source | error, % of the side | mean ratio |",
        "|" + "---|" * 7,
    ]
    for (size, batch, reduction, weight), same in runs.groupby(["size", "batch", "reduction", "weight"]):
        cosine, error = (f"{same[key].mean():.3f} ± {same[key].std():.3f}" for key in ("cosine", "error_percent"))
        ratio = "" if weight == "FT" else f"{same.mean_ratio.mean():.2g}"
        lines.append(f"| {size} | {batch} | {reduction} | {weight} | {cosine} | {error} | {ratio} |")
    return "\n".join(lines)


def changes(runs: pd.DataFrame) -> str:
    """The effect of changing one setting, and of another seed, as a Markdown table.

    For a setting it is the absolute change of the mean over the seeds, averaged over the other settings; for seeds the
    expected difference between two of them, 2 / sqrt(pi) times the pooled standard deviation.
    """
    head = [f"{key} {values[0]}, {values[1]}" for key, values in SETTINGS.items()]
    lines = [f"| weight | measure | {' | '.join(head)} | another seed |", "|" + "---|" * (len(head) + 3)]
    for (weight, own), measure in itertools.product(runs.groupby("weight"), ("cosine", "error_percent")):
        means = own.groupby([*SETTINGS])[measure].mean()
        moved = []
        for key, (one, other) in SETTINGS.items():
            pair = [means.xs(each, level=key) if each in own[key].values else None for each in (one, other)]
            moved.append(f"{(pair[0] - pair[1]).abs().mean():.3f}" if pair[1] is not None else "")
        spread = math.sqrt(own.groupby([*SETTINGS])[measure].var().mean()) * 2 / math.sqrt(math.pi)
        lines.append(f"| {weight} | {measure.replace('_percent', ', %')} | {' | '.join(moved)} | {spread:.3f} |")
    return "\n".join(lines)


def draw(out: Path) -> None:
    """The figure of docs/weights.md: the similarity to the source in two runs."""
    shown = {"statistics": "source", "seed": 0, "reduction": "mean", "batch": 16, "size": 128}
    names = {weight: "-".join(map(str, [*shown.values(), weight])) for weight in ("fixed", "balanced")}
    runs = {f"{weight} weight": read_log(out / name) for weight, name in names.items()}
    plot_measurements(runs).savefig(PICTURE, dpi=110)


def main() -> None:
    """Run the missing cells, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/balanced-weight"), help="folder for the runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--statistics", choices=("source", "batch"), default="source", help="what the encoder's batch norms use"
    )
    parser.add_argument("--at-once", type=int, default=os.cpu_count())
    parser.add_argument("--report", action="store_true", help="only print the report")
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    if not arguments.report:
        prepare(arguments.out)
        done = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
        grid = cells(arguments.seeds, arguments.statistics)
        wanted = [cell for cell in grid if not any(cell.items() <= each.items() for each in done)]
        made_by = provenance()
        with ThreadPoolExecutor(arguments.at_once) as pool:
            runs = pool.map(lambda cell: run(cell, arguments.out), wanted)
            for result in track(runs, "runs", total=len(wanted)):
                append(RESULTS, {**result, **made_by})
        draw(arguments.out)
    for statistics, runs in pd.read_json(RESULTS, lines=True).groupby("statistics"):
        print(
            f"\nThe encoder's batch norms use the {statistics}'s statistics",
            by_setting(runs),
            changes(runs),
            sep="\n\n",
        )


if __name__ == "__main__":
    main()
