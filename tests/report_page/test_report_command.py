"""`xtask-reg report`: the page's numbers and pictures; it is self-contained, and a browser shows it."""

from __future__ import annotations

import base64
import json
import shutil
import statistics
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from xtask_reg import cli


class Page(HTMLParser):
    """The cells of the tables, the addresses in the page, and its text."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.in_cell = False
        self.feed(file.read_text())

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True
        self.addresses += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]

    def handle_endtag(self, tag):
        self.in_cell &= tag not in ("td", "th")

    def handle_data(self, data):
        self.text += data
        if self.in_cell:
            self.rows[-1][-1] += data.strip()

    @property
    def pictures(self) -> list[np.ndarray]:
        contents = [base64.b64decode(address.partition("base64,")[2]) for address in self.addresses]
        return [cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) for content in contents]


def report(*arguments: object) -> int:
    return cli.main(["report", *map(str, arguments)])


ERRORS = {"first": [0.5, 1.0, 2.0, 1.5], "second": [0.25, 0.25, 0.25, 3.0]}


@pytest.fixture
def runs(make_run) -> list[Path]:
    configs = {"first": "lr = 1\nseed = 0\n", "second": "lr = 2\nseed = 0\n"}
    return [make_run(name, errors, configs[name], monitored=True) for name, errors in ERRORS.items()]


def test_numbers(runs, tmp_path, capsys):
    assert report(*runs, "--html", tmp_path / "r.html", "--json") == 0
    page, printed = Page(tmp_path / "r.html"), json.loads(capsys.readouterr().out)
    rows = {row[0]: row for row in page.rows[1:3]}
    for name, errors in ERRORS.items():
        mean, deviation = statistics.mean(errors), statistics.stdev(errors)
        failures = 100 * sum(error > 1.5 for error in errors) / 4
        area = statistics.mean(max(0.0, 1 - error / 1.5) for error in errors)
        expected = [name, f"{mean:.3f} ± {deviation:.3f}", f"{failures:.2f} %", f"{area:.3f}", "4", "0"]
        assert rows[name][:6] == expected
        assert rows[name][6:] == ["mean distance, image px", "1.5"]
        assert printed["runs"][name]["me"] == pytest.approx(mean)
    assert ["first", "2", "1", "0"] in page.rows  # validation: epoch, ME, FR
    assert any("2.11.0+cu130" in row for row in page.rows)
    assert "-lr = 1" in page.text
    assert "+lr = 2" in page.text


def test_landmarks_and_rates(make_run, tmp_path, capsys):
    """Landmarks in another unit have a separate table; a run without rates has an empty cell."""
    runs = [make_run("a", [0.5, 1.0, 2.0], success_at=[1, 2.5]), make_run("b", [3.0]), make_run("c", [4.0], space="mm")]
    assert report(*runs, "--html", tmp_path / "r.html", "--json") == 0
    page, printed = Page(tmp_path / "r.html"), json.loads(capsys.readouterr().out)["runs"]
    assert page.rows[0][4:6] == ["within 1", "within 2.5"]
    assert [row[4:6] for row in page.rows[1:4]] == [["66.7 %", "100.0 %"], ["", ""], ["", ""]]
    deviation = statistics.stdev([0.5, 1, 2])
    assert ["nose", f"1.167 ± {deviation:.3f}", "3", "3.000", "1"] in page.rows
    assert ["nose", "4.000", "1"] in page.rows
    assert "1 landmark, error in mm" in page.text
    assert printed["a"]["success_rates"] == {"1": pytest.approx(2 / 3), "2.5": 1}
    assert printed["b"]["landmarks"] == [{"name": "nose", "mean": 3.0, "sd": None, "images": 1}]


def test_differences(make_run, tmp_path, capsys):
    """Differences are to the first run with the same images and reading; a run on other images has none."""
    runs = [make_run("a", [0.5, 1.0, 2.0]), make_run("b", [0.25, 1.5, 3.0]), make_run("c", [3.0])]
    runs += [make_run("d", [1.0, 1.0, 2.0], space="mm"), make_run("e", [0.5, 1.0, 2.0])]
    assert report(*runs, "--html", tmp_path / "r.html", "--json") == 0
    page, printed = Page(tmp_path / "r.html"), json.loads(capsys.readouterr().out)["differences"]
    assert [(each["reference"], [*each["differences"]]) for each in printed] == [("a", ["b", "e"])]
    assert printed[0]["differences"]["b"]["mean"] == pytest.approx(1.25 / 3)
    (place,) = (index for index, row in enumerate(page.rows) if row[0] == "against a")
    name, mean, interval, percent, less, p = page.rows[place + 1]
    assert (name, mean, percent, less) == ("b", "+0.417", "+35.7", "1 of 3")
    assert float(interval.split(" to ")[0]) < 0.417 < float(interval.split(" to ")[1])
    assert float(p) == 0.5  # of the eight means with flipped signs four are as far from 0
    assert page.rows[place + 2] == ["e", "+0.000", "+0.000 to +0.000", "+0.0", "0 of 3", "1"]
    assert not any("against" in cell for row in page.rows[place + 3 :] for cell in row)


@pytest.mark.parametrize("key", ["target", "visible", "scale"])
def test_no_difference_of_what_was_not_tested_alike(key, make_run, tmp_path, capsys):
    """The input size differs, or points were corrected between the tests."""
    runs = [make_run("a", [0.5, 1.0]), make_run("b", [0.25, 1.5])]
    file = runs[1] / "predictions.json"
    content = json.loads(file.read_text())
    content["images"][1][key] = {"target": [[12.0, 10.0]], "visible": [False], "scale": [0.5, 0.5]}[key]
    file.write_text(json.dumps(content))
    assert report(*runs, "--html", tmp_path / "r.html", "--json") == 0
    assert json.loads(capsys.readouterr().out)["differences"] == []


def test_self_contained(runs, tmp_path):
    assert report(*runs, "--html", tmp_path / "r.html") == 0
    page, text = Page(tmp_path / "r.html"), (tmp_path / "r.html").read_text()
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert page.tags.isdisjoint({"script", "link", "iframe", "object", "embed"})
    assert "url(" not in text
    assert "@import" not in text
    pictures = page.pictures
    assert len(pictures) == 5  # CED, photographs, validation, training, measurements
    assert all(picture.std() > 5 for picture in pictures)
    greys = {60, 120, 180}
    shown = {grey for grey in greys if (np.abs(pictures[1].astype(int) - grey).max(axis=2) <= 1).mean() > 0.02}
    assert shown == greys


def test_pictures_are_left_out(runs, images, tmp_path):
    assert report(*runs, "--html", tmp_path / "r.html", "--no-pictures") == 0
    page = Page(tmp_path / "r.html")
    assert "Pictures were left out." in page.text
    assert len(page.pictures) == 4
    images[3].unlink()
    assert report(*runs, "--html", tmp_path / "r.html") == 0
    page = Page(tmp_path / "r.html")
    assert "No pictures: the image" in page.text
    assert len(page.pictures) == 4


def test_runs_that_were_read_differently_have_pictures_of_their_own(make_run, tmp_path):
    runs = [make_run("a", [1.0, 2.0]), make_run("b", [1.0, 2.0], threshold=2.5), make_run("c", [1.0])]
    runs += [make_run(f"px{size}", [1.0], space="heatmap", extent=[size, size]) for size in (32, 64)]
    assert report(*runs, "--html", tmp_path / "r.html") == 0
    page = Page(tmp_path / "r.html")
    assert len(page.pictures) == 4 + 2 + 2  # four CEDs, two sets of images, two of curves
    assert [row[6] for row in page.rows[4:6]] == [f"mean distance, heatmap px ({size} x {size})" for size in (32, 64)]
    assert all(f"1 landmark, error in heatmap px ({size} x {size})" in page.text for size in (32, 64))


def test_a_run_that_was_not_tested(make_run, tmp_path, capsys):
    assert report(make_run("a"), "--html", tmp_path / "r.html") == 0
    assert capsys.readouterr().out.startswith("a: not tested\n")
    page = Page(tmp_path / "r.html")
    assert "Without predictions.json, and so without test scores: a." in page.text
    assert len(page.pictures) == 2


def test_a_folder_with_an_old_name(make_run, tmp_path):
    """The name is not in UTF-8; Matplotlib and the page show its bytes."""
    run = make_run("m\udcfcller", [1.0, 2.0], monitored=True)
    assert report(run, "--html", tmp_path / "r.html") == 0
    assert r"m\udcfcller, in full" in Page(tmp_path / "r.html").text


def test_nothing_in_a_run_becomes_html(make_run, tmp_path):
    evil = "<script>alert(1)</script>"
    run = make_run("a", [1.0], config=f"# {evil}\n")
    assert report(run, "--html", tmp_path / "r.html", "--title", evil) == 0
    page = Page(tmp_path / "r.html")
    assert "script" not in page.tags
    assert page.text.count(evil) == 3  # twice the title, once the config


@pytest.fixture
def browser() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("there is no Chromium (Debian: apt-get install chromium)")
    return found


def test_a_browser_shows_it(browser, runs, tmp_path):
    assert report(*runs, "--html", tmp_path / "r.html") == 0
    headless = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={tmp_path / 'u'}"]
    command = [browser, *headless, "--window-size=1000,3000", f"--screenshot={tmp_path / 's.png'}"]
    result = subprocess.run(
        [*command, (tmp_path / "r.html").as_uri()], capture_output=True, text=True, timeout=300, check=True
    )
    assert "CONSOLE" not in result.stderr
    screen = cv2.imread(str(tmp_path / "s.png"))
    assert screen.shape[1] == 1000
    rows = np.flatnonzero((screen != 255).any(axis=(1, 2)))
    assert rows[-1] - rows[0] > 1200  # tables and pictures, one below the other
    blue = np.abs(screen.astype(int) - (178, 114, 0)).max(axis=2) < 30  # BGR: the first curve's colour
    assert blue.sum() > 200


def test_json_of_one_image(make_run, tmp_path, capsys):
    """A single image has no standard deviation, and strict JSON no NaN."""
    assert report(make_run("one", [0.5]), "--html", tmp_path / "r.html", "--json") == 0
    scores = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["runs"]["one"]
    assert (scores["me"], scores["sd"], scores["images"]) == (0.5, None, 1)


def test_pictures_that_are_elsewhere(make_run, tmp_path, monkeypatch):
    """Their paths are relative to the folder in which the test ran; no option of the command helps."""
    folder = make_run("a", [0.5])
    file = folder / "predictions.json"
    file.write_text(file.read_text().replace(f"{tmp_path}/", ""))
    (tmp_path / "other").mkdir()
    for place, pictures in ((tmp_path, True), (tmp_path / "other", False)):
        monkeypatch.chdir(place)
        assert report(folder, "--html", tmp_path / "r.html") == 0
        text = (tmp_path / "r.html").read_text()
        assert ("No pictures" not in text) is pictures
        assert (f"image0.png does not exist (relative to {place})" in text) is not pictures
    assert "--images" not in text
