"""The pages about the grid have the numbers of the committed results."""

from __future__ import annotations

import re

import pytest
import torch
from few_labels_report import DOCS, PARTS, README, RESULTS, Measured
from grid.cell import SIZE
from grid.report import cell_of
from grid.results import Results
from grid.sources import SOURCES
from marked_page import filled
from mmpose.registry import MODELS
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from xtask_reg.integrations.mmpose.tools import read_config
from xtask_reg.integrations.mmpose_files import configs


def test_tables():
    tables = Measured(RESULTS, "frl14").tables()
    assert tables["results.md"].keys() >= PARTS.keys()
    for name, own in tables.items():
        page = (DOCS / name).read_text()
        assert filled(page, own) == page
        assert {*re.findall("<!-- (.*) -->", page)} == {*own, "end"}


def test_summary():
    readme = README.read_text()
    assert filled(readme, Measured(RESULTS, "frl14").summary()) == readme


def test_the_sizes_of_the_networks():
    """Parameters and multiply-adds of the networks of HG, of FT, and of FT with another decoder."""
    sizes = []
    for source in ("scratch", "dlib", "dlib-multiscale"):
        model = read_config(configs() / SOURCES[source].config).model
        parts = [model[part] for part in ("backbone", "neck", "head") if part in model]
        network = nn.Sequential(*map(MODELS.build, parts)).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, SIZE, SIZE))
        millions, operations = sum(each.numel() for each in network.parameters()) / 1e6, counter.get_total_flops() / 2e9
        sizes.append(f"{millions:.1f} million parameters and {operations:.1f} billion multiply-adds")
    page = " ".join((DOCS / "results.md").read_text().split())
    assert f"{sizes[0]} per image, FT's network {sizes[1]}" in page
    assert f"more operations: {sizes[2]}." in page


def test_every_cell_has_its_errors():
    results = Results(RESULTS / "few_labels.jsonl")
    errors = results.errors.groupby("cell").error
    for line in results.lines:
        assert errors.get_group(cell_of(line).folder).mean() == pytest.approx(line["me"], abs=1e-4)
