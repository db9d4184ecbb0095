"""Writes tables into pages: text between ``<!-- name -->`` and ``<!-- end -->`` is replaced."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path


def fill(pages: Mapping[Path, Mapping[str, str]]) -> None:
    """Write tables into pages; none is written if a table lacks its mark.

    Raises:
        ValueError: if a table has no mark in its page.
    """
    texts = {page: filled(page.read_text(), tables) for page, tables in pages.items()}
    for page, text in texts.items():
        page.write_text(text)


def filled(page: str, tables: Mapping[str, str]) -> str:
    """The page with the tables at their marks.

    Raises:
        ValueError: if a table has no mark in the page.
    """
    for name, table in tables.items():
        page, marks = re.subn(
            rf"(<!-- {name} -->\n).*?(<!-- end -->)",
            lambda mark, table=table: f"{mark[1]}\n{table}\n\n{mark[2]}",
            page,
            flags=re.DOTALL,
        )
        if not marks:
            raise ValueError(f"the page has no <!-- {name} --> ... <!-- end -->")
    return page
