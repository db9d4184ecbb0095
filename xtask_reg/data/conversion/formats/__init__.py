"""Readers of annotation formats; each returns a :class:`LandmarkTable`."""

from __future__ import annotations

from .csv_table import read_csv
from .image_list import read_list
from .pts_files import read_pts
from .table import LandmarkTable

__all__ = ["LandmarkTable", "read_csv", "read_list", "read_pts"]
