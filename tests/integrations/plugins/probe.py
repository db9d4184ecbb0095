"""A hook that records what a run trained on, for tests of tools/train.py."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmpose.registry import HOOKS


def checksum(network: torch.nn.Module) -> str:
    """A checksum of all parameters and buffers."""
    content = hashlib.sha256()
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        content.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()


def copied(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The network's state on the CPU, where later steps do not change it."""
    return {key: value.to("cpu", copy=True) for key, value in network.state_dict().items()}


@HOOKS.register_module()
class Probe(Hook):
    """Writes one dictionary to ``out`` when the run ends."""

    priority = "LOWEST"

    def __init__(self, out: str) -> None:
        self.out = str(out)
        lists = ("inputs", "lr", "logged", "training", "pixels", "taught", "random")
        self.seen: dict[str, Any] = {name: [] for name in lists}

    def before_train(self, runner: Any) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self.regularizer = getattr(model, "regularizer", None)
        self.seen["start"] = copied(model)
        self.seen["epoch"] = runner.epoch
        if self.regularizer is not None:
            self.network = self.regularizer.teacher.network
            self.seen["connectors"] = copied(self.regularizer)
            self.seen["teacher"] = copied(self.network)
            self.seen["before"] = checksum(self.network)
            self.network.register_forward_hook(self.teacher_was_called)
            optimized = {id(p) for group in runner.optim_wrapper.param_groups for p in group["params"]}
            self.seen["optimized"] = {
                "connectors": all(id(p) in optimized for p in self.regularizer.parameters()),
                "teacher": any(id(p) in optimized for p in self.network.parameters()),
            }

    def teacher_was_called(self, network: torch.nn.Module, args: tuple[torch.Tensor, ...], output: Any) -> None:
        self.seen["training"].append(any(module.training for module in network.modules()))
        self.seen["taught"].append(len(args[0]))

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        pixels = torch.stack(list(data_batch["inputs"])).numpy().tobytes()
        targets = b"".join(s.gt_fields.heatmaps.numpy().tobytes() for s in data_batch["data_samples"])
        self.seen["inputs"].append(hashlib.sha256(pixels + targets).hexdigest())
        self.seen["pixels"] += [hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in data_batch["inputs"]]
        self.seen["random"].append(hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest())
        self.seen["lr"].append(runner.optim_wrapper.get_lr()["lr"][0])

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.seen["logged"].append({key: float(value) for key, value in outputs.items()})

    def after_train(self, runner: Any) -> None:
        if self.regularizer is not None:
            self.seen["after"] = checksum(self.network)
            self.seen["last_connectors"] = copied(self.regularizer)
        torch.save(self.seen, self.out if runner.rank == 0 else f"{self.out}.rank{runner.rank}")
