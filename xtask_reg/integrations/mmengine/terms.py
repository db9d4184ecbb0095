"""Terms, weights and teachers from configs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.registry import MODELS
from torch import nn

from xtask_reg.connectors import PooledClassifier, retained_classifier
from xtask_reg.integrations.mmengine.source import SourceTeacher
from xtask_reg.shorthands import shorthand
from xtask_reg.submodules import find_module
from xtask_reg.teachers import FrozenTeachers
from xtask_reg.term import Term, check_weight, is_left_out


def active_terms(terms: str | Sequence[Mapping[str, Any]]) -> str | list[dict[str, Any]]:
    """The configs of the terms that are not left out, with their weights built; a shorthand is returned as it is.

    Raises:
        ValueError: if a field is missing, or the name or weight is bad.
    """
    if isinstance(terms, str):
        return terms
    return [term for term in map(_with_weight, terms) if not is_left_out(term["weight"])]


def _with_weight(config: Mapping[str, Any]) -> dict[str, Any]:
    missing = {"loss", "student", "weight", "name"} - set(config)
    if missing:
        raise ValueError(f"term {dict(config)} lacks {sorted(missing)}")
    name = config["name"]
    if "loss" not in name:
        raise ValueError(f"term name {name!r} must contain 'loss', otherwise MMEngine does not add it to the total")
    if _is_retained(config.get("teacher_connector")):
        raise ValueError(f"term {name!r}: RetainedClassifier is for the student only; set teacher='classifier'")
    if _is_retained(config.get("student_connector")) and config.get("teacher") is None:
        raise ValueError(
            f"term {name!r}: RetainedClassifier copies the module that the teacher is tapped at; set teacher="
        )
    try:
        weight = _built(config["weight"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"term {name!r} has weight {config['weight']}: {error}") from error
    return {**config, "weight": check_weight(weight, name)}


Teacher = SourceTeacher | FrozenTeachers | None


def build_terms(terms: str | Sequence[Mapping[str, Any]], student: nn.Module, teacher: Teacher) -> list[Term]:
    """The terms of a shorthand, or of the configs that :func:`active_terms` returned.

    Raises:
        ValueError: for an unknown shorthand, one with several teachers, or one that would copy parts of the source
            other than its classifier, which cannot be filled once the source's weights are read.
    """
    if isinstance(terms, str):
        if isinstance(teacher, FrozenTeachers):
            raise ValueError(f"terms={terms!r} with several teachers does not say which one; write the terms out")
        try:
            built = shorthand(student, teacher, terms, prefix="loss_")
        except ValueError as error:
            error.add_note(f"terms={terms!r} in a config has no arguments stages and images: write the terms out")
            raise
        for term in built:
            copied = next(term.parameters(), None) is not None
            if copied and classifier_copy(term) is None:
                raise ValueError(
                    f"terms={terms!r}: {term.name} needs a copy of more than a classifier behind an average; give the "
                    "teacher classifier=dict(in_channels=..., num_classes=...), or write the terms out"
                )
        return built
    return [_build_term(term, teacher) for term in terms]


def classifier_copy(term: Term) -> PooledClassifier | None:
    """The copy of the source's pooled classifier in a term, if its connector has no other parameters."""
    connector = term.student_connector
    found = next((part for part in connector.modules() if isinstance(part, PooledClassifier)), None)
    alone = found is not None and len(list(found.parameters())) == len(list(connector.parameters()))
    return found if alone else None


def _build_term(config: Mapping[str, Any], teacher: Teacher) -> Term:
    connectors = {
        key: _build_connector(config[key], teacher, config.get("teacher"))
        for key in ("student_connector", "teacher_connector")
        if config.get(key)
    }
    return Term(**{**config, "loss": MODELS.build(config["loss"]), **connectors})


def build_teacher(config: Mapping[str, Any], student: Mapping[str, Any]) -> SourceTeacher | FrozenTeachers:
    """The teacher of a config, or the teachers if it is a dict of configs by name.

    Args:
        config: the model's argument.
        student: arguments of ``FrozenTeacher`` about the student, where the config does not give them.
    """
    if "type" in config:
        return MODELS.build({**student, **config})
    return FrozenTeachers({name: MODELS.build({**student, **each}) for name, each in config.items()})


def _is_retained(config: Mapping[str, Any] | None) -> bool:
    """Whether a connector's config means the retained classifier."""
    return bool(config and MODELS.get(config["type"]) is retained_classifier)


def _build_connector(config: Mapping[str, Any], teacher: Teacher, tap: str | None) -> nn.Module:
    if not _is_retained(config):
        return MODELS.build(config)
    options = {key: value for key, value in config.items() if key != "type"}
    return retained_classifier(find_module(teacher.network, tap), **options)  # type: ignore[arg-type,union-attr]  # neither is None


def _built(weight: Any) -> Any:
    """A weight from its config, whose arguments may be configs of weights themselves."""
    if not (isinstance(weight, Mapping) and "type" in weight):
        return weight
    return MODELS.build({key: _built(value) for key, value in weight.items()})
