"""``on_cpu.py <script> <arguments>``: run a distributed script of MMEngine, which assumes GPUs, without any."""

from __future__ import annotations

import runpy
import sys

import torch

torch.cuda.set_device = lambda device: None
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
