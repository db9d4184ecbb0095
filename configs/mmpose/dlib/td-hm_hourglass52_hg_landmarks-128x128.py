# HG at the size of the other configs here; without a source.
_base_ = ["../_base_/runtime.py", "../_base_/schedule.py", "../_base_/landmarks_128x128.py", "../_base_/hourglass.py"]
