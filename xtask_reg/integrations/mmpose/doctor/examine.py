"""Examine a config by one training batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor

from xtask_reg.integrations.mmpose.doctor.data import data_facts
from xtask_reg.integrations.mmpose.doctor.facts import (
    Examination,
    Facts,
    LossFacts,
    Pull,
    RunFacts,
    TapFacts,
    TermFacts,
)
from xtask_reg.integrations.mmpose.doctor.network import first_trainable_layer, parameter_facts
from xtask_reg.integrations.mmpose.doctor.risks import find_risks
from xtask_reg.integrations.mmpose.doctor.source import differing_from_start, teacher_facts
from xtask_reg.integrations.mmpose.doctor.start import Start, started
from xtask_reg.integrations.mmpose.doctor.step import Step, TermWatch, make_step
from xtask_reg.integrations.mmpose.epoch_seed import EpochSeedHook
from xtask_reg.integrations.mmpose.hook import CrossTaskHook


def examine(config: str | Path, options: Mapping[str, Any] | None = None) -> Examination:
    """Build an MMPose config as MMEngine would for training, make one step, and look at everything.

    Nothing is written, and nothing is trained for later use.

    Args:
        config: the config file.
        options: what replaces its values, by dotted key: MMEngine's ``--cfg-options``.

    Raises:
        ValueError: for a config that cannot be built or trained, with the message of what refused it on one line.
    """
    with started(Path(config), options or {}) as start:
        facts = _look(start)
    return Examination(str(config), facts, tuple(find_risks(facts)))


def _look(start: Start) -> Facts:
    model = start.runner.model
    regularizer = getattr(model, "regularizer", None)
    terms = {} if regularizer is None else dict(regularizer.terms.items())
    beginning = differing_from_start(model, regularizer.teacher) if terms else (0, ())
    step = make_step(start.runner, start.batch, terms, first_trainable_layer(model))
    return Facts(
        run=_run_facts(start.config, start.runner),
        data=data_facts(start.runner, step),
        parameters=parameter_facts(model, step),
        losses=_loss_facts(start.config, step),
        teacher=teacher_facts(start, regularizer.teacher, step, *beginning) if terms else None,
    )


def _run_facts(config: Config, runner: Runner) -> RunFacts:
    loader, wrapper = config.train_dataloader, config.get("model_wrapper_cfg") or config
    return RunFacts(
        device=str(next(runner.model.parameters()).device),
        seed=runner.seed,
        has_cross_task_hook=any(isinstance(hook, CrossTaskHook) for hook in runner.hooks),
        has_epoch_seed_hook=any(isinstance(hook, EpochSeedHook) for hook in runner.hooks),
        persistent_workers=bool(loader.get("num_workers") and loader.get("persistent_workers")),
        find_unused_parameters=bool(wrapper.get("find_unused_parameters", False)),
    )


def _loss_facts(config: Config, step: Step) -> LossFacts:
    given = [term["name"] for term in config.model.get("terms") or ()]
    values = {name: float(value) for name, value in step.losses.items()}
    total = sum(values.values())
    not_finite = [name for name, value in step.losses.items() if not value.isfinite()]
    not_finite += sorted(set().union(*(found.not_finite for found in step.gradients.values())))
    return LossFacts(
        task={name: value for name, value in values.items() if name not in step.watches},
        terms=() if step.error else tuple(_term_facts(watch, step, values, total) for watch in step.watches.values()),
        left_out=tuple(name for name in given if name not in step.watches),
        total=None if step.error else total,
        not_finite=tuple(not_finite),
        error=step.error,
    )


def _term_facts(watch: TermWatch, step: Step, values: dict[str, float], total: float) -> TermFacts:
    term, own, task = watch.term, step.gradients[watch.term.name], step.gradients["task"]
    assert watch.taps is not None
    weighted = None if watch.error else values[term.name]
    paths = (term.student, term.teacher)
    student, teacher = (_tap_facts(path, output) for path, output in zip(paths, watch.taps))
    return TermFacts(
        name=term.name,
        weight=term.weight,
        value=None if weighted is None else weighted / term.weight,
        weighted=weighted,
        share=None if weighted is None or not total else weighted / total,
        student=student,
        teacher=teacher,
        difference=_difference(watch),
        at_tap=_pull(own.taps[term.student], task.taps[term.student]),
        at_first_layer=_pull(own.first_layer, task.first_layer),
        error=watch.error,
    )


def _tap_facts(path: str, output: Tensor) -> TapFacts:
    return TapFacts(path, tuple(output.shape), str(output.dtype).removeprefix("torch."), output.requires_grad)


def _difference(watch: TermWatch) -> float | None:
    if watch.compared is None or watch.compared[0].shape != watch.compared[1].shape:
        return None
    student, teacher = (output.detach().float() for output in watch.compared)
    return float((student - teacher).norm() / teacher.norm().clamp_min(torch.finfo(torch.float32).tiny))


def _pull(term: Tensor | None, task: Tensor | None) -> Pull:
    norms = [None if gradient is None else float(gradient.norm()) for gradient in (term, task)]
    if term is None or task is None or not norms[1]:
        return Pull(*norms, ratio=None, cosine=None)
    cosine = float((term / norms[0] * (task / norms[1])).sum()) if norms[0] else None
    return Pull(*norms, ratio=norms[0] / norms[1], cosine=cosine)
