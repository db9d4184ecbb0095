"""Tables of the results of ``benchmarks/face_parts.py``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from grid.statistics import Estimate, bootstrap

METHODS = ("FT", "CTD-ED")


def class_means(run: dict[str, Any]) -> np.ndarray:
    """Dice of each class, averaged over the test images that have it in the prediction or the truth."""
    return np.nanmean(np.array(run["dice"], float), axis=0)


def markdown_table(results: dict[str, Any]) -> str:
    """Classes by method and seed; the last row is the mean over all classes but the background."""
    runs = sorted(results["runs"], key=lambda run: (METHODS.index(run["method"]), run["seed"]))
    names = [f"{run['method']}, seed {run['seed']}" for run in runs]
    means = np.stack([class_means(run) for run in runs], axis=1)
    rows = [*zip(results["classes"], means), ("mean but background", means[1:].mean(axis=0))]
    lines = [f"| class | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(f'{value:.3f}' for value in values)} |" for name, values in rows]
    return "\n".join(lines)


def difference(results: dict[str, Any]) -> Estimate:
    """CTD-ED's Dice minus FT's on the same image after the same seed, mean over the classes but the background."""
    rows = [
        {"method": run["method"], "seed": run["seed"], "image": image, "dice": np.nanmean(np.array(dice, float)[1:])}
        for run in results["runs"]
        for image, dice in enumerate(run["dice"])
    ]
    by_method = pd.DataFrame(rows).pivot(index=["seed", "image"], columns="method", values="dice")
    differences = (by_method["CTD-ED"] - by_method["FT"]).rename("difference").reset_index().assign(fold=0)
    return bootstrap(differences, "difference")


def sentence(results: dict[str, Any]) -> str:
    """The difference, with its interval over seeds and images."""
    found = difference(results)
    seeds = len({run["seed"] for run in results["runs"]})
    return (
        f"CTD-ED minus FT, Dice of the classes that an image has but for the background, then mean over the images: "
        f"{found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f}) over {seeds} seeds."
    )
