"""Source networks of the grid: the config that fine-tunes each, and its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """A source network.

    Attributes:
        config: the MMPose config that fine-tunes it, below ``configs/mmpose``.
        weights: its file in the folder of prepared sources; none if the student starts from scratch, and then nothing
            below applies.
        last: tap of the last encoder features.
        earlier: tap one stage before, at twice the resolution.
        last_stage: what comes after it in the encoder, which alone trains in FTP.
        channels: of the last features.
        classes: of its classifier; 0 without one.
        small_batches: whether its batch norms must be set to keep the source's statistics.
        rate_factor: the factor of the learning rates tried for the encoder: a network with batch norm tolerates, and
            needs, larger ones than one without.
        holds_out: n, if its training did not see every n-th image of lfw158; 0 if it was not trained on these.
        multiscale: whether the decoder reads the maps of every stage instead of the last.
    """

    config: str
    weights: str = ""
    last: str = ""
    earlier: str = ""
    last_stage: Sequence[str] = ()
    channels: int = 0
    classes: int = 0
    small_batches: bool = False
    rate_factor: float = 1
    holds_out: int = 0
    multiscale: bool = False


RES18 = "demo/td-hm_res18_ft_synthetic-128x128.py"
_NETWORKS = {
    "dlib": Source(
        "dlib/td-hm_dlib29_ft_landmarks-128x128.py",
        "dlib.safetensors",
        "backbone.net",
        "backbone.net.blocks.128_2",
        [f"backbone.net.blocks.{name}" for name in ("256_down", "256_1", "256_2")],
        256,
        158,
    ),
    "imagenet": Source(
        "timm/td-hm_efficientnet-lite0_ft_landmarks-128x128.py",
        "imagenet.safetensors",
        "backbone.net.blocks.6",
        "backbone.net.blocks.4",
        ["backbone.net.blocks.5", "backbone.net.blocks.6"],
        320,
        rate_factor=16,
    ),
    "lfw": Source(
        RES18,
        "lfw.safetensors",
        "backbone.layer4",
        "backbone.layer3",
        ["backbone.layer4"],
        256,
        158,
        small_batches=True,
        rate_factor=4,
        holds_out=5,
    ),
    "untrained": Source(
        RES18,
        "untrained.safetensors",
        "backbone.layer4",
        "backbone.layer3",
        ["backbone.layer4"],
        256,
        158,
        rate_factor=4,
    ),
    "scratch": Source("dlib/td-hm_hourglass52_hg_landmarks-128x128.py"),
}
SOURCES = {
    **_NETWORKS,
    "dlib-multiscale": replace(
        _NETWORKS["dlib"],
        config="dlib/td-hm_dlib29-multiscale_ft_landmarks-128x128.py",
        last="backbone.net.blocks.256_2",
        multiscale=True,
    ),
    "untrained-multiscale": replace(
        _NETWORKS["untrained"], config="demo/td-hm_res18-multiscale_ft_synthetic-128x128.py", multiscale=True
    ),
}


def weights_file(name: str, prepared: Path) -> Path:
    """The path of a source's weights.

    Raises:
        FileNotFoundError: if they were not prepared.
    """
    file = prepared / SOURCES[name].weights
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist: run `few_labels.py prepare` first")
    return file
