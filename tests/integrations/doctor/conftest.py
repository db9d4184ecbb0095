"""Examinations of the tiny configs, each made once."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from mmengine.config import DictAction
from rich.console import Console

from xtask_reg.integrations.mmpose.doctor import Examination, examine, show

CALM = {
    "model.terms.0.weight": 1e-5,  # at 0.002 the terms outweigh the task ten times: the tiny source is untrained
    "model.terms.1.weight": 1e-4,
    "train_dataloader.dataset.serialize_data": False,  # saves half a second each
    "val_dataloader.dataset.serialize_data": False,
}


@pytest.fixture(autouse=True, scope="module")
def _configs_are_not_made_pretty() -> Iterator[None]:
    """MMEngine formats each config several times; that would be most of the time of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmengine.config.config.FormatCode", lambda text, **options: (text, True))
        yield


@pytest.fixture(scope="session")
def tiny_options(options, ft_options) -> Callable[[str], dict[str, Any]]:
    """``tiny_options(method)``: the ``--cfg-options`` of a tiny demo config without risks, as text."""
    return lambda method: {**options, **CALM} if method.startswith("ctd") else ft_options


@pytest.fixture(scope="session")
def look(config_path, tiny_options) -> Callable[..., Examination]:
    """``look(changes, method)``: examine a tiny demo config."""

    def get(changes: Mapping[str, Any] | None = None, method: str = "ctd-com") -> Examination:
        given = {key: DictAction._parse_iterable(str(value)) for key, value in tiny_options(method).items()}
        return examine(config_path(method), {**given, **(changes or {})})

    return get


@pytest.fixture(scope="session")
def diagnose(look) -> Callable[..., Examination]:
    """As ``look``, but each examination is made once."""
    made: dict[str, Examination] = {}

    def get(changes: Mapping[str, Any] | None = None, method: str = "ctd-com") -> Examination:
        key = repr((changes, method))
        if key not in made:
            made[key] = look(changes, method)
        return made[key]

    return get


@pytest.fixture(scope="session")
def risks() -> Callable[[Examination], dict[str, str]]:
    """``risks(examination)``: the messages by name, several of one name one below the other."""

    def get(examination: Examination) -> dict[str, str]:
        found: dict[str, str] = {}
        for risk in examination.risks:
            found[risk.name] = "\n".join([*filter(None, [found.get(risk.name)]), risk.message])
        return found

    return get


@pytest.fixture(scope="session")
def printed() -> Callable[[Examination], str]:
    """``printed(examination)``: its text."""

    def get(examination: Examination) -> str:
        text = io.StringIO()
        show(examination, Console(file=text, width=120))
        return text.getvalue()

    return get
