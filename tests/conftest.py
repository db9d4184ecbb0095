"""Settings for all tests: one thread each, and the folder of real data."""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

from pathlib import Path  # noqa: E402

import pytest  # noqa: E402


@pytest.fixture
def data_root() -> Path:
    """The folder of real data named by ``XTASK_DATA_ROOT``; without that variable the test is skipped."""
    root = os.environ.get("XTASK_DATA_ROOT")
    if not root:
        pytest.skip("XTASK_DATA_ROOT does not name a folder with real data")
    return Path(root)
