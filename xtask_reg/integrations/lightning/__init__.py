"""xtask_reg in a LightningModule of ``lightning`` or ``pytorch_lightning``."""

from xtask_reg.integrations.lightning.mixin import CrossTaskMixin

__all__ = ["CrossTaskMixin"]
