"""The site's rendering of docstrings and formulas."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from griffe import Docstring, DocstringSectionReturns, NameResolutionError
from mkdocs.config import load_config

REPOSITORY = Path(__file__).parent.parent
TOOLS = REPOSITORY / "docs" / "tools"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def resolve(name: str) -> str:
    if name != "Term":
        raise NameResolutionError(name)
    return "xtask_reg.term.Term"


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("See :class:`Term`.", "See [`Term`][xtask_reg.term.Term]."),
        ("See :meth:`Term.set_weight`.", "See [`set_weight`][xtask_reg.term.Term.set_weight]."),
        ("See :func:`~a.b.make`.", "See [`make`][a.b.make]."),
        ("In :mod:`a.b`.", "In `a.b`."),
        (r"It is :math:`\tau`.", r"It is $\tau$."),
        ("A.\n\n.. math:: a\n    + b\n\nB.", "A.\n\n$$a + b$$\n\nB."),
        ("A.\n\n.. math::\n    a\n\n    b\n\nB.", "A.\n\n$$a$$\n\n$$b$$\n\nB."),
        ("A.\n\n.. code:: python\n\n    x = 1\n\nB.", "A.\n\n```python\nx = 1\n```\nB."),
        ("A.\n\nExample:\n    >>> 1", "A.\n\nExamples:\n    >>> 1"),
    ],
)
def test_docstrings_become_markdown(docstring: str, expected: str) -> None:
    assert load("docstrings").markdown(docstring, SimpleNamespace(resolve=resolve)) == expected


def test_formulas_become_mathml() -> None:
    inline = r'<p><span class="arithmatex">\(a &lt; b\)</span></p>'
    block = r'<div class="arithmatex">\[\frac{a}{b}\]</div><code>\(</code>'
    html = load("mathml").on_page_content(inline + block)
    assert "<mo>&#x0003C;</mo>" in html
    assert '<math xmlns="http://www.w3.org/1998/Math/MathML" display="block"><mrow><mfrac>' in html
    assert html.endswith(r"<code>\(</code>")


def test_what_returns_is_one_item_of_several_lines() -> None:
    handlers = load_config(str(REPOSITORY / "mkdocs.yml")).plugins["mkdocstrings"].config.handlers
    docstring = Docstring("A.\n\nReturns:\n    The points, and the values\n    of their peaks.", parser="google")
    _, returns = docstring.parse(**handlers["python"]["options"]["docstring_options"])
    assert isinstance(returns, DocstringSectionReturns)
    assert [each.description for each in returns.value] == ["The points, and the values\nof their peaks."]
