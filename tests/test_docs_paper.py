"""docs/paper.md against the configs and the computed numbers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config, DictAction

import xtask_reg.integrations.mmpose  # noqa: F401
from xtask_reg.integrations.mmpose.tools import read_config
from xtask_reg.integrations.mmpose_files import configs

REPOSITORY = Path(__file__).parent.parent
PAGE = (REPOSITORY / "docs/paper.md").read_text()
LINES, QUESTIONS = PAGE.split("## What it leaves open")[0], PAGE.split("## What it leaves open")[1].split("\n## ")[0]
OPTION = re.compile(r"`([a-z_]+(?:\.\w+)+)=\"?([^`\"]+)\"?`")
OPTIONS = [(key, DictAction._parse_iterable(text)) for key, text in OPTION.findall(QUESTIONS)]
DEFAULTS = [
    (key, DictAction._parse_iterable(text))
    for row in QUESTIONS.splitlines()
    if row.count("|") == 4
    for key, text in OPTION.findall(row.split("|")[2])
]
MISSING = object()


def value(config: Config, key: str) -> Any:
    entry: Any = config
    for part in key.split("."):
        try:
            entry = entry[int(part)] if part.isdigit() else entry[part]
        except (KeyError, IndexError):
            return MISSING
    return entry


def config_with(key: str) -> Config:
    """A shipped config of the paper that contains the option, CTD-Com if possible."""
    names = sorted(configs().glob("td-hm_*.py"), key=lambda path: "ctd-com" not in path.name)
    found = [config for config in map(read_config, names) if value(config, key) is not MISSING]
    assert found, f"{key} is in no config"
    return found[0]


@pytest.mark.parametrize(("key", "default"), DEFAULTS)
def test_defaults(key, default):
    found = value(config_with(key), key)
    assert found == (pytest.approx(default, abs=1e-3) if key.endswith("scale_factor") else default)


@pytest.mark.parametrize(("key", "choice"), [option for option in OPTIONS if option not in DEFAULTS])
def test_each_other_choice_builds(key, choice):
    from mmpose.registry import METRICS, MODELS, TRANSFORMS

    config = config_with(key)
    config.merge_from_dict({key: choice})
    assert value(config, key) == choice
    if key.startswith("model."):
        assert MODELS.build(config.model) is not None
    if key.startswith("train_dataloader.dataset.pipeline."):
        assert TRANSFORMS.build(value(config, key.rpartition(".")[0])) is not None
    if key.startswith("test_evaluator."):
        assert METRICS.build(config.test_evaluator) is not None


def test_each_question_has_a_default_and_another_value():
    assert len({key for key, _ in DEFAULTS}) == len(DEFAULTS) >= 14
    assert {key for key, _ in OPTIONS} == {key for key, _ in DEFAULTS}


def test_lines_that_the_page_names_are_in_the_configs():
    text = "\n".join(path.read_text() for path in configs().rglob("*.py"))
    kinds, files = re.findall(r'type="(\w+)"', LINES), re.findall(r"`(_base_/\w+\.py)`", LINES)
    assert len(kinds) >= 12
    assert [kind for kind in kinds if f'type="{kind}"' not in text] == []
    assert [file for file in files if not (configs() / file).exists()] == []
    stems = re.findall(r"`(td-hm_[\w-]+_)…`", LINES)
    assert {stem for stem in stems if len(list(configs().glob(f"{stem}*"))) != 1} == set()


def test_numbers_are_those_of_the_result_file():
    facts = json.loads((REPOSITORY / "benchmarks/results/paper_arithmetic.json").read_text())
    loss, floor = facts["L_R of an answer of zero"], facts["argmax floor"]
    ratio = facts["lambda x L_ED over L_R at a cosine of 0"]
    weights = facts["weight of a cell under the 7 x 7 window at 256 px"]
    distances = list(facts["L_CD of unrelated predictions, by spread of logits"].values())
    numbers = [
        str(loss["cells"]),
        f"{loss['sum']:.2f}",
        f"{loss['mean']:.5f}",
        f"{ratio['sum']:.5f}",
        f"{ratio['mean']:.2f}",
        f"{floor['mean distance, heatmap px']:.3f}",
        f"{floor['mean distance, input px']:.2f}",
        f"{floor['vector norm, input px']:.3f}",
        f"{weights['corner']:.2f}",
        f"{weights['middle']:.2f}",
        f"{distances[0]:.5f}, {distances[1]:.3f}, {distances[2]:.2f}, {distances[3]:.2f} and {distances[4]:.2f}",
        ", ".join(f"{name} {count:.0f}" for name, count in facts["failures of 310"].items()),
    ]
    words = " ".join(PAGE.split())
    assert [number for number in numbers if number not in words] == []
    assert all(abs(count - round(count)) < 0.02 for count in facts["failures of 310"].values())
