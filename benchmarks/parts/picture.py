"""Faces with true and predicted masks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from parts.datasets import Faces

ROWS = 3


def plot_masks(faces: Faces, predicted: Mapping[str, np.ndarray], classes: int) -> Figure:
    """The first images: picture, true mask, and each method's masks ``(N, S, S)``."""
    columns = {"truth": faces.masks.numpy(), **predicted}
    figure = Figure(figsize=(1.6 * (len(columns) + 1), 1.65 * ROWS), layout="constrained")
    grid = figure.subplots(ROWS, len(columns) + 1, squeeze=False)
    for row, image in enumerate(faces.images[:ROWS]):
        grid[row, 0].imshow(image.permute(1, 2, 0).numpy())
        for column, masks in enumerate(columns.values(), start=1):
            colours = colormaps["tab20"](np.arange(classes) % 20)[masks[row]]
            grid[row, column].imshow(colours, interpolation="nearest")
    for axes, title in zip(grid[0], ["image", *columns]):
        axes.set_title(title, fontsize=10)
    for axes in grid.flat:
        axes.set_axis_off()
    return figure
