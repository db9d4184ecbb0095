"""Terms, weights and teachers from configs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmpose.registry import MODELS
from torch import nn

from xtask_reg.connectors import retained_classifier
from xtask_reg.integrations.mmpose.source import SourceTeacher
from xtask_reg.taps import find_module
from xtask_reg.teachers import FrozenTeachers
from xtask_reg.term import Term, check_weight


def with_weight(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a term, its weight built.

    Raises:
        ValueError: if a field is missing, or the name or weight is bad.
    """
    missing = {"loss", "student", "weight", "name"} - set(config)
    if missing:
        raise ValueError(f"term {dict(config)} lacks {sorted(missing)}")
    name = config["name"]
    if "loss" not in name:
        raise ValueError(f"term name {name!r} must contain 'loss', else MMEngine does not add it to the total")
    if is_retained(config.get("teacher_connector")):
        raise ValueError(f"term {name!r}: RetainedClassifier is the student's; tap teacher='classifier'")
    return {**config, "weight": check_weight(_built(config["weight"]), name)}


def build_term(config: Mapping[str, Any], teacher: SourceTeacher | FrozenTeachers | None) -> Term:
    """A term from what :func:`with_weight` returned."""
    connectors = {
        key: _build_connector(config[key], teacher, config["teacher"])
        for key in ("student_connector", "teacher_connector")
        if config.get(key)
    }
    return Term(**{**config, "loss": MODELS.build(config["loss"]), **connectors})


def build_teacher(config: Mapping[str, Any], student: Mapping[str, Any]) -> SourceTeacher | FrozenTeachers:
    """The teacher of a config, or the teachers if it is a dict of configs by name.

    Args:
        config: as the estimator is given it.
        student: what ``FrozenTeacher`` must know of the student.
    """
    if "type" in config:
        return MODELS.build({**config, **student})
    return FrozenTeachers({name: MODELS.build({**each, **student}) for name, each in config.items()})


def is_retained(config: Mapping[str, Any] | None) -> bool:
    """Whether a connector's config is that of the retained classifier."""
    return bool(config) and MODELS.get(config["type"]) is retained_classifier


def _build_connector(
    config: Mapping[str, Any], teacher: SourceTeacher | FrozenTeachers | None, tap: str | None
) -> nn.Module:
    if not is_retained(config):
        return MODELS.build(config)
    options = {key: value for key, value in config.items() if key != "type"}
    return retained_classifier(find_module(teacher.network, tap), **options)


def _built(weight: Any) -> Any:
    """A weight from its config, whose arguments may be configs of weights in turn."""
    if not (isinstance(weight, Mapping) and "type" in weight):
        return weight
    return MODELS.build({key: _built(value) for key, value in weight.items()})
