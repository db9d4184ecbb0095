"""`xtask-reg predict`, compared with MMPose's own inference; its files, read by other readers."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from mmpose.apis import inference_topdown, init_model
from PIL import Image
from xtcocotools.coco import COCO

from xtask_reg.data.conversion.formats import read_csv
from xtask_reg.data.synthetic.landmarks import FLIP_INDEX, LANDMARK_NAMES
from xtask_reg.integrations.mmpose.dataset import LandmarkDataset
from xtask_reg.integrations.mmpose.predict import predict
from xtask_reg.integrations.mmpose.student import load_student
from xtask_reg.landmarks.faces import Face

BOX = (10.0, 5.0, 40.0, 48.0)


@pytest.fixture(scope="module")
def model(config_file, checkpoint):
    return load_student(config_file, checkpoint)


@pytest.fixture(scope="module")
def by_mmpose(config_file, checkpoint):
    """``by_mmpose(image, box)``: the output of MMPose's inference, with a config without a teacher."""
    from mmengine.config import Config

    config = Config.fromfile(config_file)
    for key in ("teacher", "terms", "monitor"):
        config.model.pop(key)
    reference = init_model(config, str(checkpoint), device="cpu")
    reference.test_cfg["output_heatmaps"] = True

    def get(image, box=None):
        (result,) = inference_topdown(reference, str(image), None if box is None else np.array([box]), "xywh")
        found = result.pred_instances
        return found.keypoints[0], found.keypoint_scores[0], result.pred_fields.heatmaps.numpy()

    return get


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("box", [None, BOX])
def test_points_are_those_of_mmposes_inference(model, by_mmpose, photographs, box, batch_size):
    batches = list(predict(model, [Face(image, box) for image in photographs[:5]], batch_size))
    assert [len(batch) for batch in batches] == ([1] * 5 if batch_size == 1 else [3, 2])
    for image, face in zip(photographs, (face for batch in batches for face in batch)):
        points, scores, heatmaps = by_mmpose(image, box)
        np.testing.assert_allclose(face.points, points, atol=1e-4)
        np.testing.assert_allclose(face.confidence, scores, rtol=1e-4)
        np.testing.assert_allclose(face.heatmaps, heatmaps, atol=1e-5)
        assert face.image == image
        assert face.box == (box or (0, 0, 64, 64))


def test_cells_of_the_heatmaps_lie_where_the_points_are(model, photographs):
    (face,) = next(predict(model, [Face(photographs[0], BOX)]))
    rows, columns = np.unravel_index(face.heatmaps.reshape(14, -1).argmax(axis=1), face.heatmaps.shape[1:])
    homogeneous = np.stack([columns, rows, np.ones(14)])
    np.testing.assert_allclose(face.points, (face.to_image @ homogeneous).T, atol=1e-4)


def test_a_turned_photograph_is_seen_upright(model, photographs, tmp_path):
    """A camera held sideways writes turned pixels and an EXIF orientation; points are those of the upright image."""
    upright = Image.open(photographs[0]).convert("RGB").crop((0, 0, 64, 48))
    upright.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    straight, turned = next(predict(model, [Face(tmp_path / "upright.png"), Face(tmp_path / "turned.png")]))
    assert straight.size == turned.size == (64, 48)
    np.testing.assert_allclose(turned.points, straight.points, atol=1e-4)


@pytest.fixture(scope="module")
def made(tmp_path_factory, config_file, checkpoint, landmarks):
    """A folder made by the command from a folder of images, with distances."""
    from xtask_reg import cli

    out = tmp_path_factory.mktemp("predict") / "made"
    pairs = ["--distance", "fissure=left_eye_outer:left_eye_inner", "mouth=mouth_left:mouth_right"]
    arguments = [config_file, checkpoint, landmarks / "images", "--out", out, *pairs]
    assert cli.main(["predict", *map(str, arguments)]) == 0
    return out


def test_table(made, landmarks, by_mmpose):
    table = pd.read_csv(made / "landmarks.csv")
    images = sorted((landmarks / "images").iterdir())
    assert [(made / file).resolve() for file in table["file"]] == images
    for row in (0, 15):
        points, scores, _ = by_mmpose(images[row])
        for k, name in enumerate(LANDMARK_NAMES):
            line = table.iloc[row]
            expected = [*points[k], scores[k]]
            np.testing.assert_allclose([line[f"{name}_{p}"] for p in ("x", "y", "confidence")], expected, atol=1e-3)


def test_convert_landmarks_reads_the_table(made, landmarks):
    table, points = read_csv(made / "landmarks.csv"), pd.read_csv(made / "landmarks.csv")
    assert table.names == LANDMARK_NAMES
    np.testing.assert_allclose(table.points[:, 0, 1], points["left_eye_outer_y"])
    assert (table.root / table.files[0]).resolve() == sorted((landmarks / "images").iterdir())[0]


def test_json_is_a_landmark_file_that_others_read(made, landmarks, command, by_mmpose, capsys):
    coco = COCO(str(made / "landmarks.json"))
    assert coco.loadCats([1])[0]["keypoints"] == list(LANDMARK_NAMES)
    dataset = LandmarkDataset(ann_file="landmarks.json", data_root=str(made), pipeline=[])
    assert dataset.metainfo["flip_indices"] == list(FLIP_INDEX)
    images = sorted((landmarks / "images").iterdir())
    assert len(dataset) == len(images) == 16
    for number, image in ((1, images[0]), (16, images[15])):
        (annotation,) = coco.loadAnns(coco.getAnnIds([number]))
        points, scores, _ = by_mmpose(image)
        np.testing.assert_allclose(np.reshape(annotation["keypoints"], (-1, 3))[:, :2], points, atol=1e-3)
        np.testing.assert_allclose(annotation["keypoint_scores"], scores, atol=1e-5)
        assert annotation["score"] == pytest.approx(scores.mean(), abs=1e-5)
        assert annotation["bbox"] == [0, 0, 64, 64]
    command("check-data", made / "landmarks.json")
    said = capsys.readouterr()
    assert "ERROR" not in said.out.upper().replace("ERRORS: 0", "").replace("OUTSIDE", "")
    assert "does not exist" not in said.out + said.err


def test_distances(made):
    points = pd.read_csv(made / "landmarks.csv")
    found = pd.read_csv(made / "distances.csv")
    expected = np.hypot(
        points["mouth_left_x"] - points["mouth_right_x"], points["mouth_left_y"] - points["mouth_right_y"]
    )
    np.testing.assert_allclose(found["mouth_px"], expected, atol=1e-3)
    assert list(found) == ["file", "left", "top", "width", "height", "fissure_px", "mouth_px"]


def test_pictures_show_the_photograph_twice(made, landmarks):
    pictures = sorted((made / "pictures").iterdir())
    images = sorted((landmarks / "images").iterdir())
    assert [picture.stem for picture in pictures] == [f"{n:05d}_{image.stem}" for n, image in enumerate(images, 1)]
    for picture, image in zip(pictures[:3], images):
        left = cv2.imread(str(picture))[:, :512]
        photograph = cv2.resize(cv2.imread(str(image)), (512, 512))
        assert np.abs(left.astype(int) - photograph).mean() < 12


def test_boxes_and_millimetres(command, config_file, checkpoint, photographs, by_mmpose, tmp_path, capsys):
    """Two faces in the first image, one in the second; a line for an image that is not asked for."""
    first, second, third = photographs[:3]
    rows = [(f"images/{first.name}", *BOX), (first.name, 0, 0, 64, 64), (second.name, 2, 3, 50, 50), (third.name, *BOX)]
    with (tmp_path / "boxes.csv").open("w") as file:
        csv.writer(file).writerows([("file", "left", "top", "width", "height"), *rows])
    (tmp_path / "pairs.json").write_text(json.dumps({"width": ["mouth_left", "mouth_right"]}))
    out = tmp_path / "out"
    options = ["--boxes", tmp_path / "boxes.csv", "--distance", tmp_path / "pairs.json", "--mm-per-pixel", "0.25"]
    assert command("predict", config_file, checkpoint, first, second, "--out", out, "--json", *options) == 0
    facts = json.loads(capsys.readouterr().out)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assert (facts["images"], facts["faces"], facts["landmarks"], facts["device"]) == (2, 3, 14, device)
    assert facts["faces_per_second"] == pytest.approx(3 / facts["seconds"])
    table, widths = pd.read_csv(out / "landmarks.csv"), pd.read_csv(out / "distances.csv")["width_mm"]
    content = json.loads((out / "landmarks.json").read_text())
    assert [annotation["image_id"] for annotation in content["annotations"]] == [1, 1, 2]
    for row, (image, box) in enumerate([(first, BOX), (first, (0, 0, 64, 64)), (second, (2, 3, 50, 50))]):
        points, scores, _ = by_mmpose(image, box)
        left, right = (points[LANDMARK_NAMES.index(name)] for name in ("mouth_left", "mouth_right"))
        assert table["mouth_left_x"][row] == pytest.approx(left[0], abs=1e-3)
        assert widths[row] == pytest.approx(0.25 * np.linalg.norm(left - right), abs=1e-3)
        assert facts["confidence"]["lowest"] <= scores.min() + 1e-6


@pytest.mark.parametrize("bits", [8, 12])
def test_images_that_show_nothing_are_told(command, config_file, checkpoint, photographs, tmp_path, capsys, bits):
    """12-bit values in a 16-bit file, of which the upper 8 bits are read."""
    grey = cv2.imread(str(photographs[0]), cv2.IMREAD_GRAYSCALE).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), grey * (256 if bits == 8 else 16))
    assert command("predict", config_file, checkpoint, tmp_path / "a.png", "--out", tmp_path / "out") == 0
    assert ("nearly black images: 1; 12-bit data in 16 bits?" in capsys.readouterr().out) == (bits == 12)


def test_no_pictures(command, config_file, checkpoint, photographs, tmp_path, monkeypatch):
    """From another folder, with a relative path, into an existing empty folder."""
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(photographs[0].parent)
    out = tmp_path / "there"
    arguments = [config_file, checkpoint, photographs[0].name, "--out", out, "--no-pictures", "--box", *BOX]
    assert command("predict", *arguments) == 0
    assert sorted(path.name for path in out.iterdir()) == ["landmarks.csv", "landmarks.json"]
    assert (out / pd.read_csv(out / "landmarks.csv")["file"][0]).resolve() == photographs[0]


def test_a_safetensors_file_with_names(model, checkpoint, config_file, photographs, tmp_path):
    from xtask_reg.integrations.mmpose.student import export_metadata
    from xtask_reg.sources import load_weights, save_weights

    save_weights(load_weights(checkpoint), tmp_path / "s.safetensors", export_metadata(model))
    again = load_student(config_file, tmp_path / "s.safetensors")
    faces = [Face(Path(photographs[0]))]
    np.testing.assert_array_equal(*(next(predict(each, faces))[0].points for each in (model, again)))


NAMED = {"keypoint_id2name": {index: f"n{index}" for index in range(14)}, "flip_indices": list(range(14))}
ODD_META = [
    (None, "does not name its landmarks"),
    ([1], "does not name its landmarks"),
    ({"dataset_meta": [1]}, "does not name its landmarks"),
    ({"dataset_meta": {**NAMED, "keypoint_id2name": None}}, "does not name its landmarks"),
    ({"dataset_meta": {**NAMED, "flip_indices": None}}, "does not name its landmarks"),
    ({"dataset_meta": {**NAMED, "flip_indices": [1, 0]}}, "must pair the 14 landmarks mutually"),
    ({"dataset_meta": {**NAMED, "flip_indices": [99] * 14}}, "must pair the 14 landmarks mutually"),
    ({"dataset_meta": {**NAMED, "flip_indices": ["a"] * 14}}, "must pair the 14 landmarks mutually"),
]
ODD_METADATA = [
    ({"landmarks": "5", "flip_index": "[0]"}, "does not name its landmarks"),
    ({"landmarks": "[" * 100_000, "flip_index": "[0]"}, "does not name its landmarks"),
    ({"landmarks": json.dumps([*"abcdefghijklmn"]), "flip_index": "{}"}, "does not name its landmarks"),
    ({"landmarks": json.dumps([*"abcdefghijklmn"]), "flip_index": "[1]"}, "must pair the 14 landmarks mutually"),
]


@pytest.mark.parametrize(("meta", "message"), [*ODD_META, *ODD_METADATA])
def test_landmarks_that_a_checkpoint_does_not_say(meta, message, config_file, checkpoint, tmp_path):
    from xtask_reg.sources import load_weights, save_weights

    if (meta, message) in ODD_METADATA:
        save_weights(load_weights(checkpoint), tmp_path / "odd.safetensors", meta)
    else:
        torch.save({"meta": meta, "state_dict": load_weights(checkpoint)}, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match=rf"odd\..*{message}"):
        load_student(config_file, next(tmp_path.iterdir()))


@pytest.fixture(params=["no test", "wrapped"])
def other_config(request, config_file, tmp_path) -> Path:
    """A config of the same network without a test set, or with one wrapped in another."""
    from mmengine.config import Config

    config = Config.fromfile(config_file)
    if request.param == "no test":
        config.test_dataloader = config.test_cfg = config.test_evaluator = None
    else:
        config.test_dataloader.dataset = dict(type="ConcatDataset", datasets=[config.test_dataloader.dataset])
    config.dump(tmp_path / "config.py")
    return tmp_path / "config.py"


def test_a_config_without_a_test_set_of_its_own(other_config, config_file, checkpoint, photographs, command, tmp_path):
    """As after ``convert-landmarks --split 0.8 0.2 0``: the images are prepared as those of the validation."""
    for name, config in (("a", config_file), ("b", other_config)):
        assert command("predict", config, checkpoint, photographs[0], "--out", tmp_path / name, "--no-pictures") == 0
    assert (tmp_path / "a/landmarks.csv").read_bytes() == (tmp_path / "b/landmarks.csv").read_bytes()
    assert command("export", other_config, checkpoint, tmp_path / "s.safetensors") == 0


@pytest.mark.parametrize("name", ["predict", "export"])
def test_a_config_without_any_pipeline(name, config_file, checkpoint, photographs, command, tmp_path, capsys):
    from mmengine.config import Config

    config = Config.fromfile(config_file)
    config.test_dataloader = config.val_dataloader = None
    config.dump(tmp_path / "config.py")
    arguments = [photographs[0], "--out", tmp_path / "out"] if name == "predict" else [tmp_path / "s.safetensors"]
    assert command(name, tmp_path / "config.py", checkpoint, *arguments) == 1
    assert "no pipeline in test_dataloader.dataset or val_dataloader.dataset" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["config.py"]


@pytest.mark.parametrize("stem", ["a" * 251, "ü" * 125, "図" * 83])
def test_long_names(stem, config_file, checkpoint, photographs, command, tmp_path):
    """As long as file systems allow, which counts bytes."""
    image = tmp_path / f"{stem}.png"
    image.write_bytes(photographs[0].read_bytes())
    out = tmp_path / "out"
    assert command("predict", config_file, checkpoint, image, "--out", out) == 0
    assert (out / pd.read_csv(out / "landmarks.csv")["file"][0]).resolve() == image
    (picture,) = (out / "pictures").iterdir()
    assert picture.stem.startswith(f"00001_{stem[:80]}")
    assert picture.suffix == ".jpg"


def test_a_name_that_is_not_in_utf_8_is_refused(config_file, checkpoint, photographs, command, tmp_path, capsys):
    """As from archives of other systems."""
    (tmp_path / os.fsdecode(b"M\xfcller.png")).write_bytes(photographs[0].read_bytes())
    assert command("predict", config_file, checkpoint, tmp_path, "--out", tmp_path / "out") == 1
    assert r"M\udcfcller.png' is not in UTF-8; rename it" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
