"""Readers against files written by hand in the published formats."""

from __future__ import annotations

import itertools
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from xtask_reg.data.conversion.formats import LandmarkTable, read_csv, read_list, read_pts

CSV = "file,x0,y0,x1,y1\na.png,1,2,3,4\nb.png,5,6,7,8.5\n"
NAMED = (
    "file,person,split,nose_x,nose_y,left eye_x,left eye_y,age\n"
    "sub/a.png,p1,train,1.5,-2,,,40\n"
    "b.png,p2,val,1e2,3,4,5,\n"
)
HRNET = (
    "image_name,scale,center_w,center_h,original_0_x,original_0_y,original_1_x,original_1_y\n"
    "afw/1_1.jpg,1.05,700,320,612.250125,233.500875,800.5,412.25\n"
)
PTS = "version: 1\nn_points:  3\n{\n301.250 88.500\n303.125 117.750\n305.375 146.625\n}\n"


def same_points(table, expected):
    np.testing.assert_allclose(table.points, np.array(expected, dtype=float), rtol=0, atol=1e-9)


def test_csv_by_number(write, tmp_path):
    table = read_csv(write("labels.csv", CSV))
    assert table.root == tmp_path
    assert table.files == ("a.png", "b.png")
    assert table.names == ("0", "1")
    assert table.annotated.all()
    assert (table.persons, table.splits, table.notes) == (None, None, ())
    same_points(table, [[(1, 2), (3, 4)], [(5, 6), (7, 8.5)]])


def test_csv_by_name_with_persons_splits_gaps_and_other_columns(write, tmp_path):
    table = read_csv(write("labels.csv", NAMED), tmp_path / "photos")
    assert table.root == tmp_path / "photos"
    assert table.files == ("sub/a.png", "b.png")
    assert table.names == ("nose", "left eye")
    assert table.annotated.tolist() == [[True, False], [True, True]]
    assert table.persons == ("p1", "p2")
    assert table.splits == ("train", "val")
    assert table.notes == ("ignored columns: age",)
    same_points(table, [[(1.5, -2), (0, 0)], [(100, 3), (4, 5)]])


def test_csv_of_hrnet(write):
    table = read_csv(write("face_landmarks_300w_train.csv", HRNET))
    assert table.files == ("afw/1_1.jpg",)
    assert table.names == ("original_0", "original_1")
    assert table.notes == ("ignored columns: scale, center_w, center_h",)
    same_points(table, [[(612.250125, 233.500875), (800.5, 412.25)]])


@pytest.mark.parametrize(
    "content",
    [
        CSV.replace(",", ";"),
        CSV.replace(",", "\t"),
        b"\xef\xbb\xbf" + CSV.encode(),
        CSV.replace("\n", "\r\n"),
        CSV.replace(",", " , ").replace("\n", "\n\n"),
        CSV.replace("a.png", '"a.png"'),
        CSV + ",,,,\n",
        "\ufeffsep=;\n" + CSV.replace(",", ";"),
        "sep=,\r\n" + CSV,
        CSV.replace("\n", ",,\n"),
        CSV.replace("\n", ",\n"),
        CSV.replace("\n", ",,\n").replace(",,\n", "\n", 1),
    ],
    ids=[
        *("semicolons", "tabs", "byte order mark", "CRLF", "blanks", "quotes", "empty line", "sep=;", "sep=,"),
        *("empty columns", "empty column", "cells behind the header"),
    ],
)
def test_csv_as_programs_write_it(write, content):
    table = read_csv(write("labels.csv", content))
    assert table.notes == ()
    assert table.files == ("a.png", "b.png")
    same_points(table, [[(1, 2), (3, 4)], [(5, 6), (7, 8.5)]])


def test_paths_of_windows_and_absolute_paths(write, tmp_path):
    lines = f"file,x0,y0\nsub\\a b.png,1,2\n{tmp_path}/deep/c.png,3,4\n/elsewhere/d.png,5,6\n"
    assert read_csv(write("l.csv", lines)).files == ("sub/a b.png", "deep/c.png", "/elsewhere/d.png")


@pytest.mark.parametrize("first_pixel", [0, 0.5, 1])
def test_first_pixel_is_subtracted_from_annotated_points_only(write, first_pixel):
    table = read_csv(write("l.csv", "file,x0,y0,x1,y1\na.png,10,20,,\n"), first_pixel=first_pixel)
    same_points(table, [[(10 - first_pixel, 20 - first_pixel), (0, 0)]])
    listed = read_list(write("l.txt", "10 20 30 40 a.png"), points=2, first_pixel=first_pixel)
    same_points(listed, [[(10 - first_pixel, 20 - first_pixel), (30 - first_pixel, 40 - first_pixel)]])


BAD_CSV = {
    "underscore": ("file,x0,y0\na.png,1_2,3\n", "line 2, column x0: '1_2' is not a number"),
    "empty file": ("", "is empty"),
    "only a header": ("file,x0,y0\n", "no lines after its header"),
    "only separators": (",,\n,,\n", "no lines after its header"),
    "not UTF-8": (b"file,x0,y0\n\xff.png,1,2\n", "UTF-8"),
    "no file column": ("name,x0,y0\na,1,2\n", r"'file'.*in the header \['name', 'x0', 'y0'\]"),
    "two file columns": ("file,image_name,x0,y0\na,b,1,2\n", "one column 'file'"),
    "no landmark": ("file,person\na,b\n", "no landmark in the header"),
    "x without y": ("file,x0,y0,x1\na,1,2,3\n", r"lacks x or y of the landmarks \['1'\]"),
    "repeated column": ("file,x0,y0,x0\na,1,2,3\n", r"\['x0'\] appear more than once"),
    "two names for one": ("file,x0,y0,0_x,0_y\na,1,2,3,4\n", "x0 and 0_x in the header both are x of '0'"),
    "text": ("file,x0,y0\na,1,2\nb,1,two\n", r"line 3, column y0: 'two' is not a number \(expected one such as 12.5\)"),
    "decimal comma": ("file;x0;y0\na;1,5;2\n", r"'1,5' is not a number \(.*12.5, with a point for the comma\)"),
    "nan": ("file,x0,y0\na,nan,2\n", r"line 2, column x0: 'nan' is not a finite"),
    "inf": ("file,x0,y0\na,1,-inf\n", r"line 2, column y0: '-inf' is not a finite"),
    "half a point": ("file,x0,y0\na,1,\n", "line 2: only one of x0 and y0"),
    "short line": ("file,x0,y0\na,1\n", "line 2: 2 cells; the header has 3"),
    "long line": ("file,x0,y0\na,1,2,3\n", "line 2: 4 cells; the header has 3"),
    "repeated image": ("file,x0,y0\na,1,2\nb,1,2\na,3,4\n", "lines 2 and 4: a is listed twice"),
    "no image": ("file,x0,y0\n,1,2\n", "line 2: the column 'file' is empty"),
    "no person": ("file,x0,y0,person\na,1,2,\n", "line 2: the column 'person' is empty"),
    "no size": ("file,x0,y0,mm_per_pixel\na,1,2,\n", "line 2: the column 'mm_per_pixel' is empty"),
    "a size in words": ("file,x0,y0,mm_per_pixel\na,1,2,x\n", "line 2, column 'mm_per_pixel': 'x' is not a number"),
    "unknown split": ("file,x0,y0,split\na,1,2,training\n", r"\['training'\]; expected train, val, test"),
    "quote left open": ('file,x0,y0\n"a' + "b" * 200000, "field larger than field limit"),
}


@pytest.mark.parametrize("fault", BAD_CSV)
def test_bad_csv(write, fault):
    content, says = BAD_CSV[fault]
    with pytest.raises(ValueError, match=says) as caught:
        read_csv(write("labels.csv", content))
    assert "labels.csv" in str(caught.value)


def test_pts_folder_counts_from_one(write, tmp_path):
    for name in ("b.pts", "a.PTS", "deep/c.pts", "._b.pts"):
        write(name, PTS)
    for name in ("a.png", "b.JPG", "deep/c.tif", "deep/b.png"):
        write(name, "")
    table = read_pts(tmp_path)
    assert sorted(table.files) == ["a.png", "b.JPG", "deep/c.tif"]
    assert table.names == ("0", "1", "2")
    assert table.annotated.all()
    same_points(table, [[(300.25, 87.5), (302.125, 116.75), (304.375, 145.625)]] * 3)
    assert read_pts(tmp_path, first_pixel=0).points[0, 0].tolist() == [301.25, 88.5]


def test_one_pts_file_and_images_elsewhere(write, tmp_path):
    path = write("labels/deep/a.pts", PTS)
    write("photos/a.jpeg", "")
    write("photos/deep/a.bmp", "")
    assert read_pts(path, tmp_path / "photos").files == ("a.jpeg",)
    assert read_pts(tmp_path / "labels", tmp_path / "photos").files == ("deep/a.bmp",)


BAD_PTS = {
    "empty file": ("", "is empty"),
    "binary": (b"\x00\xff\xfe", "UTF-8"),
    "cut off": (PTS[:-25], "may be cut off"),
    "no brace": (PTS.replace("}", ""), "may be cut off"),
    "header alone": ("version: 1\nn_points: 3\n", "may be cut off"),
    "n_points too high": (PTS.replace("3\n{", "68\n{"), "n_points is '68', but there are 3"),
    "n_points too low": (PTS.replace("3\n{", "2\n{"), "n_points is '2', but there are 3"),
    "no n_points": (PTS.replace("n_points:  3\n", ""), "n_points is None"),
    "no points": ("version: 1\nn_points: 0\n{\n}\n", "no points"),
    "version": (PTS.replace("version: 1", "version: 2"), "version '2'; expected 1"),
    "nan": (PTS.replace("88.500", "nan"), "line 4: 'nan' is not a finite"),
    "inf": (PTS.replace("117.750", "inf"), "line 5: 'inf' is not a finite"),
    "text": (PTS.replace("88.500", "x"), "line 4: 'x' is not a number"),
    "three numbers": (PTS.replace("88.500", "88.500 1"), "line 4: '301.250 88.500 1'; expected x and y"),
}


@pytest.mark.parametrize("fault", BAD_PTS)
def test_bad_pts(write, fault):
    content, says = BAD_PTS[fault]
    write("a.png", "")
    with pytest.raises(ValueError, match=says) as caught:
        read_pts(write("a.pts", content))
    assert "a.pts" in str(caught.value)


def test_pts_of_different_lengths(write, tmp_path):
    write("a.pts", PTS)
    write("b.pts", "version: 1\nn_points: 1\n{\n1 2\n}\n")
    with pytest.raises(ValueError, match=r"a\.pts has 3 points, .*b\.pts has 1"):
        read_pts(tmp_path)


def test_pts_without_or_with_two_images(write):
    path = write("a.pts", PTS)
    with pytest.raises(FileNotFoundError, match=r"a\.pts: no image .*a with a suffix"):
        read_pts(path)
    write("a.png", "")
    write("a.jpg", "")
    with pytest.raises(ValueError, match=r"a\.jpg, a\.png all fit"):
        read_pts(path)


def face_line(points, others, path, start=0.0):
    """Coordinates start, start + 1, ..., then other numbers and the path."""
    return " ".join([*(f"{start + index:.6f}" for index in range(2 * points)), *map(str, others), path])


BOX, ATTRIBUTES = [10, 20, 110, 120], [0, 1, 0, 0, 1, 0]


@pytest.mark.parametrize("points", [68, 98])
@pytest.mark.parametrize("others", [[], BOX, BOX + ATTRIBUTES], ids=["coordinates", "box", "box and attributes"])
def test_lists(write, points, others):
    paths = ["37--Soccer/37_Soccer_soccer_ball_37_45.jpg", "2 of them  in/a photo.png", "c.jpg"]
    lines = [face_line(points, others, path, start) for start, path in enumerate(paths)]
    if points == 98 and len(others) == 10:
        assert len(lines[0].split()) == 207  # as WFLW's README says
    table = read_list(write("list.txt", "\n".join(lines) + "\n"))
    assert table.files == tuple(paths)
    assert table.names == tuple(map(str, range(points)))
    assert table.annotated.all()
    same_points(table, [[(s + 2 * k, s + 2 * k + 1) for k in range(points)] for s in range(3)])


def test_list_of_other_size_and_several_faces(write):
    table = read_list(write("l.txt", "1 2 3 4 9 a.png\n5 6 7 8 9 a.png\n"), points=2)
    assert table.files == ("a.png", "a.png")
    assert table.notes == ("images of several faces: 1; each face becomes an image of its own",)
    same_points(table, [[(1, 2), (3, 4)], [(5, 6), (7, 8)]])


BAD_LIST = {
    "empty file": ("", None, "is empty"),
    "unknown size": ("1 2 3 4 a.png", None, r"4 numbers before the image path; give the number of points .*--points"),
    "too many points": ("1 2 3 4 a.png", 3, "4 numbers before the image path"),
    "no points": ("1 2 3 4 a.png", 0, "4 numbers before the image path"),
    "path first": ("a.png 1 2 3 4", 2, "0 numbers before the image path"),
    "too few numbers": ("1 2 3 4 a.png\n1 2 3 b.png\n1 2 3 4 c.png", 2, "line 2: expected 4 numbers and a path; 3"),
    "text": ("1 2 3 4 a.png\n1 2 three 4 b.png\n1 2 3 4 c.png", 2, "line 2: expected 4 numbers and a path; 2"),
    "no path": ("1 2 3 4 a.png\n1 2 3 4\n", 2, "line 2: expected 4 numbers and a path"),
    "nan": ("1 2 3 4 a.png\n1 nan 3 4 b.png\n", 2, "line 2: 'nan' is not a finite"),
    "inf": ("1 2 3 -inf a.png", 2, "line 1: '-inf' is not a finite"),
    "repeated face": ("1 2 3 4 a.png\n5 6 7 8 a.png\n1 2 3 4 a.png\n", 2, "lines 1 and 3 are the same face of a.png"),
}


@pytest.mark.parametrize("fault", BAD_LIST)
def test_bad_lists(write, fault):
    content, points, says = BAD_LIST[fault]
    with pytest.raises(ValueError, match=says) as caught:
        read_list(write("list.txt", content), points=points)
    assert "list.txt" in str(caught.value)


@pytest.mark.parametrize(("on_disk", "written"), [*itertools.product(["NFC", "NFD"], repeat=2)])
@pytest.mark.parametrize("style", ["csv", "list"])
def test_accents_are_found_in_either_form_of_unicode(write, style, on_disk, written):
    image = write(unicodedata.normalize(on_disk, "fotos/Zo\u00eb.png"), "")
    name = unicodedata.normalize(written, "fotos/Zo\u00eb.png")
    if style == "csv":
        table = read_csv(write("labels.csv", f"file,x0,y0\n{name},1,2\n"))
    else:
        table = read_list(write("list.txt", f"1 2 3 4 {name}\n"), points=2)
    assert (table.root / table.files[0]).read_bytes() == image.read_bytes() == b""


def test_an_unknown_name_stays_as_it_is(write):
    assert read_csv(write("labels.csv", "file,x0,y0\nZoe\u0308.png,1,2\n")).files == ("Zoe\u0308.png",)


@pytest.mark.parametrize("reader", [read_csv, read_list, read_pts])
def test_no_file(reader, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.x"):
        reader(tmp_path / "missing.x")


def table_of(annotated, **changes):
    annotated = np.array(annotated)
    rows, count = annotated.shape
    fields = {
        "root": Path(),
        "files": tuple(f"{row}.png" for row in range(rows)),
        "points": np.arange(2.0 * annotated.size).reshape(rows, count, 2),
        "annotated": annotated,
        "names": tuple("abcdefgh"[:count]),
        "persons": tuple(f"p{row}" for row in range(rows)),
    }
    return LandmarkTable(**{**fields, **changes})


def test_images_without_labels_are_left_out_and_counted():
    table = table_of([[True, False], [False, False], [True, True]])
    labelled = table.labelled()
    assert labelled.files == ("0.png", "2.png")
    assert labelled.persons == ("p0", "p2")
    assert labelled.splits is None
    np.testing.assert_array_equal(labelled.points, table.points[[0, 2]])
    assert labelled.annotated.tolist() == [[True, False], [True, True]]
    assert labelled.notes == ("images without any annotated landmark, left out: 1, e.g. 1.png",)
    assert labelled.labelled() is labelled
    with pytest.raises(ValueError, match="no landmark of any of the 1 images is annotated"):
        table_of([[False]]).labelled()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"names": ("a", "a")}, r"repeated: \['a'\]"),
        ({"names": ("a", "b", "c")}, "2 files and 3 names"),
        ({"persons": ("p",)}, "2 files and 2 names"),
        ({"files": ()}, "0 images and 2 landmarks"),
    ],
)
def test_bad_tables(changes, says):
    with pytest.raises(ValueError, match=says):
        table_of([[True, True]] * 2, **changes)
