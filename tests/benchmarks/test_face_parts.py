"""benchmarks/face_parts.py on a handful of tiny faces."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import face_parts
import numpy as np
import pytest
import torch
import torchvision
from parts import datasets, training
from parts.datasets import FRL_CLASSES, Case, Faces, read_faces, without_sides
from parts.report import difference, markdown_table, sentence
from PIL import Image

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def run(method: str, seed: int, dice: list[list[float | None]]) -> dict[str, Any]:
    return {"method": method, "seed": seed, "seconds": 1.0, "dice": dice}


def test_table_by_hand() -> None:
    """Two images; the second shows no nose, neither really nor predicted."""
    runs = [
        run("CTD-ED", 0, [[1.0, 0.5, 0.2], [1.0, 0.7, None]]),
        run("FT", 0, [[0.8, 0.3, 0.4], [0.6, 0.5, None]]),
    ]
    assert markdown_table({"classes": ["background", "eye", "nose"], "runs": runs}).splitlines() == [
        "| class | FT, seed 0 | CTD-ED, seed 0 |",
        "|---|---|---|",
        "| background | 0.700 | 1.000 |",
        "| eye | 0.400 | 0.600 |",
        "| nose | 0.400 | 0.200 |",
        "| mean but background | 0.400 | 0.400 |",
    ]


@pytest.mark.parametrize(("gains", "clear"), [((0.1, 0.1, 0.1), True), ((0.3, -0.3, 0.03), False)])
def test_the_difference_is_that_of_the_same_seed_and_image(gains: tuple[float, ...], clear: bool) -> None:
    levels = {0: np.array([0.2, 0.8, 0.5]), 1: np.array([0.6, 0.1, 0.4])}
    runs = [
        run(method, seed, [[0.9, one + gain * share, None] for one, gain in zip(levels[seed], gains)])
        for seed in (1, 0)
        for method, share in (("CTD-ED", 1), ("FT", 0))
    ]
    found = difference({"runs": runs})
    assert found.mean == pytest.approx(np.mean(gains))
    assert (found.low > 0) == clear
    assert f"{found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f}) over 2 seeds" in sentence({"runs": runs})


def test_left_and_right_become_one_class() -> None:
    names, labels = without_sides(["background", "left_eye", "nose", "right_eye", "upper_lip"])
    assert names == ["background", "eye", "nose", "upper_lip"]
    np.testing.assert_array_equal(labels, [0, 1, 2, 1, 3])


def test_faces_are_read_in_rgb_and_masks_without_new_labels(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    image, mask = random.integers(0, 256, (64, 64, 3), np.uint8), random.choice([0, 7], (64, 64)).astype(np.uint8)
    for folder, pixels in (("images", image), ("masks", mask)):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels).save(tmp_path / folder / "one.png")
    (tmp_path / "set.json").write_text(json.dumps({"images": [{"file_name": "images/one.png"}]}))
    labels = np.arange(8, dtype=np.uint8)
    whole, half = (read_faces(tmp_path / "set.json", size, labels) for size in (64, 32))
    np.testing.assert_array_equal(whole.images[0].permute(1, 2, 0), image)
    np.testing.assert_array_equal(whole.masks[0], mask)
    means = image.reshape(32, 2, 32, 2, 3).mean((1, 3))
    np.testing.assert_allclose(half.images[0].permute(1, 2, 0), means, atol=0.51)
    assert set(half.masks.unique().tolist()) == {0, 7}
    cv2.imwrite(str(tmp_path / "masks" / "one.png"), image)
    with pytest.raises(ValueError, match="no grey PNG"):
        read_faces(tmp_path / "set.json", 64, labels)
    cv2.imwrite(str(tmp_path / "masks" / "one.png"), mask + 1)
    with pytest.raises(ValueError, match="one.png has the label 8; expected 0 to 7"):
        read_faces(tmp_path / "set.json", 64, labels)


@pytest.fixture
def case() -> Case:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 32, 32), generator=random, dtype=torch.uint8)
    faces = Faces(["a", "b", "c", "d"], images, torch.randint(0, 3, (4, 32, 32), generator=random))
    return Case(["background", "eye", "nose"], faces, faces, None)


def test_methods_differ_by_the_term_alone(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its weight CTD-ED is FT, bit by bit; with it, it is not."""
    torch.manual_seed(0)
    source = torchvision.models.resnet18(num_classes=3)
    before = {key: tensor.clone() for key, tensor in source.state_dict().items()}

    def trained(method: str, seed: int = 0, epochs: int = 2) -> torch.Tensor:
        return torch.cat(
            [p.detach().flatten() for p in training.train(method, source, case, seed, epochs).parameters()]
        )

    plain = trained("FT")
    assert not torch.equal(plain, trained("FT", seed=1))
    monkeypatch.setattr(training, "RATIO", 0.0)
    assert torch.equal(plain, trained("CTD-ED"))
    monkeypatch.setattr(training, "RATIO", 0.5)
    assert not torch.equal(trained("FT", epochs=7), trained("CTD-ED", epochs=7))  # five steps are measured only
    assert all(torch.equal(tensor, before[key]) for key, tensor in source.state_dict().items())


def test_image_and_mask_are_mirrored_together(case: Case) -> None:
    marked = case.train.images.clone()
    marked[:, 0] = (case.train.masks * 100).byte()
    twin = Case(case.classes, Faces(case.train.names, marked, case.train.masks), case.test, None)
    shown = [(images[:, 0], masks) for images, masks in training._batches(twin, 0, 4)]
    mean, std = training.CONVENTION.mean[0], training.CONVENTION.std[0]
    for images, masks in shown:
        np.testing.assert_allclose((images * std + mean) * 255 / 100, masks, atol=1e-3)
    given = [mask for _, masks in shown for mask in masks]
    assert len(given) == 4 * len(case.train.masks)
    for known in (case.train.masks, case.train.masks.flip(2)):
        assert any(torch.equal(mask, face) for mask in given for face in known)


def test_the_whole_benchmark_writes_result_and_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "PEOPLE", {"train": range(2), "test": range(5, 8)})
    monkeypatch.setattr(datasets, "SOURCE_PEOPLE", 2)
    monkeypatch.setattr(datasets, "SOURCE_IMAGES", 3)
    monkeypatch.setattr(face_parts, "SIZE", 32)
    monkeypatch.setattr(face_parts, "EPOCHS", {"synthetic": (1, 1)})
    monkeypatch.setattr(sys, "argv", ["face_parts.py", "--out", str(tmp_path), "--seeds", "1"])
    face_parts.main()
    results = json.loads((tmp_path / "benchmarks" / "results" / "face_parts_synthetic.json").read_text())
    assert [(each["method"], each["seed"]) for each in results["runs"]] == [("FT", 0), ("CTD-ED", 0)]
    assert all(np.shape(each["dice"]) == (3, 12) for each in results["runs"])
    assert results["versions"]["segmentation-models-pytorch"]
    assert results["commit"]
    assert cv2.imread(str(tmp_path / "docs" / "images" / "face_parts.png")).std() > 20


def test_the_photographs_can_be_read(data_root: Path) -> None:
    if not (data_root / "frl" / "masks").is_dir():
        pytest.skip("XTASK_DATA_ROOT has no frl/masks")
    faces = read_faces(data_root / "frl" / "test.json", 256, np.arange(len(FRL_CLASSES), dtype=np.uint8))
    assert set(faces.masks.unique().tolist()) == set(range(len(FRL_CLASSES)))
    assert len(faces.images) == len(faces.masks) == len(set(faces.names))


@pytest.mark.parametrize("name", ["synthetic", "frl"])
def test_result_files_are_complete(name: str) -> None:
    results = json.loads((RESULTS / f"face_parts_{name}.json").read_text())
    assert {(each["method"], each["seed"]) for each in results["runs"]} == {
        (method, seed) for method in ("FT", "CTD-ED") for seed in (0, 1)
    }
    shape = results["images"]["test"], len(results["classes"])
    for each in results["runs"]:
        dice = np.array(each["dice"], float)
        assert dice.shape == shape
        assert np.nanmin(dice) >= 0
        assert np.nanmax(dice) <= 1
