"""docs/cache.md: its code runs, its options exist, its table is that of the result file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cache_cost

import xtask_reg as xr

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "cache.md").read_text()


def test_code_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 3
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/cache.md", "exec"), namespace)
    assert "the teacher was given 12 different images, but images=4 in versions=2 make 8. " in capsys.readouterr().out
    assert list((tmp_path / "cache" / "resnet18").iterdir())


def test_config_is_of_a_cache() -> None:
    block = re.findall(r"```python\n(teacher = .*?)```", PAGE, re.DOTALL)[0]
    namespace: dict[str, dict] = {}
    exec(block, namespace)
    given = namespace["teacher"]["cache"]
    assert xr.TeacherCache(**given).capacity == 300
    options = dict(re.findall(r"model\.teacher\.cache\.(\w+)=(\S+)", PAGE))
    assert options == {name: str(value) for name, value in given.items()}


def test_table_is_that_of_the_result_file() -> None:
    cases = json.loads(cache_cost.RESULTS.read_text())["cases"]
    assert cache_cost.markdown_table(cases) in PAGE
