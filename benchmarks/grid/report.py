"""Tables of the grid, from its result files alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from grid.cell import BATCH, cell_of
from grid.methods import METHODS
from grid.results import Results
from grid.statistics import Estimate, bootstrap, paired
from grid.tuning import scores
from xtask_reg.landmarks import LandmarkScores, score_images

PLAIN = "FT"
TRAINING = ["dataset", "source", "label", "n_labels", "fold", "seed", "steps", "batch", "rate"]


def label(line: Mapping[str, Any]) -> str:
    """What a method is called in tables and figures."""
    teacher = ", random teacher" if line["teacher"] == "random" else ""
    source = "" if line["source"] == "dlib" else f", {line['source']}"
    return line["method"] + teacher + source


def reference_of(name: str, source: str) -> str:
    """What a method is compared with: FT from the same source; and this with FT."""
    plain = label({"method": PLAIN, "teacher": "none", "source": source})
    return PLAIN if name == plain else plain


def lines(results: Results, **wanted: Collection[Any]) -> pd.DataFrame:
    """One row for each cell.

    Args:
        results: of the grid.
        **wanted: values of which the cells must have one, such as ``n_labels=[10, 20]``.
    """
    usual = {"batch": BATCH, "rate": 1}
    every = [
        {**line, "label": label(line), "cell": cell_of(line).folder}
        | {key: line["setting"].get(key, value) for key, value in usual.items()}
        for line in results.lines
    ]
    return pd.DataFrame([line for line in every if all(line[key] in values for key, values in wanted.items())])


def images(results: Results, **wanted: Collection[Any]) -> pd.DataFrame:
    """One row for each test image of each cell, with the columns :data:`TRAINING` of its cell; see :func:`lines`."""
    return results.errors.merge(lines(results, **wanted)[["cell", *TRAINING]], on="cell")


def scores_of(rows: pd.DataFrame) -> LandmarkScores:
    """ME, SD, FR and AUC over all test images."""
    return score_images(rows.error.to_numpy(), reduction="mean_distance", space="heatmap")


def differences(rows: pd.DataFrame) -> dict[tuple[str, int], Estimate]:
    """By method and number of labels, the paired difference to its :func:`reference_of` in percent of that one's error.

    Only folds and seeds that both have count.

    Raises:
        ValueError: if the two were not tested on the same images.
    """
    found = {}
    for (name, source, n_labels), own in rows.groupby(["label", "source", "n_labels"], sort=False):
        other = rows[(rows.label == reference_of(name, source)) & (rows.n_labels == n_labels)]
        shared = set(zip(own.fold, own.seed)) & set(zip(other.fold, other.seed))
        own, other = (each[[pair in shared for pair in zip(each.fold, each.seed)]] for each in (own, other))
        if name == PLAIN or own.empty:
            continue
        both = paired(own, other)
        percent = both.assign(percent=100 * both.difference / other.error.mean())
        found[name, n_labels] = bootstrap(percent, "percent")
    return found


def times(lines: pd.DataFrame) -> dict[str, float]:
    """By method, the median seconds of training over those of its :func:`reference_of`.

    Args:
        lines: of trainings beside which the machine did nothing else.
    """
    if lines.empty:
        return {}
    seconds = {name: own.seconds.median() for name, own in lines.groupby("label")}
    references = {name: reference_of(name, own.source.iloc[0]) for name, own in lines.groupby("label")}
    return {name: seconds[name] / seconds[other] for name, other in references.items() if other in seconds}


def main_table(rows: pd.DataFrame, lines: pd.DataFrame, time: Mapping[str, float]) -> str:
    """The scores of all methods, by number of labels, as Markdown; ``time`` is what :func:`times` gives."""
    against = differences(rows)
    argmax = lines.groupby(["label", "n_labels"]).me_argmax.mean()
    head = (
        f"| labels | method | ME ± SD | FR | AUC | error to {PLAIN}, % | ME by argmax | time to {PLAIN} | trainings |"
    )
    table = [head, "|" + "---|" * 9]
    for (n_labels, name), own in rows.groupby(["n_labels", "label"], sort=False):
        score, key = scores_of(own), (name, n_labels)
        change = as_text(against[key]) if key in against else ""
        parts = [
            f"{n_labels} | {name} | {score.me:.3f} ± {score.sd:.3f} | {100 * score.fr:.1f} % | {score.auc:.3f}",
            f"{change} | {argmax[key]:.3f} | {_ratio(time.get(name))} | {len(own[['fold', 'seed']].drop_duplicates())}",
        ]
        table.append(f"| {' | '.join(parts)} |")
    return "\n".join(table)


def short_table(rows: pd.DataFrame, names: Sequence[str]) -> str:
    """Mean errors of some methods by number of labels, and their differences to FT in percent, as Markdown."""
    against = differences(rows)
    table = [f"| labels | {' | '.join(names)} |", "|" + "---|" * (len(names) + 1)]
    for n_labels in sorted(rows.n_labels.unique()):
        means = {name: rows[(rows.label == name) & (rows.n_labels == n_labels)].error.mean() for name in names}
        cells = [f"{mean:.3f}{_change(against.get((name, n_labels)))}" for name, mean in means.items()]
        table.append(f"| {n_labels} | {' | '.join(cells)} |")
    return "\n".join(table)


def repeat_table(once: pd.DataFrame, again: pd.DataFrame) -> str:
    """Trainings that were made again on another machine, as Markdown.

    Args:
        once: the images of the trainings; see :func:`images`.
        again: those of the same trainings on the other machine.
    """
    head = "| labels | method | ME | on the other machine | difference of a training, % | of all, % |"
    table = [head, "|" + "---|" * 6]
    for (n_labels, name), second in again.groupby(["n_labels", "label"], sort=False):
        first = once[(once.label == name) & (once.n_labels == n_labels) & once.fold.isin(second.fold)]
        of_folds = 100 * (second.groupby("fold").error.mean() / first.groupby("fold").error.mean() - 1)
        both = paired(second, first)
        all_of_it = bootstrap(both.assign(percent=100 * both.difference / first.error.mean()), "percent")
        span = f"{_signed(of_folds.min())} to {_signed(of_folds.max())}"
        table.append(
            f"| {n_labels} | {name} | {first.error.mean():.3f} | {second.error.mean():.3f} | {span} "
            f"| {as_text(all_of_it)} |"
        )
    return "\n".join(table)


def batch_table(rows: pd.DataFrame) -> str:
    """Trainings in several batches, each against the same method in the usual batch, as Markdown.

    Args:
        rows: the images of the trainings, those in the usual batch among them; see :func:`images`.
    """
    table = ["| method | batch | steps | learning rates | ME | error to batch 5, % | trainings |", "|" + "---|" * 7]
    for name, own in rows.groupby("label", sort=False):
        usual = own[own.batch == BATCH]
        for (batch, steps, rate), other in own.groupby(["batch", "steps", "rate"]):
            shared = usual[usual.fold.isin(other.fold)]
            both = paired(other, shared)
            percent = both.assign(percent=100 * both.difference / shared.error.mean())
            change = "" if batch == BATCH else _of_several(bootstrap(percent, "percent"), other.fold.nunique())
            rates = "tuned" if rate == 1 else f"times {rate:g}"
            parts = [f"{name} | {batch:g} | {steps} | {rates}", f"{other.error.mean():.3f} | {change}"]
            table.append(f"| {' | '.join(parts)} | {other.fold.nunique()} |")
    return "\n".join(table)


def _change(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    text = f"{_signed(estimate.mean)} %"
    return f" (**{text}**)" if estimate.is_clear else f" ({text})"


def _signed(value: float) -> str:
    """To one digit, without a negative zero."""
    return f"{round(value, 1) + 0.0:+.1f}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _of_several(estimate: Estimate, trainings: int) -> str:
    """The estimate as text, without an interval where there are not three trainings."""
    return as_text(estimate) if trainings > 2 else _signed(estimate.mean)


def as_text(estimate: Estimate) -> str:
    """``-3.1 (-5.0 to -1.2)``, in bold where the interval leaves out zero."""
    text = f"{_signed(estimate.mean)} ({_signed(estimate.low)} to {_signed(estimate.high)})"
    return f"**{text}**" if estimate.is_clear else text


def tuning_table(tuning: Results, rows: pd.DataFrame, lines: pd.DataFrame) -> str:
    """For each method the settings that were tried, and the folds for which each was chosen, as Markdown.

    The error is that on which the choices were made, averaged over the folds.
    """
    table = ["| method | setting | error | chosen for fold |", "|---|---|---|---|"]
    held_out = {fold: set(own.image) for fold, own in rows.groupby("fold")}
    tuned = lines[[not METHODS[method].tuned_as_ft for method in lines.method]]
    for name, own in tuned.groupby("label", sort=False):
        cells = {line["fold"]: cell_of(line) for line in own.to_dict("records")}
        tried = {fold: scores(tuning, cell, held_out[fold]) for fold, cell in cells.items()}
        choice = {fold: each.error.idxmin() for fold, each in tried.items()}
        errors = pd.concat([each.error for each in tried.values()], axis=1).mean(axis=1)
        for index, setting in next(iter(tried.values())).drop(columns="error").iterrows():
            words = ", ".join(f"{key} {value:g}" for key, value in setting.items())
            folds = ", ".join(str(fold) for fold, best in sorted(choice.items()) if best == index)
            table.append(f"| {name} | {words} | {errors[index]:.3f} | {folds} |")
    return "\n".join(table)
