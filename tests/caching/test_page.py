"""docs/cache.md: its code runs, its options exist, its table is that of the result file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cache_cost

import xtask_reg as xr

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "cache.md").read_text()


BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
OWN_LOOP = [block for block in BLOCKS if "_base_" not in block]
(CONFIG,) = set(BLOCKS) - set(OWN_LOOP)


def test_code_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(OWN_LOOP) == 2
    namespace: dict[str, object] = {}
    for block in OWN_LOOP:
        exec(compile(block, "docs/cache.md", "exec"), namespace)
    assert "the teacher was given 12 different images, but images=4 in versions=2 make 8. " in capsys.readouterr().out
    assert list((tmp_path / "cache" / "resnet18").iterdir())


def test_config_is_one(tmp_path) -> None:
    from mmpose.registry import TRANSFORMS

    from xtask_reg.integrations.mmpose.tools import read_config
    from xtask_reg.integrations.mmpose_files import configs

    path = tmp_path / "cached.py"
    path.write_text(CONFIG.replace("./", f"{configs()}/"))
    config = read_config(path)
    steps = config.train_dataloader.dataset.pipeline
    assert [step.type for step in steps][2:5] == ["RandomFlip", "QuantizedBBoxTransform", "TopdownAffine"]
    assert config.model.teacher.type == "FrozenTeacher"
    cache = xr.TeacherCache(**config.model.teacher.cache)
    assert cache.capacity == config.train_dataloader.dataset.indices * 2 * len(TRANSFORMS.build(steps[3]).scales)


def test_table_is_that_of_the_result_file() -> None:
    cases = json.loads(cache_cost.RESULTS.read_text())["cases"]
    assert cache_cost.markdown_table(cases) in PAGE
