"""The files in ``references/`` and the tests beside them import ``case`` and ``collected`` from this folder."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
