"""docs/timm.md, executed and checked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import timm
import torch

import xtask_reg as xr
from xtask_reg.integrations.timm import feature_stages, input_convention

PAGE = (Path(__file__).parents[2] / "docs" / "timm.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
TABLES = [[row.split("|")[1:-1] for row in part.splitlines() if row.startswith("| `")] for part in PAGE.split("\n## ")]
BEHIND, ROWS = (table for table in TABLES if table)
BY_NAME = [(name, found) for names, found in BEHIND for name in re.findall(r"`(\w+)`", names)]


def test_the_script_is_short_and_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS[1].splitlines()) < 60
    for block in BLOCKS:
        exec(compile(block, "docs/timm.md", "exec"), {})
    assert (tmp_path / "timm.png").exists()
    said, error, *_ = capsys.readouterr().out.splitlines()
    assert said in PAGE
    assert float(error.split(": ")[1]) < 1.5


CREATE = timm.create_model


def created(name, **options):
    """A model with non-trivial norms, so that leaving one out shows."""
    torch.manual_seed(0)
    network = CREATE(name, **options)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.rand_like(parameter))
    return network


def check_class_scores(network, term):
    """From the source's own features the connector computes the source's class scores; and it trains."""
    connector = term.student_connector.eval()
    assert all(parameter.requires_grad for parameter in connector.parameters())
    images = torch.rand(2, 3, *(input_convention(network).size or (64, 64)))
    taps = xr.FrozenTeacher(network).features(images, [term.student, term.teacher])
    with torch.no_grad():
        torch.testing.assert_close(connector(taps[term.student]), network(images))
    torch.testing.assert_close(taps[term.teacher], network(images))


@pytest.mark.parametrize(("name", "found"), BY_NAME)
def test_class_scores_by_name(name, found):
    network = created(name)
    if "refused" in found:
        with pytest.raises(ValueError, match="could not be followed"):
            xr.shorthand(network, network, "ctd-cd")
        return
    (term,) = xr.shorthand(network, network, "ctd-cd")
    connector = term.student_connector
    steps = [connector] if isinstance(connector, xr.PooledClassifier) else connector.children()
    assert [type(step).__name__ for step in steps] == re.findall(r"`(\w+)`", found)
    check_class_scores(network, term)


def test_class_scores_written_out(monkeypatch):
    (block,) = [block for block in BLOCKS if "student_connector=" in block]
    monkeypatch.setattr(timm, "create_model", created)
    namespace = {}
    exec(compile(block, "docs/timm.md", "exec"), namespace)
    source, term = namespace["source"], namespace["ctd_cd"]
    images, seen = torch.rand(2, 3, 64, 64), []
    source.head.register_forward_hook(lambda module, args, output: seen.append(output))
    tap = xr.FrozenTeacher(source).features(images, ["blocks.11"])["blocks.11"]
    with torch.no_grad():
        torch.testing.assert_close(term.student_connector.eval()(tap), seen[0])
    assert all(parameter.requires_grad for parameter in term.student_connector.parameters())


def spelled(cell):
    """``a.1`` … ``a.3`` written out."""
    names = re.findall(r"`([^`]+)`", cell)
    if "…" not in cell:
        return names
    first, last = names[-2:]
    stem = first.rstrip("0123456789")
    return names[:-2] + [f"{stem}{number}" for number in range(int(first[len(stem) :]), int(last[len(stem) :]) + 1)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip())
def test_what_is_tapped_where(row):
    models, found, own = row
    for name in re.findall(r"`([^`]+)`", models):
        model = timm.create_model(name)
        assert xr.find_stages(model) == spelled(found)
        same = spelled(found) if "the same" in own else []
        assert feature_stages(model) == spelled(own) + same
