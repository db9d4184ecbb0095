"""The names of methods and parts of a training step in result files and reports."""

from __future__ import annotations

PLAIN, FLOOR, FIRST = "FT", "floor: FT + bare teacher", "bare teacher, then FT"
OURS, OURS_FIRST, OFF = "xtask_reg", "xtask_reg, teacher first", "xtask_reg, all weights 0"
BESIDE = "by hand, teacher on a second stream"
TORCHDISTILL, WRAPPER = "torchdistill's hooks", "module wrapper"
TEACHER, LOSSES = "bare teachers alone", "losses alone"
