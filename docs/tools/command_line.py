"""Adds the help of every command to the page about the command line."""

from __future__ import annotations

import argparse
import os

from mkdocs.structure.pages import Page

from xtask_reg.cli import COMMANDS


def on_page_markdown(markdown: str, *, page: Page, **unused: object) -> str:
    """MkDocs calls this with the source of each page."""
    return markdown + _commands() if page.file.src_uri == "api/command-line.md" else markdown


def _commands() -> str:
    os.environ["COLUMNS"] = "100"  # the width of argparse's lines
    commands = argparse.ArgumentParser(prog="xtask-reg").add_subparsers()
    for command in COMMANDS:
        command.add_to(commands)
    return "".join(f"\n## {name}\n\n```text\n{parser.format_help()}```\n" for name, parser in commands.choices.items())
