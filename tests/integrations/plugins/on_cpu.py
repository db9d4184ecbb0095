"""``on_cpu.py <script> <arguments>``: run a distributed script of MMEngine, which takes GPUs for granted, without."""

from __future__ import annotations

import runpy
import sys

import torch
from mmengine.runner import Runner

_wrap_model = Runner.wrap_model


def _wrap_without_device(self: Runner, model_wrapper_cfg: dict | None, model: torch.nn.Module) -> torch.nn.Module:
    return _wrap_model(self, model_wrapper_cfg or {"type": "MMDistributedDataParallel"}, model)


torch.cuda.set_device = lambda device: None
Runner.wrap_model = _wrap_without_device
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
