"""Tables and figure of the results of ``benchmarks/step_cost.py``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import quantile_test

from steps.names import FLOOR, OFF, OURS, OURS_FIRST, PLAIN, TORCHDISTILL

SETTING = ["case", "batch", "device", "precision", "channels_last"]
FLOOR_TARGET = {"cpu": 1.02, "cuda": 1.05}
"""Upper limit of ours / floor; 1.02 on every device from batch 32 on."""
FAST_TARGET = {"cpu": 0.95, "cuda": 0.85}
"""Upper limit of the step with the fastest teacher options / floor."""
Ratio = tuple[float, float, float]
"""Median, lower and upper quartile."""


def read(path: Path) -> pd.DataFrame:
    """The last measurement of each kind and setting in the result file."""
    return pd.read_json(path, lines=True).drop_duplicates(["measured", *SETTING], keep="last")


def ratio(seconds: Mapping[str, list[float]], name: str, to: str) -> Ratio:
    """Median and quartiles of the ratio within rounds."""
    lower, median, upper = np.quantile(within_rounds(seconds, name, to), (0.25, 0.5, 0.75))
    return float(median), float(lower), float(upper)


def within_rounds(seconds: Mapping[str, list[float]], name: str, to: str) -> np.ndarray:
    """The ratio in each round."""
    return np.array(seconds[name]) / np.array(seconds[to])


def interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the median, from order statistics; infinite with fewer than six values."""
    found = quantile_test(values, p=0.5).confidence_interval(0.95)
    bounds = float(found.low), float(found.high)
    return bounds if np.isfinite(bounds).all() else (-np.inf, np.inf)


def times_table(record: pd.Series, memory: Mapping[str, int] | None) -> str:
    """The methods of one setting; with memory if it was measured, and with seconds for a GPU."""
    heads = ["step", "/ FT", "/ floor", "quartiles"]
    heads += [] if memory is None else ["peak memory, MB", "/ floor"]
    heads += ["seconds"] if record.device == "cuda" else []
    rows = [heads, ["---"] * len(heads), *(_method(record, name, memory) for name in record.seconds)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _method(record: pd.Series, name: str, memory: Mapping[str, int] | None) -> list[str]:
    """The row of one method."""
    median, lower, upper = ratio(record.seconds, name, FLOOR)
    row = [name, f"{ratio(record.seconds, name, PLAIN)[0]:.3f}", f"{median:.3f}", f"{lower:.3f} to {upper:.3f}"]
    if memory is not None:
        row += [f"{memory[name] / 1e6:.0f}", f"{memory[name] / memory[FLOOR]:.3f}"] if name in memory else ["", ""]
    return row + ([f"{np.median(record.seconds[name]):.4g}"] if record.device == "cuda" else [])


def options_table(results: pd.DataFrame) -> str:
    """The options of ``FrozenTeacher``: the step relative to the floor of that setting, and the change of L_ED."""
    head = "| network | batch | precision | teacher | / floor | quartiles | L_ED | changed by |"
    lines = [head, "|" + "---|" * 8]
    for _, record in _measured(results, "options").iterrows():
        exact = record.term[OURS]
        for name in (each for each in record.seconds if each != FLOOR):
            median, lower, upper = ratio(record.seconds, name, FLOOR)
            term = record.term.get(name)
            value = "| |" if term is None else f"{term:.6f} | {abs(term - exact) / exact:.1e} |"
            lines.append(
                f"| {record.case} | {record.batch} | {_precision(record)} "
                f"| {'as it is' if name == OURS else name.removeprefix('teacher ')} "
                f"| {median:.3f} | {lower:.3f} to {upper:.3f} | {value}"
            )
    return "\n".join(lines)


def targets(results: pd.DataFrame) -> Iterator[tuple[pd.Series, str, np.ndarray, float]]:
    """The targets: a setting, the name of a ratio, its measured values, and its upper limit."""
    for record, memory in timed(results):
        bound = 1.02 if record.batch >= 32 else FLOOR_TARGET[record.device]
        yield record, "xtask_reg / floor", within_rounds(record.seconds, OURS, FLOOR), bound
        yield record, "all weights 0 / FT", within_rounds(record.seconds, OFF, PLAIN), 1.01
        if TORCHDISTILL in record.seconds:
            own = OURS_FIRST if record.device == "cpu" and OURS_FIRST in record.seconds else OURS
            yield record, f"{own} / torchdistill", within_rounds(record.seconds, own, TORCHDISTILL), 1.0
        if memory is not None:
            yield record, "memory / floor", np.array([memory[OURS] / memory[FLOOR]]), 1.02
    for _, record in _measured(results, "options").iterrows():
        name = _quickest(record)
        yield record, f"{name} / floor", within_rounds(record.seconds, name, FLOOR), FAST_TARGET[record.device]


def targets_table(results: pd.DataFrame) -> str:
    """All settings compared with their targets."""
    lines = ["| network | batch | precision | ratio | measured | 95 % | target | |", "|" + "---|" * 8]
    for record, name, values, bound in targets(results):
        lower, upper = interval(values) if len(values) > 1 else (values[0], values[0])  # memory does not vary
        verdict = "met" if upper <= bound else "missed" if lower > bound else "not decided"
        where = f"{record.case} | {record.batch} | {_precision(record)}"
        span = f"{lower:.3f} to {upper:.3f}" if np.isfinite(upper) else f"only {len(values)} rounds"
        found = f"{np.median(values):.3f} | {span}"
        lines.append(f"| {where} | {name} | {found} | {bound} | {verdict} |")
    return "\n".join(lines)


def throughput_table(results: pd.DataFrame) -> str:
    """Images per second of FT and ours, and their ratio to FT in float32 at the smallest batch."""
    lines = ["| network | batch | precision | FT, images/s | | xtask_reg, images/s | |", "|" + "---|" * 7]
    slowest: dict[str, float] = {}
    order = {"case": True, "precision": False, "channels_last": True, "batch": True}
    records = _measured(results, "times").sort_values([*order], ascending=[*order.values()])
    for _, record in records.iterrows():
        rates = {name: record.batch / np.median(record.seconds[name]) for name in (PLAIN, OURS)}
        base = slowest.setdefault(record.case, rates[PLAIN])
        found = " | ".join(f"{rate:.0f} | x {rate / base:.1f}" for rate in rates.values())
        lines.append(f"| {record.case} | {record.batch} | {_precision(record)} | {found} |")
    return "\n".join(lines)


def timed(results: pd.DataFrame) -> Iterator[tuple[pd.Series, Mapping[str, int] | None]]:
    """The settings with measured times, each with the peak memory of its methods if that was measured."""
    peaks = {_key(record): record.peak_bytes for _, record in _measured(results, "memory").iterrows()}
    for _, record in _measured(results, "times").iterrows():
        yield record, peaks.get(_key(record))


def settings_tables(results: pd.DataFrame) -> str:
    """The methods of each setting."""
    return "\n\n".join(
        f"**{record.case}, batch {record.batch}, {_where(record)}**\n\n{times_table(record, memory)}"
        for record, memory in timed(results)
    )


def draw(results: pd.DataFrame) -> Figure:
    """One panel per setting: the cost of a step in units of plain FT, with quartiles; the dashed line is the floor."""
    records = [record for record, _ in timed(results)]
    figure, axes = plt.subplots(len(records), 1, figsize=(8, 0.6 + 1.75 * len(records)), squeeze=False, sharex=True)
    for axis, record in zip(axes[:, 0], records):
        bars = {name: ratio(record.seconds, name, PLAIN) for name in record.seconds if name != PLAIN}
        floor = bars[FLOOR][0]
        names = list(bars)[::-1]
        middle, lower, upper = np.array([bars[name] for name in names]).T
        for place, name in enumerate(names):
            color = "tab:orange" if name.startswith(OURS) else "tab:gray"
            spread = [[middle[place] - lower[place]], [upper[place] - middle[place]]]
            axis.errorbar(middle[place], place, xerr=spread, fmt="o", color=color)
        axis.set_yticks(range(len(names)), names)
        axis.axvline(floor, color="black", linestyle="--", linewidth=0.8)
        axis.grid(axis="x", alpha=0.3)
        axis.set_title(f"{record.case}, batch {record.batch}, {_where(record)}", fontsize=9, loc="left")
        axis.tick_params(labelsize=7)
    axes[-1, 0].set_xlabel("time of a training step, plain fine-tuning = 1: median and quartiles")
    figure.tight_layout()
    return figure


def _quickest(record: pd.Series) -> str:
    """The teacher's option with the fastest step."""
    return min(record.term.keys() - {OURS}, key=lambda name: ratio(record.seconds, name, FLOOR)[0])


def _measured(results: pd.DataFrame, what: str) -> pd.DataFrame:
    return results[results.measured == what].sort_values(SETTING)


def _key(record: pd.Series) -> tuple[object, ...]:
    return tuple(record[name] for name in SETTING)


def _where(record: pd.Series) -> str:
    device = record.hardware["gpu"] if record.device == "cuda" else record.device
    known = [device, _precision(record)]
    if record.device == "cpu":
        known.append(f"{record.threads:.0f} thread" + "s" * (record.threads > 1))
    return ", ".join(known + (["CPU seconds"] if record.clock == "cpu" else []))


def _precision(record: pd.Series) -> str:
    return record.precision + (", channels_last" if record.channels_last else "")
