"""Tables of the grid, made from its result files alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from grid.cell import BATCH, SIZE, TUNED, cell_of
from grid.methods import METHODS
from grid.results import Results
from grid.sources import SOURCES
from grid.statistics import Estimate, adjusted_p, bootstrap, of_trainings, paired
from grid.tuning import scores
from xtask_reg.landmarks import LandmarkScores, score_images

PLAIN = "FT"
TRAINING = ["dataset", "source", "label", "n_labels", "fold", "seed", "steps", "batch", "rate", "cpu"]
KEYS = ["fold", "seed"]


@dataclass(frozen=True)
class Comparison:
    """A method compared with a reference on the same images.

    Attributes:
        percent: the difference of the mean errors, in percent of the reference's.
        less: the number of trainings with less error.
        trainings: the number of trainings that both have.
        p: of a t-test over the folds, adjusted for the other comparisons.
    """

    percent: Estimate
    less: int
    trainings: int
    p: float

    @property
    def is_clear(self) -> bool:
        """Whether both the interval and the test show a difference."""
        return self.p < 0.05 and not self.percent.low <= 0 <= self.percent.high

    def __str__(self) -> str:
        """The difference in percent; with the interval if there are three trainings, in bold if it is clear."""
        text = as_text(self.percent) if self.trainings > 2 else _signed(self.percent.mean)
        return f"**{text}**" if self.is_clear else text


def label(line: Mapping[str, Any]) -> str:
    """The name of a method in tables and figures."""
    teacher = ", random teacher" if line["teacher"] == "random" else ""
    source = "" if line["source"] == "dlib" else f", {line['source']}"
    count = line.get("setting", {}).get("photographs")
    method = line["method"].replace("photographs", f"{count} photographs") if count else line["method"]
    return method + teacher + source


def reference_of(name: str, source: str) -> str:
    """The name of a method's reference: FT from the same source; FT for that, and without a source or its decoder."""
    plain = label({"method": PLAIN, "teacher": "none", "source": source})
    has_own = SOURCES[source].weights and not SOURCES[source].multiscale
    return plain if has_own and name != plain else PLAIN


def lines(results: Results, **wanted: Collection[Any]) -> pd.DataFrame:
    """One row for each cell.

    Args:
        results: of the grid.
        **wanted: allowed values of the cells' fields, such as ``n_labels=[10, 20]``.
    """
    usual = {"batch": BATCH, "rate": 1, "kept": 0, "photographs": None, "tuned": TUNED, "size": SIZE}
    every = [
        {**line, "label": label(line), "cell": cell_of(line).folder, "cpu": line.get("hardware", {}).get("cpu")}
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


def differences(rows: pd.DataFrame, elsewhere: pd.DataFrame | None = None) -> dict[tuple[str, int], Comparison]:
    """The comparison of each method with its :func:`reference_of`, by method and number of labels.

    Args:
        rows: the images of all trainings; see :func:`images`.
        elsewhere: those of trainings that were repeated on another processor. Rounding gives another network there, so
            each method is compared with the reference from its own processor, if there is one.

    Raises:
        ValueError: if the two were not tested on the same images.
    """
    references = rows if elsewhere is None else pd.concat([rows, elsewhere])
    pairs = {}
    for (name, source, n_labels), own in rows.groupby(["label", "source", "n_labels"], sort=False):
        of_these = (references.label == reference_of(name, source)) & (references.n_labels == n_labels)
        if name != PLAIN:
            pairs[name, n_labels] = own, references[of_these]
    return compared(pairs)


def compared(pairs: Mapping[Any, tuple[pd.DataFrame, pd.DataFrame]]) -> dict[Any, Comparison]:
    """Comparisons by name, each between the images of one method and those of another.

    Only folds and seeds that both have count; pairs without any are left out.
    """
    both = {key: paired(own, other) for key, (own, other) in _shared(pairs).items()}
    found = {}
    for (key, each), p in zip(both.items(), adjusted_p([*both.values()])):
        percent = each.assign(percent=100 * each.difference / each.error_reference.mean())
        trainings = of_trainings(each)
        less = int((trainings < 0).sum())
        found[key] = Comparison(bootstrap(percent, "percent"), less, len(trainings), p)
    return found


def _shared(pairs: Mapping[Any, tuple[pd.DataFrame, pd.DataFrame]]) -> dict[Any, tuple[pd.DataFrame, pd.DataFrame]]:
    """The trainings that both methods have; the reference's on the same processor, if there are any."""
    found = {}
    for key, (own, other) in pairs.items():
        other = other.merge(own.groupby(KEYS).cpu.first().rename("wanted").reset_index(), on=KEYS)
        same = other.cpu == other.wanted
        other = other[same | ~same.groupby([other.fold, other.seed]).transform("any")]
        own = own.merge(other[KEYS].drop_duplicates(), on=KEYS)
        if len(own):
            found[key] = own, other.drop_duplicates([*KEYS, "image"])
    return found


def times(lines: pd.DataFrame) -> dict[str, float]:
    """The median training time of each method, relative to its :func:`reference_of`.

    Args:
        lines: of trainings on an idle machine.
    """
    if lines.empty:
        return {}
    seconds = {name: own.seconds.median() for name, own in lines.groupby("label")}
    references = {name: reference_of(name, own.source.iloc[0]) for name, own in lines.groupby("label")}
    return {name: seconds[name] / seconds[other] for name, other in references.items() if other in seconds}


def main_table(
    rows: pd.DataFrame,
    lines: pd.DataFrame,
    against: Mapping[tuple[str, int], Comparison],
    time: Mapping[str, float],
) -> str:
    """The scores of all methods, by number of labels, as Markdown.

    Args:
        rows: the images of the trainings.
        lines: the trainings.
        against: from :func:`differences`.
        time: from :func:`times`.
    """
    argmax = lines.groupby(["label", "n_labels"]).me_argmax.mean()
    found = f"change in error from {PLAIN}, % | less error in | adjusted p"
    table = [f"| labels | method | ME ± SD | FR | AUC | {found} | ME by argmax | time / {PLAIN} |", "|" + "---|" * 10]
    for (n_labels, name), own in rows.groupby(["n_labels", "label"], sort=False):
        score, key = scores_of(own), (name, n_labels)
        trainings = f" | {len(own[KEYS].drop_duplicates())} trainings | "
        change = comparison_cells(against[key]) if key in against else trainings
        parts = [
            f"{n_labels} | {name} | {score.me:.3f} ± {score.sd:.3f} | {100 * score.fr:.1f} % | {score.auc:.3f}",
            f"{change} | {argmax[key]:.3f} | {_ratio(time.get(name))}",
        ]
        table.append(f"| {' | '.join(parts)} |")
    return "\n".join(table)


def pair_table(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> str:
    """Methods compared in pairs, as Markdown, for each number of labels that both have.

    Args:
        rows: the images of the trainings.
        pairs: the names of two methods each.
    """
    wanted = {
        (n_labels, one, other): tuple(own[own.label == name] for name in (one, other))
        for n_labels, own in rows.groupby("n_labels", sort=False)
        for one, other in pairs
    }
    table = ["| labels | method | compared with | change in error, % | less error in | adjusted p |", "|" + "---|" * 6]
    for (n_labels, one, other), found in compared(wanted).items():
        table.append(f"| {n_labels} | {one} | {other} | {comparison_cells(found)} |")
    return "\n".join(table)


def comparison_cells(found: Comparison) -> str:
    """Three cells of a table: the difference, the number of trainings with less error, p."""
    p = "< 0.001" if found.p < 0.001 else f"{found.p:.3f}" if found.p < 0.1 else f"{found.p:.1f}"
    return f"{found} | {found.less} of {found.trainings} | {p}"


def short_table(rows: pd.DataFrame, against: Mapping[tuple[str, int], Comparison], names: Sequence[str]) -> str:
    """Mean errors of some methods by number of labels, and their differences to FT in percent, as Markdown."""
    table = [f"| labels | {' | '.join(names)} |", "|" + "---|" * (len(names) + 1)]
    for n_labels in sorted(rows.n_labels.unique()):
        means = {name: rows[(rows.label == name) & (rows.n_labels == n_labels)].error.mean() for name in names}
        cells = [f"{mean:.3f}{_change(against.get((name, n_labels)))}" for name, mean in means.items()]
        table.append(f"| {n_labels} | {' | '.join(cells)} |")
    return "\n".join(table)


def repeat_table(once: pd.DataFrame, again: pd.DataFrame) -> str:
    """Trainings that were repeated on another machine, as Markdown.

    Args:
        once: the images of the trainings; see :func:`images`.
        again: those of the repetitions.
    """
    head = "| labels | method | ME | on the other machine | difference of single runs, % | mean difference, % |"
    table = [head, "|" + "---|" * 6]
    for (n_labels, name), second in again.groupby(["n_labels", "label"], sort=False):
        first = once[(once.label == name) & (once.n_labels == n_labels) & once.fold.isin(second.fold)]
        of_folds = 100 * (second.groupby("fold").error.mean() / first.groupby("fold").error.mean() - 1)
        (all_of_it,) = compared({name: (second, first)}).values()
        span = f"{_signed(of_folds.min())} to {_signed(of_folds.max())}"
        table.append(
            f"| {n_labels} | {name} | {first.error.mean():.3f} | {second.error.mean():.3f} | {span} "
            f"| {as_text(all_of_it.percent)} |"
        )
    return "\n".join(table)


def batch_table(rows: pd.DataFrame) -> str:
    """Trainings with several batch sizes, each compared with the same method at the usual one, as Markdown.

    Args:
        rows: the images of the trainings, including those at the usual batch size; see :func:`images`.
    """
    found = "change in error from batch 5, % | less error in | adjusted p"
    table = [f"| method | batch | steps | learning rates | ME | {found} |", "|" + "---|" * 8]
    trained = {
        (str(name), *key): own
        for name, of_method in rows.groupby("label", sort=False)
        for key, own in of_method.groupby(["batch", "steps", "rate"])
    }
    usual = {name: own for (name, batch, *_), own in trained.items() if batch == BATCH}
    against = compared({key: (own, usual[key[0]]) for key, own in trained.items() if key[1] != BATCH})
    for (name, batch, steps, rate), own in trained.items():
        key = name, batch, steps, rate
        rates = "tuned" if rate == 1 else f"times {rate:g}"
        change = comparison_cells(against[key]) if key in against else f" | {own.fold.nunique()} trainings | "
        table.append(f"| {name} | {batch:g} | {steps} | {rates} | {own.error.mean():.3f} | {change} |")
    return "\n".join(table)


def _change(found: Comparison | None) -> str:
    if found is None:
        return ""
    text = f"{_signed(found.percent.mean)} %"
    return f" (**{text}**)" if found.is_clear else f" ({text})"


def _signed(value: float) -> str:
    """With a sign and one decimal, never ``-0.0``."""
    return f"{round(value, 1) + 0.0:+.1f}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def as_text(estimate: Estimate) -> str:
    """``-3.1 (-5.0 to -1.2)``."""
    return f"{_signed(estimate.mean)} ({_signed(estimate.low)} to {_signed(estimate.high)})"


def tuning_table(tuning: Results, rows: pd.DataFrame, lines: pd.DataFrame) -> str:
    """The settings tried for each method, and the folds for which each was chosen, as Markdown.

    The error is the one by which they were chosen, averaged over the folds.
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
