"""Colours and line styles of curves in figures."""

from __future__ import annotations

from typing import Any

# Okabe and Ito's palette, which is safe for colour-blind readers; 28 combinations with the line styles
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINE_STYLES = ("-", (0, (6, 1.5)), (0, (6, 1.5, 1, 1.5)), (0, (1.2, 1.2)))


def curve_style(index: int) -> dict[str, Any]:
    """Colour and line style of the curve with this number, from 0."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": LINE_STYLES[index % len(LINE_STYLES)]}
