"""Segmentation without a framework: the Dice coefficient of label masks in NumPy."""

from xtask_reg.segmentation.dice import dice_over_set, dice_per_image

__all__ = ["dice_over_set", "dice_per_image"]
