from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from xtcocotools.coco import COCO

from xtask_reg.data import synthetic
from xtask_reg.data.synthetic import FLIP_INDEX, LANDMARK_NAMES, PART_NAMES, Face, Identity, View, render

Writer = Callable[..., Path]
PEOPLE = (0, 5, 11, 26)
WRITERS = (synthetic.write_landmark_set, synthetic.write_identity_set)


def point(face: Face, name: str) -> np.ndarray:
    return face.landmarks[LANDMARK_NAMES.index(name)]


def part(face: Face, *names: str) -> np.ndarray:
    return np.isin(face.mask, [PART_NAMES.index(name) for name in names])


def changed(one: Face, other: Face) -> np.ndarray:
    return np.abs(one.image.astype(int) - other.image).max(-1)


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def corners(region: np.ndarray) -> np.ndarray:
    """The leftmost and the rightmost pixel of a region, (2, 2) as x, y; at their mean height if they are several."""
    y, x = np.nonzero(region)
    return np.array([(edge, y[x == edge].mean()) for edge in (x.min(), x.max())])


@pytest.mark.parametrize("person", PEOPLE)
@pytest.mark.parametrize(
    ("parts", "left", "right"),
    [
        (("left_eye",), "left_eye_outer", "left_eye_inner"),
        (("right_eye",), "right_eye_inner", "right_eye_outer"),
        (("upper_lip", "mouth", "lower_lip"), "mouth_left", "mouth_right"),
    ],
)
def test_corners_are_the_extremes_of_their_part(person: int, parts: tuple[str, ...], left: str, right: str) -> None:
    face = render(Identity.from_seed(person), View(), 512)
    found = corners(part(face, *parts))
    np.testing.assert_allclose(found, [point(face, left), point(face, right)], atol=2.0)  # one pixel at 256


@pytest.mark.parametrize("person", PEOPLE)
def test_cupids_bow_is_on_the_upper_edge_of_the_lip(person: int) -> None:
    face = render(Identity.from_seed(person), View(), 256)
    lip = part(face, "upper_lip")
    top = {x: np.flatnonzero(lip[:, x]).min() for x in np.flatnonzero(lip.any(0))}
    dip = point(face, "lip_dip")
    assert abs(top[round(dip[0])] - dip[1]) <= 1
    for name, side in (("lip_peak_left", -1), ("lip_peak_right", 1)):
        peak = point(face, name)
        assert abs(top[round(peak[0])] - peak[1]) <= 1
        assert abs(peak[1] - min(y for x, y in top.items() if side * (x - dip[0]) > 0)) <= 1
        assert peak[1] < dip[1]


@pytest.mark.parametrize("person", PEOPLE)
def test_nose_bottom_is_the_lowest_point_of_the_nose(person: int) -> None:
    face = render(Identity.from_seed(person), View(), 256)
    y, x = np.nonzero(part(face, "nose"))
    np.testing.assert_allclose((x[y == y.max()].mean(), y.max()), point(face, "nose_bottom"), atol=1.0)


@pytest.mark.parametrize("seed", range(12))
def test_landmarks_follow_pose_and_expression(seed: int) -> None:
    view = replace(View.from_seed(seed), shift_x=0.0)
    face = render(Identity.from_seed(seed), view, 256)
    edges = {
        ("left_eye",): ("left_eye_outer", "left_eye_inner"),
        ("right_eye",): ("right_eye_inner", "right_eye_outer"),
        ("upper_lip", "mouth", "lower_lip"): (
            "mouth_left",
            "mouth_right",
            "lip_peak_left",
            "lip_dip",
            "lip_peak_right",
        ),
    }
    for parts, names in edges.items():
        region = part(face, *parts).astype(np.uint8)
        y, x = np.nonzero(cv2.dilate(region, np.ones((3, 3))) - region)
        for name in names:
            distance = np.hypot(*(np.stack([x, y], -1) - point(face, name)).T).min()
            assert distance <= 1.3, (name, distance)


@pytest.mark.parametrize("person", PEOPLE)
def test_picture_of_the_lips_agrees_with_landmarks_and_mask(person: int) -> None:
    who = Identity.from_seed(person)
    pale, red = (render(replace(who, lip_redness=value), View(), 256) for value in (0.0, 1.0))
    drawn = changed(pale, red) > 12
    lips = part(red, "upper_lip", "mouth", "lower_lip")
    assert (drawn & lips).sum() / (drawn | lips).sum() > 0.9
    np.testing.assert_allclose(
        corners(drawn)[:, 0], [point(red, f"mouth_{side}")[0] for side in ("left", "right")], atol=2
    )


@pytest.mark.parametrize("person", PEOPLE)
def test_picture_of_the_lashes_ends_at_the_eye_corners(person: int) -> None:
    who = Identity.from_seed(person)
    thin, thick = (render(replace(who, lash=value), View(), 512) for value in (0.0, 0.03))
    drawn = changed(thin, thick) > 6
    middle = round(point(thick, "nose_bottom")[0])
    names = ("left_eye_outer", "left_eye_inner", "right_eye_inner", "right_eye_outer")
    found = [*corners(drawn[:, :middle])[:, 0], *(corners(drawn[:, middle:])[:, 0] + middle)]
    np.testing.assert_allclose(found, [point(thick, name)[0] for name in names], atol=4)


@pytest.mark.parametrize("person", PEOPLE)
def test_picture_of_the_philtrum_has_its_ridges_between_the_landmarks(person: int) -> None:
    who = replace(Identity.from_seed(person), skin=1)
    view = replace(View(), light_x=0.0, light_y=0.0)
    flat, deep = (render(replace(who, philtrum_relief=value), view, 512) for value in (0.0, 1.0))
    brighter = deep.image.astype(int).sum(-1) - flat.image.astype(int).sum(-1)
    middle = int(point(deep, "nose_bottom")[0])
    for side, half in (("left", slice(0, middle)), ("right", slice(middle, None))):
        top, bottom = point(deep, f"philtrum_top_{side}"), point(deep, f"philtrum_bottom_{side}")
        heights = []
        for share in (0.25, 0.5, 0.75):
            x, y = top + share * (bottom - top)
            row = brighter[round(y) - 1 : round(y) + 2].sum(0)[half]
            assert abs(half.start + row.argmax() - x) <= 3, (side, share)
            heights.append(row.max())
        along = (bottom - top) / np.linalg.norm(bottom - top)
        for x, y in (top - 10 * along, bottom + 10 * along):
            assert brighter[round(y) - 1 : round(y) + 2, round(x)].sum() < 0.3 * min(heights)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_landmarks_scale_with_the_picture(size: int) -> None:
    who, view = Identity.from_seed(3), View.from_seed(4)
    small, large = render(who, view, size), render(who, view, 2 * size)
    np.testing.assert_allclose(large.landmarks, 2 * small.landmarks + 0.5, atol=1e-9)
    assert small.image.shape == (size, size, 3)
    assert small.mask.shape == (size, size)
    shrunk = cv2.resize(
        render(who, replace(view, noise=0.0), 2 * size).image, (size, size), interpolation=cv2.INTER_AREA
    )
    assert np.abs(shrunk.astype(int) - render(who, replace(view, noise=0.0), size).image).mean() < 4


def test_flip_index_swaps_left_and_right_which_are_sides_of_the_image() -> None:
    face = render(Identity(), View(), 32)
    assert [FLIP_INDEX[i] for i in FLIP_INDEX] == list(range(14))
    swap = {"left": "right", "right": "left"}
    for name, partner in zip(LANDMARK_NAMES, FLIP_INDEX, strict=True):
        assert "_".join(swap.get(word, word) for word in name.split("_")) == LANDMARK_NAMES[partner]
        assert "left" not in name or point(face, name)[0] < face.landmarks[partner, 0]


@pytest.mark.parametrize("seed", range(4))
def test_mirrored_view_gives_the_mirrored_face(seed: int) -> None:
    who = replace(Identity.from_seed(seed), hairline=0, freckles=0.0)
    view = replace(View.from_seed(seed), noise=0.0)
    opposite = {name: -getattr(view, name) for name in ("yaw", "roll", "shift_x", "gaze_x", "light_x")}
    face, mirror = render(who, view, 128), render(who, replace(view, **opposite), 128)
    expected = np.stack([127 - face.landmarks[:, 0], face.landmarks[:, 1]], -1)[list(FLIP_INDEX)]
    np.testing.assert_allclose(mirror.landmarks, expected, atol=1e-9)
    inside = part(face, "skin", "nose", "upper_lip", "lower_lip")
    difference = changed(face, replace(mirror, image=mirror.image[:, ::-1]))
    assert difference[inside].mean() < 2
    assert difference[part(face, "left_eye", "right_eye")].mean() < 8


@pytest.mark.parametrize("angle", [-0.2, 0.1])
def test_roll_is_a_rotation_by_its_angle(angle: float) -> None:
    plain, rolled = (render(Identity(), View(roll=roll), 128).landmarks for roll in (0.0, angle))
    c, s = np.cos(angle), np.sin(angle)
    rotated = (plain - plain.mean(0)) @ np.array([[c, s], [-s, c]])
    np.testing.assert_allclose(rolled - rolled.mean(0), rotated, atol=1e-9)


@pytest.mark.parametrize(("turn", "axis"), [({"yaw": 0.3}, 0), ({"pitch": 0.2}, 1)])
def test_turning_moves_near_points_further_than_far_ones(turn: dict[str, float], axis: int) -> None:
    who = Identity()
    moved = render(who, View(**turn), 128).landmarks - render(who, View(), 128).landmarks
    names = list(LANDMARK_NAMES)
    assert moved[names.index("nose_bottom"), axis] > moved[names.index("left_eye_outer"), axis] + 1
    assert moved[names.index("nose_bottom"), axis] > 1


def aligned_shape(face: Face) -> np.ndarray:
    z = face.landmarks @ (1, 1j)
    z = (z - z[0]) / (z[3] - z[0])
    return np.concatenate([z.real, z.imag])


@pytest.mark.parametrize("describe", [aligned_shape, lambda face: face.image.ravel()], ids=["shape", "pixels"])
def test_people_are_told_apart_by_the_nearest_mean(describe: Callable[[Face], np.ndarray]) -> None:
    """Landmarks aligned by the outer eye corners, or raw pixels, name the person far above chance (1 in 8)."""
    people, views = range(8), [View.from_seed(seed) for seed in range(8 * 14)]
    seen = [[describe(render(Identity.from_seed(p), view, 32)) for view in views[14 * p : 14 * p + 14]] for p in people]
    means = np.array([descriptions[:10] for descriptions in seen], float).mean(1)
    hits = [((means - new) ** 2).sum(1).argmin() == p for p in people for new in seen[p][10:]]
    assert np.mean(hits) > 0.4


def test_every_part_is_there_and_in_its_place() -> None:
    face = render(replace(Identity(), hair_back=0), View(mouth_open=0.1, smile=0.5), 128)
    assert set(np.unique(face.mask)) == set(range(len(PART_NAMES)))
    centre = {name: np.argwhere(part(face, name)).mean(0)[::-1] for name in PART_NAMES}
    assert centre["left_eye"][0] < centre["nose"][0] < centre["right_eye"][0]
    order = ("hair", "left_brow", "left_eye", "nose", "upper_lip", "mouth", "lower_lip", "neck", "clothes")
    assert np.all(np.diff([centre[name][1] for name in order]) > 0)


@pytest.mark.parametrize("seed", range(4))
def test_hair_mask_is_where_the_hair_colour_shows(seed: int) -> None:
    who, view = Identity.from_seed(seed), replace(View.from_seed(seed), noise=0.0, blur=0.0)
    drawn = changed(render(replace(who, hair=0), view, 128), render(replace(who, hair=4), view, 128)) > 60
    face = render(who, view, 128)
    hair = part(face, "hair", "left_brow", "right_brow")
    assert (drawn & hair).sum() / (drawn | hair).sum() > 0.92


def test_a_seed_names_one_person_and_one_view() -> None:
    assert Identity.from_seed(9) == Identity.from_seed(9) != Identity.from_seed(10)
    assert View.from_seed(9) == View.from_seed(9) != View.from_seed(10)
    assert len({synthetic.view_seed(s, p, i) for s in range(5) for p in range(5) for i in range(5)}) == 125


@pytest.mark.parametrize("write", WRITERS)
def test_same_arguments_give_the_same_bytes(write: Writer, tmp_path: Path) -> None:
    for name in ("one", "two", "two"):  # the third call overwrites
        write(tmp_path / name, range(3, 5), 2, 48, seed=7)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    write(tmp_path / "other", range(3, 5), 2, 48, seed=8)
    pictures = [{k: v for k, v in files(tmp_path / n).items() if k.endswith(".png")} for n in ("one", "other")]
    assert pictures[0].keys() == pictures[1].keys()
    assert not set(pictures[0].values()) & set(pictures[1].values())


@pytest.mark.parametrize("write", WRITERS)
def test_a_picture_does_not_depend_on_the_others(write: Writer, tmp_path: Path) -> None:
    write(tmp_path / "few", [4], 1, 48)
    write(tmp_path / "many", [2, 4, 9], 3, 48)
    few, many = ({k: v for k, v in files(tmp_path / n).items() if k.endswith(".png")} for n in ("few", "many"))
    assert len(few) == 1
    assert len(many) == 9
    assert few.items() <= many.items()


def test_landmark_set_reads_back_with_cocotools(tmp_path: Path) -> None:
    people, size = range(20, 23), 64
    path = synthetic.write_landmark_set(tmp_path, people, 2, size, seed=3, split="val")
    assert path == tmp_path / "val.json"
    coco = COCO(str(path))
    assert {image["identity"] for image in coco.imgs.values()} == set(people)
    assert len(coco.anns) == len(coco.imgs) == 6
    (category,) = coco.loadCats(coco.getCatIds())
    assert category["keypoints"] == list(LANDMARK_NAMES)
    assert category["flip_index"] == list(FLIP_INDEX)
    assert all(1 <= joint <= 14 for bone in category["skeleton"] for joint in bone)
    for number, image in enumerate(coco.imgs.values()):
        (annotation,) = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        seed = synthetic.view_seed(3, image["identity"], number % 2)
        face = render(Identity.from_seed(image["identity"]), View.from_seed(seed), size)
        points = np.reshape(annotation["keypoints"], (14, 3))
        np.testing.assert_allclose(points[:, :2], face.landmarks, atol=1e-3)
        assert np.all(points[:, 2] == 2)
        assert (annotation["num_keypoints"], annotation["bbox"]) == (14, [0, 0, size, size])
        pixels = cv2.cvtColor(cv2.imread(str(tmp_path / image["file_name"])), cv2.COLOR_BGR2RGB)
        np.testing.assert_array_equal(pixels, face.image)
        assert (image["height"], image["width"]) == pixels.shape[:2]


def test_identity_set_lists_each_picture_with_its_person(tmp_path: Path) -> None:
    path = synthetic.write_identity_set(tmp_path, [8, 2], 3, 32)
    with path.open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [int(row["identity"]) for row in rows] == [8, 8, 8, 2, 2, 2]
    assert len({row["file"] for row in rows}) == 6
    assert all(cv2.imread(str(tmp_path / row["file"])).shape == (32, 32, 3) for row in rows)


def test_sets_of_different_people_share_nobody(tmp_path: Path) -> None:
    content = json.loads(synthetic.write_landmark_set(tmp_path, range(100, 104), 1, 32).read_text())
    with synthetic.write_identity_set(tmp_path, range(4), 1, 32).open(newline="") as table:
        source = {int(row["identity"]) for row in csv.DictReader(table)}
    assert not source & {image["identity"] for image in content["images"]}
    assert len({Identity.from_seed(seed) for seed in (*range(4), *range(100, 104))}) == 8
    assert len(list((tmp_path / "images").iterdir())) == 8


@pytest.mark.parametrize("write", WRITERS)
def test_an_interrupted_run_leaves_no_index(write: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = write(tmp_path, range(2), 1, 32)
    calls = []

    def fail_at_the_second(extension: str, image: np.ndarray) -> tuple[bool, np.ndarray]:
        calls.append(extension)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return True, np.zeros(1, np.uint8)

    monkeypatch.setattr(cv2, "imencode", fail_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, range(2), 1, 32)
    assert not index.exists()
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 1, 64), "people is empty"),
        (([1, 1], 1, 64), "different identity seeds"),
        (([-1, 2], 1, 64), "different identity seeds"),
        (([1], 0, 64), "images_per_person must be at least 1, got 0"),
        (([1], -3, 64), "images_per_person must be at least 1, got -3"),
        (([1], 1, 31), "size must be at least 32 pixels, got 31"),
        (([1], 1, 64, -1), "seed must be >= 0, got -1"),
    ],
)
def test_bad_sets_are_refused_before_anything_is_written(
    write: Writer, arguments: tuple[Any, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "set", *arguments)
    assert not (tmp_path / "set").exists()


def test_bad_faces_and_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 32 pixels, got 16"):
        render(Identity(), View(), 16)
    for draw in (Identity.from_seed, View.from_seed):
        with pytest.raises(ValueError, match="seeds must be >= 0"):
            draw(-1)
    for split in ("", "a/b"):
        with pytest.raises(ValueError, match="plain name"):
            synthetic.write_landmark_set(tmp_path, [1], 1, 32, split=split)
