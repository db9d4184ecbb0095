"""Converts docstrings from reStructuredText roles and formulas, which IDEs show, to Markdown for the site."""

from __future__ import annotations

import re
import textwrap

from griffe import Extension, NameResolutionError, Object

FORMULA = re.compile(r"^( *)\.\. math::[ \n](.*(?:\n(?:\1 +.*)?)*)", re.MULTILINE)
CODE = re.compile(r"^( *)\.\. code:: (\w+)\n((?:\n|\1 +.*\n?)+)", re.MULTILINE)
EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
ROLE = re.compile(r":(\w+):`~?([^`]+)`", re.DOTALL)


class MarkdownDocstrings(Extension):
    """Rewrites the docstring of everything that Griffe finds."""

    def on_object(self, *, obj: Object, **unused: object) -> None:
        """Griffe calls this for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value, obj)


def markdown(docstring: str, owner: Object) -> str:
    """Convert formulas to dollars, code to fences, and roles to links; names are looked up in the owner's scope."""
    docstring = EXAMPLE.sub("Examples:", docstring)  # the section name that Griffe parses as code
    docstring = FORMULA.sub(lambda found: _formula(found[1], found[2]), docstring)
    docstring = CODE.sub(lambda found: _fenced(found[1], found[2], found[3]), docstring)
    return ROLE.sub(lambda found: _role(found[1], found[2], owner), docstring)


def _formula(indent: str, latex: str) -> str:
    parts = re.split(r"\n\s*\n", latex.strip())
    return "\n\n".join(f"{indent}$${' '.join(part.split())}$$" for part in parts) + "\n\n"


def _fenced(indent: str, language: str, code: str) -> str:
    return textwrap.indent(f"```{language}\n{textwrap.dedent(code).strip()}\n```\n", indent)


def _role(role: str, text: str, owner: Object) -> str:
    if role == "math":
        return f"${' '.join(text.split())}$"
    if role == "mod":  # modules have no entry to link to
        return f"`{text}`"
    try:
        target = owner.resolve(text.partition(".")[0]) + "".join(text.partition(".")[1:])
    except NameResolutionError:
        target = text
    return f"[`{text.rpartition('.')[2]}`][{target}]"
