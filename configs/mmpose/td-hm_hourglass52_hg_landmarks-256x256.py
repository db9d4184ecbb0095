# HG: a stacked Hourglass from scratch, on the same data, with the same codec, schedule and metric.
_base_ = ["_base_/runtime.py", "_base_/schedule.py", "_base_/landmarks_256x256.py", "_base_/hourglass.py"]
