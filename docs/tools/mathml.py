"""Converts the formulas of a page to MathML, which browsers show without scripts or a network."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(content: str, **unused: object) -> str:
    """MkDocs calls this with the HTML of each page, in which pymdownx.arithmatex has marked the formulas."""
    return FORMULA.sub(_rendered, content)


def _rendered(formula: re.Match[str]) -> str:
    block = formula[1] == "div"
    return f'<{formula[1]} class="arithmatex">{_mathml(html.unescape(formula[2]), block)}</{formula[1]}>'


def _mathml(latex: str, block: bool) -> str:
    return convert(latex.strip(), display="block" if block else "inline")
