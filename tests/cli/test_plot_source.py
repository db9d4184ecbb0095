"""`xtask-reg plot-source` as a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xtask_reg import cli

COSINES = {"ft": [1.0, 0.52, 0.4567], "ctd-ed": [0.99, 0.9]}


@pytest.fixture
def runs(tmp_path) -> Path:
    """A folder with the work folders of two runs, and the log of a loop of one's own."""
    for name, values in COSINES.items():
        log = tmp_path / name / "20260101_000000/vis_data/scalars.json"
        log.parent.mkdir(parents=True)
        lines = [{"iter": 50 * n + 1, "cosine/layer4": value, "cka/layer4": 0.5} for n, value in enumerate(values)]
        log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "own.jsonl").write_text('{"step": 3, "cosine/a": 0.25, "ratio/ed": 0.1}\n')
    return tmp_path


def plot(*arguments: str | Path) -> int:
    return cli.main(["plot-source", *map(str, arguments)])


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "beginning"), [("p.png", b"\x89PNG"), ("new/p.svg", b"<?xml"), ("p.pdf", b"%PDF"), ("p.PNG", b"\x89PNG")]
)
def test_picture(name, beginning, runs):
    out = runs / name
    assert plot(runs / "ft", "--out", out) == 0
    assert out.read_bytes().startswith(beginning)
    assert left(out.parent) <= {out.name, *COSINES, "own.jsonl"}


def test_printed_lines(runs, capsys):
    out = runs / "p.png"
    assert plot(runs / "ft", runs / "ctd-ed", runs / "own.jsonl", "--out", out) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ft, layer4: cosine to the source 1.000 at step 1, 0.457 at step 101",
        "ctd-ed, layer4: cosine to the source 0.990 at step 1, 0.900 at step 51",
        "own, a: cosine to the source 0.250 at step 3, 0.250 at step 3",
        f"written {out}",
    ]


def test_a_picture_is_replaced(runs):
    out = runs / "p.png"
    out.write_text("old")
    assert plot(runs / "ft", "--out", out) == 0
    assert out.read_bytes().startswith(b"\x89PNG")


def test_named_by_the_folder_even_from_within(runs, monkeypatch, capsys):
    monkeypatch.chdir(runs / "ctd-ed")
    assert plot(".", "--out", runs / "p.png") == 0
    assert capsys.readouterr().out.startswith("ctd-ed, layer4: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ft", "--out", "p.xyz"], r"--out .*p.xyz: expected a name that ends in .*\.pdf, .*\.png, .*\.svg"),
        (["ft", "--out", "p"], r"--out .*p: expected a name that ends in"),
        (["ft", "--out", "new/p.xyz"], "expected a name that ends in"),
        (["ft", "ft/../ft", "--out", "p.png"], "runs need different names: .*ft, .*ft"),
        (["ft", "--out", "own.jsonl/p.png"], "own.jsonl"),
        (["ft", "--out", "ctd-ed.png"], "ctd-ed.png is a directory"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(arguments, message, runs, capsys):
    import re

    (runs / "ctd-ed.png").mkdir()
    before = left(runs)
    *names, _, out = arguments
    assert plot(*(runs / name for name in names), "--out", runs / out) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("xtask-reg plot-source: ")
    assert re.search(message, line)
    assert left(runs) == before


def test_an_interrupted_picture_leaves_nothing(runs, monkeypatch):
    from matplotlib.figure import Figure

    def fails(figure: Figure, path: Path, **options: object) -> None:
        Path(path).write_text("half")
        raise OSError("no space left")

    monkeypatch.setattr(Figure, "savefig", fails)
    out = runs / "p.png"
    out.write_text("old")
    before = left(runs)
    assert plot(runs / "ft", "--out", out) == 1
    assert left(runs) == before
    assert out.read_text() == "old"
