"""The names under which the ways to do a training step, and its parts, stand in result files and reports."""

from __future__ import annotations

PLAIN, FLOOR, FIRST = "FT", "floor: FT + bare teacher", "bare teacher, then FT"
OURS, OURS_FIRST, OFF = "xtask_reg", "xtask_reg, teacher first", "xtask_reg, all weights 0"
BESIDE = "by hand, teacher on a second stream"
TORCHDISTILL, WRAPPER = "torchdistill's hooks", "module wrapper"
TEACHER, LOSSES = "bare teachers alone", "losses alone"
