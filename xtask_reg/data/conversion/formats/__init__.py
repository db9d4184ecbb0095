"""Readers of annotation formats; each returns a :class:`LandmarkTable`."""

from __future__ import annotations

from xtask_reg.data.conversion.formats.csv_table import read_csv
from xtask_reg.data.conversion.formats.image_list import read_list
from xtask_reg.data.conversion.formats.pts_files import read_pts
from xtask_reg.data.conversion.formats.table import LandmarkTable

__all__ = ["LandmarkTable", "read_csv", "read_list", "read_pts"]
