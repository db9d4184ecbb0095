"""Runs cells in processes of this machine, or of several through Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from grid.cell import Cell
from grid.places import Places

BENCHMARKS = Path(__file__).parent.parent
Outcome = tuple[Cell, dict[str, Any] | str]
"""A cell with its result line, or an error message."""


def run_cell(cell: Cell, places: Places, gpu: str | None = None) -> Outcome:
    """Train a cell in its own process, with one CPU thread; its files are deleted afterwards."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(BENCHMARKS)}
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    with tempfile.TemporaryDirectory(prefix="few-labels-") as folder:
        command = [sys.executable, "-m", "grid.run_cell", cell.identity]
        where = [str(path.resolve()) for path in (places.data_root, places.prepared)]
        done = subprocess.run([*command, *where, folder], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            return cell, (done.stdout + done.stderr)[-2000:]
        return cell, json.loads((Path(folder) / "result.json").read_text())


def here(cells: Sequence[Cell], places: Places, jobs: int, gpus: Sequence[str] = ()) -> Iterator[Outcome]:
    """Run ``jobs`` cells at a time, on the GPUs in turn if there are any; yields outcomes as they come."""
    devices = [gpus[number % len(gpus)] if gpus else None for number in range(len(cells))]
    with ThreadPoolExecutor(jobs) as pool:
        tasks = [pool.submit(run_cell, cell, places, device) for cell, device in zip(cells, devices)]
        try:
            for task in as_completed(tasks):
                yield task.result()
        finally:
            pool.shutdown(cancel_futures=True)


def on_ray(cells: Sequence[Cell], places: Places, gpus_per_cell: float = 0) -> Iterator[Outcome]:
    """Run cells on the Ray cluster at ``RAY_ADDRESS``, or a local one; yields outcomes as they come.

    All machines must have the repository and the data under the same paths.

    Raises:
        ImportError: if Ray is not installed.
    """
    import ray

    ray.init(runtime_env={"env_vars": {"PYTHONPATH": str(BENCHMARKS)}}, include_dashboard=False)
    try:
        task = ray.remote(num_cpus=1, num_gpus=gpus_per_cell)(run_cell)
        waiting = [task.remote(cell, places) for cell in cells]
        while waiting:
            finished, waiting = ray.wait(waiting)
            yield from ray.get(finished)
    finally:
        ray.shutdown()
