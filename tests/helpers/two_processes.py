"""A program in two real processes (gloo, CPU): a test module that calls functions of its own, or a script."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

WORLD_SIZE = 2
SECONDS = 300


def found_by_each(program: str, folder: Path) -> list[dict[str, Any]]:
    """What each process found, by name.

    Args:
        program: called with a rank and the folder; it saves ``<rank>.pt``, in a test module by calling :func:`work`.
        folder: for the rendezvous, the results, and what the processes print.
    """
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    outputs = [folder / f"{rank}.txt" for rank in range(WORLD_SIZE)]
    processes = [
        subprocess.Popen(
            [sys.executable, program, str(rank), str(folder)],
            stdout=output.open("w"), stderr=subprocess.STDOUT, env=environment,
        )
        for rank, output in enumerate(outputs)
    ]  # fmt: skip
    try:
        codes = [process.wait(timeout=SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert codes == [0] * WORLD_SIZE, "\n".join(output.read_text()[-2000:] for output in outputs)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(WORLD_SIZE)]


def work(functions: Iterable[Callable[[int], Any]]) -> None:
    """Be one of the processes: call each function with the rank, and save what they return."""
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=WORLD_SIZE
    )
    torch.save({function.__name__: function(rank) for function in functions}, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()
