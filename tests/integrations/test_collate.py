"""``stacked_collate``: the same batch as MMEngine's, in fewer tensors."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import FUNCTIONS
from mmengine.structures import BaseDataElement
from mmpose.registry import DATASETS, MODELS
from torch import Tensor
from torch.utils.data import DataLoader

from xtask_reg.integrations.mmengine import stacked_collate

SIZE = 64


@pytest.fixture
def data(landmarks):
    pipeline = [
        *(dict(type="LoadImage"), dict(type="GetBBoxCenterScale", padding=1.0)),
        dict(type="TopdownAffine", input_size=(SIZE, SIZE)),
        dict(type="GenerateTarget", encoder=dict(type="ExactHeatmap")),
        dict(type="PackPoseInputs"),
    ]
    return DATASETS.build(
        dict(type="LandmarkDataset", data_root=str(landmarks), ann_file="train.json", pipeline=pipeline)
    )


def parts(samples: list[BaseDataElement]) -> dict[str, list[Tensor]]:
    return {
        "heatmaps": [sample.gt_fields.heatmaps for sample in samples],
        "weights": [sample.gt_instance_labels.keypoint_weights for sample in samples],
    }


def storages(tensors: list[Tensor]) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in tensors}


def test_the_same_batch(data) -> None:
    samples = [data[index] for index in range(4)]
    usual, stacked = pseudo_collate(copy.deepcopy(samples)), stacked_collate(samples)
    assert usual.keys() == stacked.keys()
    assert torch.equal(stacked["inputs"], torch.stack(usual["inputs"]))
    for name, wanted in parts(usual["data_samples"]).items():
        torch.testing.assert_close(parts(stacked["data_samples"])[name], wanted, rtol=0, atol=0)
    assert [s.metainfo["img_path"] for s in stacked["data_samples"]] == [s["data_samples"].img_path for s in samples]


def test_a_worker_sends_one_tensor_for_each_field(data) -> None:
    """Each separate tensor costs the training process a call to the worker, which passes a file descriptor."""
    for collate, number in ((pseudo_collate, 4), (stacked_collate, 1)):
        (batch,) = DataLoader(torch.utils.data.Subset(data, range(4)), 4, num_workers=1, collate_fn=collate)
        assert len(storages(list(batch["inputs"]))) == number
        assert {len(storages(each)) for each in parts(batch["data_samples"]).values()} == {number}


@pytest.mark.parametrize("training", [True, False])
def test_the_same_losses_to_the_last_bit(data, model_config, training) -> None:
    model = MODELS.build(model_config).train(training)
    model.init_weights()
    found = []
    for collate in (pseudo_collate, stacked_collate):
        batch = model.data_preprocessor(collate([data[index] for index in range(4)]), training)
        found.append([batch["inputs"], *model(**copy.deepcopy(batch), mode="loss").values()])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_images_of_several_sizes_stay_a_list() -> None:
    samples: list[dict[str, Any]] = [{"inputs": torch.zeros(3, side, 4)} for side in (4, 5)]
    assert [image.shape[1] for image in stacked_collate(samples)["inputs"]] == [4, 5]


def test_fields_that_differ_or_are_missing_stay_as_they_are() -> None:
    values = [torch.zeros(2), torch.ones(3), None]
    elements = [BaseDataElement(**({} if value is None else {"points": value})) for value in values]
    samples = [{"inputs": torch.zeros(3, 4, 4), "data_samples": element} for element in elements]
    found = stacked_collate(samples)["data_samples"]
    assert [len(element.get("points", ())) for element in found] == [2, 3, 0]


@pytest.mark.parametrize(
    "sample",
    [
        {"inputs": torch.zeros(3, 4, 4), "data_samples": torch.zeros(2)},
        {"inputs": torch.zeros(3, 4, 4)},
        {"inputs": {"left": torch.zeros(3, 4, 4)}, "data_samples": BaseDataElement(points=torch.zeros(2))},
        {"image": torch.zeros(3, 4, 4)},
    ],
    ids=["tensors", "no samples", "several inputs", "other names"],
)
def test_what_it_does_not_know_is_left_as_it_is(sample) -> None:
    usual, stacked = (
        collate([copy.deepcopy(sample) for _ in range(2)]) for collate in (pseudo_collate, stacked_collate)
    )
    assert usual.keys() == stacked.keys()
    for key in usual.keys() - {"inputs", "data_samples"}:
        torch.testing.assert_close(stacked[key], usual[key])
    if isinstance(sample.get("data_samples"), Tensor):
        torch.testing.assert_close(stacked["data_samples"], usual["data_samples"])
    if isinstance(sample.get("inputs"), dict):
        torch.testing.assert_close(stacked["inputs"], usual["inputs"])


def test_configs_find_it_by_name() -> None:
    assert FUNCTIONS.get("stacked_collate") is stacked_collate
