"""Source networks of the grid: which config trains from them, and where their weights come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """A source network.

    Attributes:
        config: the MMPose config that fine-tunes it, below ``configs/mmpose``.
        weights: its file in the folder of prepared sources.
        last: tap of the last encoder features.
        earlier: tap one stage before, at twice the resolution.
        channels: of these.
        classes: of its classifier; 0 without one.
        small_batches: whether its batch norms must be told to keep the source's statistics.
        rate_factor: what the learning rates that are tried for the encoder are multiplied by. A network with batch norm
            stands, and wants, larger ones than one without.
        holds_out: every how many-th image of lfw158 its training did not see; 0 if it was not trained on these.
    """

    config: str
    weights: str
    last: str
    earlier: str
    channels: int
    classes: int = 0
    small_batches: bool = False
    rate_factor: float = 1
    holds_out: int = 0


RES18 = "demo/td-hm_res18_ft_synthetic-128x128.py"
SOURCES = {
    "dlib": Source(
        "dlib/td-hm_dlib29_ft_landmarks-128x128.py",
        "dlib.safetensors",
        "backbone.net",
        "backbone.net.blocks.128_2",
        256,
        158,
    ),
    "imagenet": Source(
        "timm/td-hm_efficientnet-lite0_ft_landmarks-128x128.py",
        "imagenet.safetensors",
        "backbone.net.blocks.6",
        "backbone.net.blocks.4",
        320,
        rate_factor=16,
    ),
    "lfw": Source(
        RES18,
        "lfw.safetensors",
        "backbone.layer4",
        "backbone.layer3",
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
        256,
        158,
        rate_factor=4,
    ),
}


def weights_file(name: str, prepared: Path) -> Path:
    """Where the weights of a source lie.

    Raises:
        FileNotFoundError: if they were not prepared.
    """
    file = prepared / SOURCES[name].weights
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist: run `few_labels.py prepare` first")
    return file
