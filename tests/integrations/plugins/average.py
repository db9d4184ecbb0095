"""Run by torchrun: averages the buffers of a frozen and of a trained batch norm over the processes."""

from types import SimpleNamespace

import torch
import torch.distributed as dist
from torch import nn

from xtask_reg.integrations.mmengine.sync_buffers import SyncTrainedBuffersHook

dist.init_process_group("gloo")
torch.manual_seed(0)
model = nn.ModuleDict({"frozen": nn.BatchNorm2d(1000).eval(), "trained": nn.BatchNorm2d(4)})
model["frozen"].running_mean.uniform_(0, 1)
before = model["frozen"].running_mean.clone()
model["trained"].running_mean.fill_(dist.get_rank())
SyncTrainedBuffersHook().after_train_epoch(SimpleNamespace(model=model))
assert torch.equal(model["frozen"].running_mean, before)
assert torch.equal(model["trained"].running_mean, torch.ones(4)), model["trained"].running_mean

dist.barrier()
dist.destroy_process_group()
