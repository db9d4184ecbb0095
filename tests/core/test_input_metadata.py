"""Input conventions in the metadata of files."""

from __future__ import annotations

import pytest

import xtask_reg as xr

WRITTEN = {
    "vggface2": (
        {"channels": "rgb", "mean": "131.0912,103.8827,91.4953", "std": "1,1,1", "value_range": "255"},
        xr.InputConvention(mean=(131.0912, 103.8827, 91.4953), std=(1, 1, 1), value_range=255),
    ),
    "sized": (
        {"channels": "bgr", "mean": "0.5,0.25,0", "std": "0.5,1,2", "value_range": "1", "size": "112,96"},
        xr.InputConvention(mean=(0.5, 0.25, 0), std=(0.5, 1, 2), channels="bgr", size=(112, 96)),
    ),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_convention_of_metadata(name: str) -> None:
    metadata, convention = WRITTEN[name]
    assert xr.InputConvention.from_metadata({**metadata, "source": "elsewhere"}) == convention
    assert convention.to_metadata() == metadata


@pytest.mark.parametrize(
    "metadata", [{}, {"source": "elsewhere", "sha256": "0"}, {"mean": "ImageNet"}, {"mean": "1,2,3", "std": "1,1,1"}]
)
def test_no_convention(metadata: dict[str, str]) -> None:
    assert xr.InputConvention.from_metadata(metadata) is None


@pytest.mark.parametrize(
    "change",
    [
        {"mean": "1,2"},
        {"mean": "red"},
        {"std": "0,1,1"},
        {"channels": "RGB"},
        {"value_range": "1,2"},
        {"size": "224"},
        {"size": "inf,2"},
        {"value_range": "nan"},
    ],
)
def test_bad_convention(change: dict[str, str]) -> None:
    metadata = {**WRITTEN["vggface2"][0], **change}
    with pytest.raises(ValueError, match="do not state an input convention") as error:
        xr.InputConvention.from_metadata(metadata)
    assert "131.0912" in str(error.value) or "mean" in change
