"""The errors of a broken config, in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_ERRORS = (
    *(AssertionError, AttributeError, ImportError, LookupError, OSError, RuntimeError, SyntaxError),
    *(TypeError, ValueError),
)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Convert the exceptions of a broken config to a ``ValueError`` with a one-line message."""
    try:
        yield
    except _ERRORS as error:
        raise ValueError(one_line(error)) from error


def one_line(error: BaseException) -> str:
    """The message of an exception and its notes, without line breaks."""
    message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    texts = [message or type(error).__name__, *getattr(error, "__notes__", ())]
    return " ".join(" ".join(texts).split())
