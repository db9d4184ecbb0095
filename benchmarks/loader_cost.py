"""How long the training process waits for a batch: with MMEngine's collation and ours, and at the start of an epoch.

Synthetic faces through the shipped pipeline at 256 px.

- Collation: a worker transfers each tensor in a separate call. The two collations alternate, each with one worker that
  is given the time to work ahead.
- Workers: the first batch of an epoch, of two images, with workers that persist from the last epoch and with new ones.
  The two alternate; nobody works ahead.

    OMP_NUM_THREADS=1 python benchmarks/loader_cost.py
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

from mmengine.runner import Runner
from provenance import provenance
from steps.job_report import COLLATIONS, WORKERS
from torch.utils.data import DataLoader

from xtask_reg.data import synthetic
from xtask_reg.integrations.mmpose.tools import read_config
from xtask_reg.integrations.mmpose_files import configs

RESULTS = Path(__file__).parent / "results" / "loader_cost.json"
CONFIG = "td-hm_res50_ft_landmarks-256x256.py"
IMAGES = 64


def loader(folder: Path, **changes: Any) -> DataLoader[Any]:
    """The shipped data loader for training, with some changes."""
    config = read_config(configs() / CONFIG).train_dataloader
    config.update(changes)
    config.dataset.data_root = str(folder)
    return Runner.build_dataloader(config, seed=0)


def collations(folder: Path, size: int, rounds: int, ahead: float) -> dict[str, list[float]]:
    """Milliseconds that each collation makes the training wait for a batch, in each round.

    Args:
        folder: the folder of the faces.
        size: images per batch.
        rounds: batches to time of each, after one that does not count.
        ahead: seconds per image that a worker is given to prepare two batches ahead.
    """
    endless = {"num_workers": 1, "sampler": {"type": "InfiniteSampler"}}
    ways = {name: {"batch_size": size, "collate_fn": {"type": name}, **endless} for name in COLLATIONS}
    batches = {name: iter(loader(folder, **way)) for name, way in ways.items()}
    found: dict[str, list[float]] = {name: [] for name in COLLATIONS}
    for _ in range(rounds + 1):
        for name, each in batches.items():
            time.sleep(2 * size * ahead)  # until all workers are ahead and idle
            start = time.perf_counter()
            next(each)
            found[name].append(_since(start))
    return _without_the_first(found)


def two_loaders(folder: Path, number: int) -> dict[str, DataLoader[Any]]:
    """Data loaders with this number of workers, which persist and which do not."""
    return {
        name: loader(folder, num_workers=number, persistent_workers=persistent)
        for name, persistent in zip(WORKERS, (True, False), strict=True)
    }


def workers(folder: Path, number: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds until the first batch of an epoch, in each round.

    Args:
        folder: the folder of the faces.
        number: of workers.
        rounds: epochs to time of each kind, after one that does not count.
    """
    loaders = two_loaders(folder, number)
    found: dict[str, list[float]] = {name: [] for name in WORKERS}
    for _ in range(rounds + 1):
        for name, each in loaders.items():
            start = time.perf_counter()
            epoch = iter(each)
            next(epoch)
            found[name].append(_since(start))
            for _ in epoch:
                pass
            del epoch  # new workers end with it
    return _without_the_first(found)


def _since(start: float) -> float:
    return round(1000 * (time.perf_counter() - start), 3)


def _without_the_first(found: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: values[1:] for name, values in found.items()}


def main() -> None:
    """Measure, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--ahead", type=float, default=0.015, help="seconds an image that a worker is given")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        synthetic.write_landmark_set(folder, range(IMAGES), 1, 256, split="train")
        found = {
            "collation": {str(n): collations(folder, n, arguments.rounds, arguments.ahead) for n in arguments.batches},
            "workers": {str(n): workers(folder, n, arguments.rounds) for n in arguments.workers},
        }
    arguments.out.write_text(json.dumps({"milliseconds": found, **provenance()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
