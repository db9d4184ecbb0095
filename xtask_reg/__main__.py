"""``python -m xtask_reg``."""

import sys

from xtask_reg.cli import main

sys.exit(main())
