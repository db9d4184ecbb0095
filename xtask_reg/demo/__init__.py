"""The demonstration: fine-tuning with and without the source network's help, on synthetic faces."""

import xtask_reg.integrations.mmpose  # noqa: F401  (makes mmpose importable)
