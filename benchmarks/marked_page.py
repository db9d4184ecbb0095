"""Writes tables into pages: text between ``<!-- name -->`` and ``<!-- end -->`` is replaced."""

from __future__ import annotations

import re
from collections.abc import Mapping


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
