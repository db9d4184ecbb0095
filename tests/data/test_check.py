"""check-data: a clean set has no findings, and each kind of damage has its own."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from xtask_reg.cli import check_data as check_data_command
from xtask_reg.data import synthetic
from xtask_reg.data.checks.check import check_data
from xtask_reg.data.checks.contact_sheet import COLOURS, contact_sheet
from xtask_reg.data.synthetic import FLIP_INDEX, LANDMARK_NAMES

COUNT = len(LANDMARK_NAMES)


@pytest.fixture
def run(command_line):
    return functools.partial(command_line, check_data_command, "check-data")


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    for split, people in (("train", range(4)), ("val", range(4, 6))):
        path = synthetic.write_landmark_set(folder, people, 2, 64, split=split)
        edit(path, lambda content: [i.update(person=f"p{i['identity']}") for i in content["images"]])
    return folder


@pytest.fixture
def files(clean, tmp_path):
    """Landmark files of a copy that a test may damage."""
    folder = Path(shutil.copytree(clean, tmp_path / "set"))
    return [folder / "train.json", folder / "val.json"]


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def put(value, *place):
    def change(content):
        for key in place[:-1]:
            content = content[key]
        content[place[-1]] = value

    return change


def point(annotation, landmark, x, y, visible=2):
    return put([x, y, visible], "annotations", annotation, "keypoints", slice(3 * landmark, 3 * landmark + 3))


def image(path, index):
    return path.parent / json.loads(path.read_text())["images"][index]["file_name"]


def repaint(path, index, pixels):
    image(path, index).write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def copy_keypoints(content):
    """The second picture gets the landmarks of the first, mirrored, under their old names."""
    points = np.reshape(content["annotations"][0]["keypoints"], (-1, 3))
    points[:, 0] = 63 - points[:, 0]
    content["annotations"][1]["keypoints"] = points.flatten().tolist()


def hide(landmarks):
    def change(content):
        for annotation in content["annotations"]:
            for landmark in landmarks:
                annotation["keypoints"][3 * landmark + 2] = 0

    return change


def annotate_twice(content):
    content["annotations"].append({**content["annotations"][0], "id": 99})


def findings(files):
    return [(finding.severity, finding.file.name, finding.message) for finding in check_data(files)]


def test_a_clean_set_has_no_findings(files):
    assert findings(files) == []


FIRST, SECOND = "images/train_00000_0000.png", "images/train_00000_0001.png"
DAMAGE = {
    "outside right": (
        point(0, 2, 64.5, 9),
        "error",
        f"{FIRST} (64 x 64): landmarks outside the image: {LANDMARK_NAMES[2]!r} at (64.5, 9)",
    ),
    "outside left": (point(1, 2, -0.75, 9), "error", f"{SECOND} (64 x 64): landmarks outside the image:"),
    "outside below": (point(0, 2, 9, 65), "error", f"landmarks outside the image: {LANDMARK_NAMES[2]!r} at (9, 65)"),
    "outside, occluded": (point(0, 2, 70, 9, 1), "warning", "landmarks outside their image, with visibility 1: "),
    "box of corners": (put([40, 40, 44, 44], "annotations", 0, "bbox"), "warning", "outside their bbox"),
    "one-sided flip": (put(0, "categories", 0, "flip_index", 1), "error", "flip_index must pair"),
    "flip that is no list": (put(7, "categories", 0, "flip_index"), "error", "flip_index must pair"),
    "names that collide": (
        put(["a", "a", "a (0)", *LANDMARK_NAMES[3:]], "categories", 0, "keypoints"),
        "error",
        "not unique, even with their index added",
    ),
    "size of the file": (put(65, "images", 0, "width"), "error", f"{FIRST} has 64 x 64 pixels; the file says 65 x 64"),
    "missing image": (put("images/none.png", "images", 0, "file_name"), "error", "none.png does not exist"),
    "image twice": (put(SECOND, "images", 0, "file_name"), "warning", f"{SECOND} has the same pixels as {SECOND}"),
    "annotated twice": (annotate_twice, "warning", f"{FIRST} has 2 annotations"),
    "one place": (
        lambda content: [point(0, 4, 30, 30)(content), point(0, 12, 30, 30)(content)],
        "warning",
        f"landmarks at the same place: {LANDMARK_NAMES[4]!r} and {LANDMARK_NAMES[12]!r} (in 1 of 8 faces)",
    ),
    "never annotated": (hide([4, 12]), "warning", f"never annotated: {LANDMARK_NAMES[4]}, {LANDMARK_NAMES[12]}"),
    "sides exchanged": (copy_keypoints, "warning", f"{SECOND}: flip pairs are swapped compared with the other faces"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found(files, damage):
    change, severity, says = DAMAGE[damage]
    edit(files[0], change)
    found = findings(files)
    assert any(finding[:2] == (severity, "train.json") and says in finding[2] for finding in found), found
    assert len(found) <= 2
    assert all(str(files[0].parent) not in message or damage == "missing image" for _, _, message in found)


NAMES, PAIRS = list(LANDMARK_NAMES), list(FLIP_INDEX)
UNLIKE = {
    "order": (
        NAMES[::-1],
        [COUNT - 1 - k for k in PAIRS[::-1]],
        f"another order: landmark 0 is {NAMES[-1]!r}; it is",
    ),
    "a name": ([*NAMES[:-1], "ear"], PAIRS, f"other landmarks: landmark {COUNT - 1} is 'ear'; it is {NAMES[-1]!r} in"),
    "flip pairs": (NAMES, list(range(COUNT)), "has other flip pairs than"),
}


@pytest.mark.parametrize("unlike", UNLIKE)
def test_files_that_differ_in_their_landmarks(files, unlike):
    names, flip, says = UNLIKE[unlike]
    edit(files[1], put(names, "categories", 0, "keypoints"))
    edit(files[1], put(flip, "categories", 0, "flip_index"))
    (message,) = (message for severity, file, message in findings(files) if (severity, file) == ("error", "val.json"))
    assert says in message
    assert str(files[0]) in message


def test_files_with_landmarks_of_different_numbers(files):
    def shorten(content):
        content["categories"][0] = {**content["categories"][0], "keypoints": ["a", "b"], "flip_index": [0, 1]}
        for annotation in content["annotations"]:
            annotation["keypoints"] = annotation["keypoints"][:6]

    edit(files[1], shorten)
    assert f"has 2 landmarks; there are {COUNT} in {files[0]}" in [message for _, _, message in findings(files)]


def test_left_and_right_apart(files):
    names = ["left eye", "the right eye", "right eye", *LANDMARK_NAMES[3:]]
    for file in files:
        edit(file, put(names, "categories", 0, "keypoints"))
    found = findings(files)
    assert [severity for severity, _, _ in found] == ["warning"] * 2
    assert "named left and right, but not paired by flip_index: 'left eye' and 'right eye'" in found[0][2]


def test_nearly_black_images(files):
    """12-bit values in 16-bit files, of which MMPose and OpenCV keep the upper 8 bits."""
    for index in (1, 3):
        pixels = cv2.imread(str(image(files[0], index))).astype(np.uint16) * 16
        repaint(files[0], index, pixels)
    ((severity, file, message),) = findings(files)
    assert (severity, file) == ("warning", "train.json")
    assert f"nearly black: 2 of 8 images, e.g. {SECOND}; 12-bit data in 16 bits?" in message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "does not exist"),
        (b"", "cannot be decoded"),
        (b"a text", "cannot be decoded"),
        ("cut", "damaged or cut off"),
        ("small", "is 31 x 64 pixels; expected at least 32"),
    ],
)
def test_bad_images(files, content, says):
    path = image(files[1], 0)
    if content is None:
        path.unlink()
    elif content == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    elif content == "small":
        repaint(files[1], 0, np.zeros((64, 31, 3), np.uint8))
    else:
        path.write_bytes(content)
    ((severity, file, message),) = findings(files)
    assert (severity, file) == ("error", "val.json")
    assert str(path) in message
    assert says in message


def test_equal_pixels_are_found_whatever_the_file(files):
    """Across files it is an error, within one a warning; another encoding of the same pixels does not hide it."""
    pixels = cv2.imread(str(image(files[0], 3)))
    image(files[1], 1).write_bytes(cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 0])[1].tobytes())
    repaint(files[0], 5, pixels)
    other = [("error", "images/val_00004_0001.png of " + str(files[1])), ("warning", "images/train_00002_0001.png")]
    found = findings(files)
    assert sorted((severity, message) for severity, _, message in found) == sorted(
        (severity, f"images/train_00001_0001.png has the same pixels as {name}") for severity, name in other
    )


def test_a_shape_is_part_of_the_pixels(files):
    for index, shape in ((0, (32, 64, 3)), (1, (64, 32, 3))):
        repaint(files[0], index, np.zeros(shape, np.uint8))
    assert all("same pixels" not in message for _, _, message in findings(files))


def test_a_person_in_two_files(files):
    edit(files[1], put("p2", "images", 3, "person"))
    assert findings(files) == [("error", "train.json", f"the person 'p2' also is in {files[1]}")]


def test_a_person_is_a_name_or_a_number(files):
    edit(files[1], put(["p2"], "images", 3, "person"))
    with pytest.raises(ValueError, match=r"person \['p2'\].*expected a name or a number"):
        findings(files)


def test_all_is_reported_at_once(files):
    for damage in ("outside left", "size of the file", "annotated twice", "one-sided flip"):
        edit(files[0], DAMAGE[damage][0])
    image(files[1], 1).unlink()
    assert [severity for severity, _, _ in findings(files)].count("error") == 4


def test_unannotated_points_are_not_looked_at(files):
    edit(files[0], point(0, 2, -500, 900, 0))
    edit(files[0], point(0, 3, -500, 900, 0))
    edit(files[0], copy_keypoints)
    for landmark in range(1, COUNT):
        edit(files[0], put(0, "annotations", 1, "keypoints", 3 * landmark + 2))
    assert findings(files) == []


def test_mirrored_partners_are_meant(files):
    """A landmark that is annotated nowhere is fine if its mirror image is annotated."""
    edit(files[0], hide([0, 1]))
    assert findings(files) == []


def test_images_elsewhere(files, tmp_path):
    (files[0].parent / "images").rename(tmp_path / "images")
    assert len(check_data(files)) == 12
    assert check_data(files, tmp_path) == []


def test_files_that_cannot_be_read(files, tmp_path):
    with pytest.raises(FileNotFoundError, match="none.json"):
        check_data([files[0], tmp_path / "none.json"])
    with pytest.raises(ValueError, match="given twice"):
        check_data([files[0], files[0].parent / ".." / "set" / "train.json"])
    edit(files[0], put([1, 2, 2], "annotations", 2, "keypoints"))
    with pytest.raises(ValueError, match=r"annotations\[2\] has 3 keypoint values"):
        check_data(files)


def test_command(run, files, capsys):
    run(*files)
    assert capsys.readouterr().out == "errors: 0, warnings: 0, files: 2\n"
    edit(files[0], DAMAGE["annotated twice"][0])
    run(*files)
    printed = capsys.readouterr().out.splitlines()
    assert printed == [f"warning  {files[0]}: {FIRST} has 2 annotations", "errors: 0, warnings: 1, files: 2"]
    edit(files[0], DAMAGE["outside left"][0])
    with pytest.raises(ValueError, match="errors: 1, warnings: 1, files: 2"):
        run(*files)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["error", "warning"]


def test_json(run, files, tmp_path, capsys):
    edit(files[0], DAMAGE["annotated twice"][0])
    run(*files, "--json", "--picture", tmp_path / "look.png")
    printed = json.loads(capsys.readouterr().out)
    message = {"severity": "warning", "file": str(files[0]), "message": f"{FIRST} has 2 annotations"}
    assert printed == {"errors": 0, "warnings": 1, "files": 2, "findings": [message]}
    edit(files[0], DAMAGE["outside left"][0])
    with pytest.raises(ValueError, match="errors: 1, warnings: 1, files: 2"):
        run(*files, "--json")
    assert [finding["severity"] for finding in json.loads(capsys.readouterr().out)["findings"]] == ["error", "warning"]


def test_command_draws_although_there_are_errors(run, files, tmp_path):
    image(files[0], 0).unlink()
    with pytest.raises(ValueError, match="errors: 1"):
        run(*files, "--picture", tmp_path / "look.png", "--count", 4)
    picture = cv2.imread(str(tmp_path / "look.png"))
    assert picture.shape[1] > 1000
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["look.png"]
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        run(files[1], "--picture", tmp_path / "none.png", "--count", 0)
    assert not (tmp_path / "none.png").exists()


def test_a_picture_that_cannot_be_written_leaves_nothing(run, files, tmp_path):
    (tmp_path / "look.png").mkdir()
    with pytest.raises(OSError, match=r"look\.png"):
        run(*files, "--picture", tmp_path / "look.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["look.png", "set"]


def drawn(axes):
    """Colour and data coordinates of all markers."""
    return {line.get_color(): line.get_xydata() for line in axes.lines}


@pytest.mark.parametrize("name", ["train.json", "sheet.pdf", "sheet"])
def test_a_picture_is_a_png_file_and_no_landmark_file(run, files, name):
    """If the picture's name is forgotten, the first landmark file is taken for it."""
    file = files[0].with_name(name)
    before = file.read_bytes() if file.exists() else None
    with pytest.raises(ValueError, match=f"--picture .*{name}: expected a name that ends in .png"):
        run("--picture", file, files[1])
    assert before == (file.read_bytes() if file.exists() else None)


def test_points_are_drawn_where_they_are_in_the_colour_of_their_side(files):
    edit(files[0], point(0, 1, 5, 5, 0))
    figure = contact_sheet(files, count=3)
    axes = figure.axes[0]
    content = json.loads(files[0].read_text())
    points = np.reshape(content["annotations"][0]["keypoints"], (-1, 3))
    flip = np.array(content["categories"][0]["flip_index"])
    index = np.arange(COUNT)
    first, second, own = COLOURS.values()
    for colour, chosen in ((first, flip > index), (second, flip < index), (own, flip == index)):
        np.testing.assert_allclose(drawn(axes)[colour], points[chosen & (points[:, 2] > 0), :2])
    assert [text.get_text() for text in axes.texts] == [str(k) for k in range(COUNT) if k != 1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(COLOURS)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[0] == "train_00000_0000.png"
    assert titles[2] == "val_00005_0001.png"
    assert len(titles) == 3


def test_a_marker_lies_on_its_pixel(files):
    """In the rendered picture, the marker covers the pixel of the image that was painted in a unique colour."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[20, 40] = (0, 0, 255)
    repaint(files[0], 0, pixels)
    edit(files[0], put([*[10, 10, 2], *[40, 20, 2], *[0, 0, 0] * (COUNT - 2)], "annotations", 0, "keypoints"))
    edit(files[0], put(list(range(COUNT)), "categories", 0, "flip_index"))
    figure = contact_sheet(files[:1], count=1)
    canvas = FigureCanvasAgg(figure)

    def centre_of(colour):
        canvas.draw()
        picture = np.asarray(canvas.buffer_rgba())[..., :3] / 255
        rows, columns = np.nonzero(np.abs(picture - to_rgb(colour)).max(axis=2) < 0.02)
        upper = rows < picture.shape[0] * 0.9  # not the legend
        return np.array([columns[upper], rows[upper]])

    yellow = centre_of(COLOURS["own mirror image"])
    yellow = yellow[:, yellow[0] > np.median(yellow[0])].mean(axis=1)
    for line in figure.axes[0].lines:
        line.set_visible(False)
    for text in figure.axes[0].texts:
        text.set_visible(False)
    red = centre_of("red").mean(axis=1)
    np.testing.assert_allclose(yellow, red, atol=1)


def test_many_landmarks_are_not_numbered(files):
    def enlarge(content):
        content["categories"][0] = {"id": 1, "name": "face", "keypoints": [str(k) for k in range(31)]}
        for annotation in content["annotations"]:
            annotation["keypoints"] = [value for k in range(31) for value in (2 * k, k, 2)]

    edit(files[0], enlarge)
    assert not contact_sheet(files[:1], count=2).axes[0].texts


def test_an_unreadable_image_is_named(files):
    image(files[0], 0).write_bytes(b"")
    titles = [axes.get_title() for axes in contact_sheet(files, count=12).axes]
    assert titles[0] == "train_00000_0000.png: unreadable"
    assert titles[1] == "train_00000_0001.png"
