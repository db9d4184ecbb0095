"""The dimension of the channels, given the sides of the image: a list by hand."""

from __future__ import annotations

import pytest

from xtask_reg.map_layout import channels_are_last

FIRST, LAST = False, True


@pytest.mark.parametrize(
    ("image", "maps"),
    [
        ((64, 64), {(1, 96, 16, 16): FIRST, (1, 768, 2, 2): FIRST, (1, 8, 16, 16): FIRST}),
        ((64, 64), {(1, 16, 16, 96): LAST, (1, 2, 2, 768): LAST, (1, 16, 16, 8): LAST}),
        ((224, 224), {(1, 7, 7, 768): LAST, (1, 768, 7, 7): FIRST}),
        # sides are not equal, or rounded up or down
        ((96, 64), {(1, 24, 16, 8): LAST, (1, 8, 24, 16): FIRST}),
        ((64, 96), {(1, 2, 3, 64): LAST, (1, 64, 2, 3): FIRST}),
        ((100, 75), {(1, 25, 18, 8): LAST, (1, 13, 9, 16): LAST, (1, 7, 5, 32): LAST, (1, 4, 3, 64): LAST}),
        ((100, 75), {(1, 8, 25, 18): FIRST, (1, 16, 12, 9): FIRST, (1, 32, 6, 4): FIRST, (1, 64, 3, 2): FIRST}),
        # both orders fit
        ((64, 64), {(1, 16, 16, 16): FIRST}),
        ((64, 64), {(1, 16, 16, 16): FIRST, (1, 8, 8, 8): FIRST, (1, 4, 4, 4): FIRST}),
        ((64, 64), {(1, 16, 16, 16): LAST, (1, 8, 8, 32): LAST}),
        ((64, 64), {(1, 16, 16, 16): FIRST, (1, 32, 8, 8): FIRST}),
        ((64, 64), {(1, 16, 16, 16): FIRST, (1, 8, 8, 32): LAST, (1, 32, 8, 8): FIRST}),
        ((64, 64), {(1, 16, 16, 16): LAST, (1, 8, 8, 32): LAST, (1, 32, 8, 8): FIRST, (1, 2, 2, 9): LAST}),
        # volumes
        ((64, 64, 64), {(1, 16, 16, 16, 8): LAST, (1, 8, 16, 16, 16): FIRST}),
        ((32, 64, 64), {(1, 8, 16, 16, 24): LAST, (1, 24, 8, 16, 16): FIRST}),
        ((64, 64, 64), {(1, 64, 64, 16, 16): FIRST}),  # a stem that leaves the depth alone
        # neither fits: not a map of the whole image, or not a map
        ((64, 64), {(1, 5, 16, 8): FIRST, (1, 197, 384): FIRST, (1, 1000): FIRST, (4, 1, 49, 49): FIRST}),
        ((64,), {(1, 16, 16): FIRST}),
        ((), {(1, 5): FIRST}),
    ],
)
def test_by_hand(image: tuple[int, ...], maps: dict[tuple[int, ...], bool]) -> None:
    assert dict(zip(maps, channels_are_last(list(maps), image))) == maps
