"""Measures seconds and peak memory of work on one device."""

from __future__ import annotations

import gc
import json
import random
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

Work = Callable[[], object]
FEWEST_ROUNDS = 3
CALLS = 3
"""Number of calls when memory is measured."""
WARM_UP = {"cpu": 1, "cuda": 3}
"""Number of calls before measuring: on a GPU the allocator settles, and CUDA graphs are captured."""


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
"""``cpu`` is the CPU time of the process: use it on a shared machine, with one thread."""


def seconds(work: Work, device: str, clock: str = "wall") -> float:
    """The time that one call takes, until the device has finished."""
    now = CLOCKS[clock]
    _wait(device)
    start = now()
    work()
    _wait(device)
    return now() - start


def quartiles(values: np.ndarray) -> dict[str, float]:
    """Median and quartiles, rounded to four digits."""
    found = np.quantile(values, (0.5, 0.25, 0.75))
    return dict(zip(("median", "lower", "upper"), (float(f"{value:.4g}") for value in found)))


def interleaved(works: Mapping[str, Work], device: str, budget: float, clock: str = "wall") -> dict[str, list[float]]:
    """Seconds of each work in each round.

    A round calls each work once, in a random order, so that temporary disturbances of the machine affect all. Each is
    called :data:`WARM_UP` times before.

    Args:
        works: by name.
        device: ``'cpu'`` or ``'cuda'``.
        budget: seconds after which no new round begins; there are at least three.
        clock: one of ``CLOCKS``.
    """
    for work in [*works.values()] * WARM_UP[device]:
        work()
    found: dict[str, list[float]] = {name: [] for name in works}
    order, start = list(works), time.perf_counter()
    shuffle = random.Random(0).shuffle
    while time.perf_counter() - start < budget or len(found[order[0]]) < FEWEST_ROUNDS:
        shuffle(order)
        for name in order:
            found[name].append(seconds(works[name], device, clock))
    return found


def peak_bytes(build: Callable[[], Work], device: str) -> int:
    """The peak memory that PyTorch allocates for the work that ``build`` returns, including its weights.

    On the CPU it is taken from the profiler, which sees every tensor, but not what oneDNN allocates in a convolution.
    """
    gc.collect()
    if device == "cuda":
        return _peak_bytes_on_gpu(build)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        _call(build)
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak


def _peak_bytes_on_gpu(build: Callable[[], Work]) -> int:
    """The same on a GPU, in a second run: in the first, libraries allocate workspaces that they keep for others too."""
    _call(build)
    gc.collect()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    _call(build)
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _call(build: Callable[[], Work]) -> None:
    work = build()
    for _ in range(CALLS):
        work()


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
