"""``two_ranks.py <rank> <folder>``: one of two processes that work through a folder of configs under MMEngine's DDP."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
import watch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpose.registry import DATASETS


def trained(config: Config, rank: int) -> dict[str, Any]:
    """The findings of a run; an unused parameter would stop it at its second step."""

    def another_teacher(runner: Runner) -> None:
        if rank == 1 and config.get("another_teacher"):
            network = runner.model.module.regularizer.teacher.network
            with torch.no_grad():
                for tensor in (*network.parameters(), *network.buffers()):
                    if tensor.is_floating_point():
                        tensor *= 0.5

    runner, seen = watch.run(config, another_teacher)
    model = runner.model
    return {
        "losses": seen.losses,
        "weights": seen.weights,
        "batches": [torch.from_numpy(batch) for batch in seen.batches],
        "others": seen.others,
        "start": seen.start,
        "end": seen.end,
        "names": [name for name, _ in (*model.named_parameters(), *model.named_buffers())],
        "find_unused_parameters": model.find_unused_parameters,
    }


def gradients(config: Config, rank: int | None) -> dict[str, torch.Tensor]:
    """The gradients of one backward pass, for this process's two of four images; for all if ``rank`` is None."""
    model = Runner.from_cfg(config).model.train()
    estimator = model if rank is None else model.module
    estimator.init_weights()
    torch.manual_seed(0)
    with torch.no_grad():  # moves away from the source, so that the terms are not zero
        for parameter in estimator.parameters():
            parameter *= 1 + 0.1 * torch.randn_like(parameter)
    data = DATASETS.build(config.train_dataloader.dataset)
    samples = [data[i] for i in (range(4) if rank is None else range(2 * rank, 2 * rank + 2))]
    batch = {key: [sample[key] for sample in samples] for key in ("inputs", "data_samples")}
    losses = model(**estimator.data_preprocessor(batch, True), mode="loss")
    estimator.parse_losses(losses)[0].backward()
    return {name: p.grad.clone() for name, p in estimator.named_parameters() if p.grad is not None}


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"LOCAL_RANK": str(rank), "RANK": str(rank), "WORLD_SIZE": "2"}
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=2)
    found = {}
    init_default_scope("mmpose")
    for path in sorted(folder.glob("*.py")):
        config = Config.fromfile(path)
        found[path.stem] = (gradients if path.stem == "gradients" else trained)(config, rank)
    torch.save(found, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
