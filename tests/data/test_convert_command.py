"""convert-landmarks from its command line to MMPose's data set."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest

from xtask_reg.cli import convert_landmarks
from xtask_reg.data.coco import landmark_names
from xtask_reg.data.conversion.splits import split_by_person


@pytest.fixture
def run(command_line):
    return functools.partial(command_line, convert_landmarks, "convert-landmarks")


@pytest.fixture
def photos(noise, save, tmp_path):
    """A CSV file with three photographs each of ten persons, the left eye annotated in some."""
    lines = ["file,person,eye_x,eye_y,nose_x,nose_y,mouth left_x,mouth left_y,mouth right_x,mouth right_y"]
    for number in range(30):
        name = f"visit{number % 3}/{number // 3:02d}.png"
        save(tmp_path / "photos" / name, noise(120, 100, number))
        eye = "," if number % 7 == 3 else "30.5,20"
        lines.append(f"{name},person {number // 3},{eye},60,{50 + number / 10},40,80,75,82")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    (tmp_path / "pairs.csv").write_text("mouth left,mouth right\n")
    return tmp_path


def load(path, **arguments):
    from mmengine.registry import init_default_scope
    from mmpose.registry import DATASETS

    import xtask_reg.integrations.mmpose  # noqa: F401

    init_default_scope("mmpose")
    return DATASETS.build(
        {"type": "LandmarkDataset", "data_root": str(path.parent), "ann_file": path.name, "pipeline": [], **arguments}
    )


def test_command_writes_what_the_data_set_reads(read, run, photos, capsys):
    out = photos / "new/set"
    run(
        *(photos / "labels.csv", "--images", photos / "photos", "--out", out, "--flip-pairs", photos / "pairs.csv"),
        *("--mirror", "eye", "--size", 96, "--seed", 3),
    )
    persons = {}
    for split, count in (("train", 21), ("val", 3), ("test", 6)):
        images, points = read(out / f"{split}.json")
        assert len(images) == count
        persons[split] = {image["person"] for image in images}
        names = landmark_names(out / f"{split}.json")
        assert names.names == ("eye", "nose", "mouth left", "mouth right", "eye_mirrored")
        assert names.flip == (4, 1, 3, 2, 0)
        assert {image["source"] for image in images} <= {f"visit{v}/{p:02d}.png" for v in range(3) for p in range(10)}
        data = load(out / f"{split}.json")
        assert len(data) == count
        for sample, written in zip(data, points):
            np.testing.assert_allclose(sample["keypoints"][0], written[:, :2], rtol=1e-6)
            assert sample["keypoints_visible"][0].tolist() == (written[:, 2] > 0).tolist()
            assert sample["bbox"].tolist() == [[0, 0, 96, 96]]
    everyone = [f"person {number}" for number in range(10)]
    assert persons == {
        split: {person for person, of in zip(everyone, split_by_person(everyone, (0.7, 0.1, 0.2), 3)) if of == split}
        for split in persons
    }
    printed = capsys.readouterr().out
    assert "30 images, 5 landmarks" in printed
    assert "train    21 images of 7 persons" in printed
    assert "34 points are not annotated" in printed  # 30 partners and 4 eyes
    assert "2 flip pairs" in printed
    assert "persons are unknown" not in printed


def test_a_flip_moves_the_label_to_the_mirrored_partner(run, photos):
    run(photos / "labels.csv", "--images", photos / "photos", "--out", photos / "out", "--mirror", "eye", "--size", 96)
    plain = load(photos / "out/train.json")
    flips = [{"type": "LoadImage"}, {"type": "RandomFlip", "prob": 1.0}]
    flipped = load(photos / "out/train.json", pipeline=flips)
    seen = set()
    for before, after in zip(plain, flipped):
        visible = before["keypoints_visible"][0, 0]
        seen.add(visible)
        assert before["keypoints_visible"][0, 4] == 0
        assert after["keypoints_visible"][0, 0] == 0
        assert after["keypoints_visible"][0, 4] == visible
        if visible:
            x, y = before["keypoints"][0, 0]
            np.testing.assert_allclose(after["keypoints"][0, 4], (95 - x, y), rtol=1e-5)
    assert seen == {0, 1}


def test_without_persons_images_are_persons(read, run, photos, capsys):
    text = (photos / "labels.csv").read_text().replace("person,", "name,", 1)
    (photos / "labels.csv").write_text(text)
    run(photos / "labels.csv", "--images", photos / "photos", "--out", photos / "out", "--split", 0.5, 0.5, 0)
    printed = capsys.readouterr().out
    assert "each image counts as a separate person" in printed
    assert "train    15 images of 15 persons" in printed
    assert "0 flip pairs: a flip swaps no landmarks" in printed
    assert "note: ignored columns: name" in printed
    assert sorted(path.name for path in (photos / "out").iterdir()) == ["images", "train.json", "val.json"]
    assert all("person" not in image for image in read(photos / "out/train.json")[0])


def test_persons_from_a_file(run, photos):
    lines = (photos / "labels.csv").read_text().splitlines()
    (photos / "bare.csv").write_text("\n".join(",".join(line.split(",")[:1] + line.split(",")[2:]) for line in lines))
    (photos / "persons.csv").write_text("file,person\n" + "\n".join(",".join(x.split(",")[:2]) for x in lines[1:]))
    for labels, more in (("labels.csv", ()), ("bare.csv", ("--persons", photos / "persons.csv"))):
        run(photos / labels, *more, "--images", photos / "photos", "--out", photos / f"out {labels}", "--size", 64)
    first, second = ((photos / f"out {labels}/val.json").read_text() for labels in ("labels.csv", "bare.csv"))
    assert first == second


def test_split_column_is_taken_as_it_is(read, run, photos):
    lines = (photos / "labels.csv").read_text().splitlines()
    splits = ["split", *("test" if "person 4" in line else "train" for line in lines[1:])]
    (photos / "labels.csv").write_text("\n".join(f"{line},{split}" for line, split in zip(lines, splits)))
    run(photos / "labels.csv", "--images", photos / "photos", "--out", photos / "out")
    images, _ = read(photos / "out/test.json")
    assert [image["source"] for image in images] == [f"visit{visit}/04.png" for visit in range(3)]
    assert not (photos / "out/val.json").exists()
    with pytest.raises(ValueError, match="has a column 'split'"):
        run(photos / "labels.csv", "--split", 1, 0, 0, "--out", photos / "other")
    (photos / "labels.csv").write_text((photos / "labels.csv").read_text().replace("82,test", "82,train", 1))
    with pytest.raises(ValueError, match=r"persons in two splits: 1, e\.g\. 'person 4' in \['test', 'train'\]"):
        run(photos / "labels.csv", "--images", photos / "photos", "--out", photos / "other")


def test_faces_of_one_image(noise, save, read, run, tmp_path, capsys):
    """WFLW lists several faces of an image: each gets a crop, all in one split."""
    faces = [(200 * k + 20, 20) for k in range(3)]
    lines = []
    for number in range(10):
        save(tmp_path / f"{number}.png", noise(640, 200, number))
        for x, y in faces:
            corners = [(x, y), (x + 100, y), (x + 50, y + 90)]
            lines.append(" ".join(f"{value:.6f}" for point in corners for value in point) + f" {number}.png")
    (tmp_path / "list.txt").write_text("\n".join(lines))
    run(tmp_path / "list.txt", "--points", 3, "--out", tmp_path / "out", "--size", 64)
    assert "note: images of several faces: 10" in capsys.readouterr().out
    sources = {}
    for split in ("train", "val", "test"):
        for image in read(tmp_path / f"out/{split}.json")[0]:
            sources.setdefault(image["source"], []).append(split)
    assert sorted(sources) == [f"{number}.png" for number in range(10)]
    assert all(len(splits) == 3 and len(set(splits)) == 1 for splits in sources.values())
    assert len(list((tmp_path / "out/images").iterdir())) == 30


def test_pts_folder_gets_ibug_pairs_and_zero_based_points(noise, save, read, run, tmp_path, capsys):
    points = np.random.default_rng(0).uniform(20, 180, (68, 2))
    for number in range(10):
        save(tmp_path / f"set/{number}.png", noise(200, 200, number))
        body = "\n".join(f"{x + 1:.6f} {y + 1:.6f}" for x, y in points)
        (tmp_path / f"set/{number}.pts").write_text(f"version: 1\nn_points: 68\n{{\n{body}\n}}\n")
    run(tmp_path / "set", "--out", tmp_path / "out")
    assert "29 flip pairs" in capsys.readouterr().out
    (image, *_), written = read(tmp_path / "out/train.json")
    left, top, side = image["crop"]
    expected = (points - (left, top) + 0.5) * 256 / side - 0.5
    np.testing.assert_allclose(written[0, :, :2], expected, rtol=0, atol=1e-3)
    assert landmark_names(tmp_path / "out/train.json").flip[36] == 45


@pytest.mark.parametrize(("pairs", "count"), [((), 0), (("--flip-pairs", "ibug68"), 29)])
def test_a_table_of_68_points_is_not_taken_for_ibug(noise, save, run, tmp_path, capsys, pairs, count):
    save(tmp_path / "a.png", noise(200, 200))
    header = ",".join(f"x{index},y{index}" for index in range(68))
    values = ",".join(f"{index},{2 * index}" for index in range(68))
    (tmp_path / "labels.csv").write_text(f"file,{header}\na.png,{values}\n")
    run(tmp_path / "labels.csv", "--out", tmp_path / "out", "--split", 1, 0, 0, *pairs)
    assert f"{count} flip pairs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("labels.dat",), "set --format to csv, pts or list"),
        (("labels.csv", "--points", "3"), "--points is only for the format list"),
        (("labels.csv", "--flip-pairs", "wflw98"), "for 98 landmarks; there are 4"),
        (("labels.csv", "--persons", "labels.csv"), "has a column 'person'"),
        (("labels.csv", "--mirror", "ear"), r"no landmark \['ear'\] to mirror"),
        (("labels.csv", "--flip-pairs", "pairs.csv", "--mirror", "mouth left"), "already have a flip pair"),
        (("labels.csv", "--crop", "whole", "--margin", "0.1"), "leave it out with --crop whole"),
        (("sized.csv", "--mm-per-pixel", "0.1"), "sized.csv has a column 'mm_per_pixel': remove it or"),
    ],
)
def test_bad_commands(run, photos, monkeypatch, arguments, says):
    monkeypatch.chdir(photos)
    sized = [
        f"{line},{0.2 if number else 'mm_per_pixel'}"
        for number, line in enumerate(Path("labels.csv").read_text().splitlines())
    ]
    Path("sized.csv").write_text("\n".join(sized))
    with pytest.raises(ValueError, match=says):
        run(*arguments, "--out", "out", "--images", "photos")
    assert not Path("out").exists()


@pytest.mark.parametrize("by_image", [False, True])
def test_whole_images_of_known_size(read, run, photos, by_image):
    sized = [
        f"{line},{number / 100 if number else 'mm_per_pixel'}"
        for number, line in enumerate((photos / "labels.csv").read_text().splitlines())
    ]
    (photos / "sized.csv").write_text("\n".join(sized))
    source = ["sized.csv"] if by_image else ["labels.csv", "--mm-per-pixel", 0.3]
    run(photos / source[0], *source[1:], "--out", photos / "out", "--images", photos / "photos", "--crop", "whole")
    rows = {line.split(",")[0]: number / 100 for number, line in enumerate(sized)}
    for image in read(photos / "out/train.json")[0]:
        assert image["crop"] == [0, -10, 120]
        size = rows[image["source"]] if by_image else 0.3
        assert image["mm_per_pixel"] == pytest.approx(size * 120 / 256)


def test_format_can_be_given(read, run, photos, monkeypatch):
    monkeypatch.chdir(photos)
    Path("labels.csv").rename("labels.dat")
    run("labels.dat", "--format", "csv", "--out", "out", "--images", "photos", "--first-pixel", 0.5)
    images, points = read(Path("out/train.json"))
    left, top, side = images[0]["crop"]
    y = 50 + (3 * int(images[0]["person"].split()[1]) + int(images[0]["source"][5])) / 10
    expected = (np.array([60, y]) - 0.5 - (left, top) + 0.5) * 256 / side - 0.5
    np.testing.assert_allclose(points[0, 1, :2], expected, rtol=0, atol=1e-3)


def test_json(run, photos, capsys):
    out = photos / "set"
    arguments = [
        photos / "labels.csv",
        "--images",
        photos / "photos",
        "--out",
        out,
        "--flip-pairs",
        photos / "pairs.csv",
    ]
    run(*arguments, "--json")
    printed = json.loads(capsys.readouterr().out)
    assert (printed["out"], printed["images"]) == (str(out), {"train": 21, "val": 3, "test": 6})
    assert printed["persons"] == {"train": 7, "val": 1, "test": 2}
    assert printed["names"] == ["eye", "nose", "mouth left", "mouth right"]
    assert printed["flip"] == [0, 1, 3, 2]
    assert printed["unannotated"] == sum(number % 7 == 3 for number in range(30))
