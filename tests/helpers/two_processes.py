"""Functions of a test module in two real processes (gloo, CPU); the module itself is their program."""

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
    """What each process found, by the names of the functions.

    Args:
        program: the test module; run as a script it calls :func:`work`.
        folder: an empty one, for the rendezvous and the results.
    """
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    commands = [[sys.executable, program, str(rank), str(folder)] for rank in range(WORLD_SIZE)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) for command in commands]
    try:
        errors = [process.communicate(timeout=SECONDS)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * WORLD_SIZE, "\n".join(errors)
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
