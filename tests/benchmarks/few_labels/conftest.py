"""A small landmark set in place of the real one, and an untrained source network."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from grid.places import Places
from made_results import write_identities
from mmpose.registry import MODELS

import xtask_reg.integrations.mmpose_compat  # noqa: F401 - makes the import of MMPose's networks possible
from xtask_reg.data import synthetic
from xtask_reg.sources import dlib_resnet29_dense, save_weights

PEOPLE = {"train": range(24), "val": range(24, 28), "test": range(28, 40)}


@pytest.fixture(scope="session")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("few_labels")
    for split, people in PEOPLE.items():
        synthetic.write_landmark_set(root / "data" / "frl", people, 1, 64, split=split)
    subsets = {"pfl_philtrum_lip14": {"index": [*range(14)]}}
    (root / "data" / "frl" / "subsets.json").write_text(json.dumps(subsets))
    torch.manual_seed(0)
    classifier = {"fc.weight": torch.randn(158, 256), "fc.bias": torch.zeros(158)}
    (root / "sources").mkdir()
    narrow = {"type": "ResNet", "depth": 18, "base_channels": 32}
    for name, network in {"dlib": dlib_resnet29_dense(), "untrained": MODELS.build(narrow)}.items():
        save_weights({**network.state_dict(), **classifier}, root / "sources" / f"{name}.safetensors", {})
    noise = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), np.uint8)
    write_identities(root / "data", noise, "abaabb", seen=2)
    return Places(root / "data", root / "sources")
