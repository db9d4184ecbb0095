"""Prepares what the grid needs besides the data: source networks in the form that the configs read, synthetic faces."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import Config
from prepare_efficientnet_lite0 import INPUT, convert
from torch import Tensor, nn

from grid import identities
from grid.cell import SIZE
from grid.datasets import DATASETS
from grid.places import Places
from grid.sources import SOURCES
from xtask_reg import InputAdapter
from xtask_reg.data.synthetic import write_landmark_set
from xtask_reg.demo.source import train_source
from xtask_reg.inputs import PIXELS
from xtask_reg.integrations.mmengine.source import untrained_source
from xtask_reg.integrations.mmpose.tools import read_config
from xtask_reg.integrations.mmpose_files import configs
from xtask_reg.sources import DLIB_INPUT, dlib_resnet29_dense, load_covering, load_weights, save_weights

BEYOND_ENCODER = ("fc.", "blocks.256_down_out.")
WEIGHT_DECAY = 1e-5
EPOCHS = 20
"""Epochs of the source trained here, over the images of lfw158 that are not held out."""
PREPARED = Path("runs/few-labels/prepared")
"""Size of the synthetic faces in pixels."""


def prepare(places: Places) -> None:
    """Write what is missing: the file of each source, and the synthetic faces."""
    places.prepared.mkdir(parents=True, exist_ok=True)
    writers = {"imagenet": prepare_imagenet, "dlib": prepare_dlib, "lfw": prepare_lfw, "untrained": prepare_untrained}
    for name, write in writers.items():
        file = places.prepared / SOURCES[name].weights
        if not file.exists():
            write(places.data_root, file)
    for name, landmarks in DATASETS.items():
        if landmarks.drawn and not (places.landmarks(name) / landmarks.files[0]).exists():
            write_landmark_set(places.landmarks(name), range(landmarks.drawn), 1, SIZE, split="faces")


def prepare_imagenet(data_root: Path, out: Path) -> None:
    """EfficientNet-Lite0 in timm's names."""
    file = data_root / "sources" / "efficientnet-lite0-57934424.pth"
    save_weights(convert(load_weights(file), file.name), out, INPUT.to_metadata())


def prepare_dlib(data_root: Path, out: Path) -> None:
    """dlib's encoder, and on its averaged features a classifier of the people of lfw158, which L_CD needs."""
    published = load_weights(data_root / "sources" / "dlib_face_resnet29_128d.pth")
    weights = {key: value for key, value in published.items() if not key.startswith(BEYOND_ENCODER)}
    encoder = dlib_resnet29_dense().eval()
    load_covering(encoder, weights, name="dlib")
    known = identities.read(data_root)
    features = identities.pooled(nn.Sequential(InputAdapter(PIXELS, DLIB_INPUT), encoder), known.images)
    labels, held_out = known.labels, known.held_out
    fc = _fit(features[~held_out], labels[~held_out], len(known.people))
    accuracy = (fc(features[held_out]).argmax(1) == labels[held_out]).float().mean().item()
    weights |= {f"fc.{key}": value for key, value in fc.state_dict().items()}
    save_weights(weights, out, {"lfw158_accuracy": f"{accuracy:.4f}", **DLIB_INPUT.to_metadata()})


def prepare_lfw(data_root: Path, out: Path) -> None:
    """A narrow ResNet-18 trained to recognise the people of lfw158."""
    held_out = SOURCES["lfw"].holds_out
    train_source(data_root / "lfw158" / "identities.csv", out, _res18(), held_out, EPOCHS, lambda loss: None)


def prepare_untrained(data_root: Path, out: Path) -> None:
    """The same network, untrained."""
    torch.manual_seed(0)
    network = untrained_source(_res18())
    save_weights({**network.backbone.state_dict(), **network.classifier.state_dict()}, out, {})


def _res18() -> Config:
    model = read_config(configs() / "demo" / "td-hm_res18_ctd-com_synthetic-128x128.py").model
    model.teacher.classifier.num_classes = SOURCES["lfw"].classes
    return model


def _fit(features: Tensor, labels: Tensor, classes: int) -> nn.Linear:
    """Multinomial logistic regression."""
    torch.manual_seed(0)
    fc = nn.Linear(features.shape[1], classes)
    optimizer = torch.optim.LBFGS(fc.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(fc(features), labels) + WEIGHT_DECAY / 2 * fc.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return fc.requires_grad_(False)
