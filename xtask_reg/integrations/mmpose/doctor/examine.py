"""Examines a config on one training batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from xtask_reg.integrations.mmengine.epoch_seed import EpochSeedHook
from xtask_reg.integrations.mmengine.hook import CrossTaskHook
from xtask_reg.integrations.mmengine.unlabelled import UnlabelledImagesHook
from xtask_reg.integrations.mmpose.doctor.codec import codec_facts
from xtask_reg.integrations.mmpose.doctor.data import data_facts, test_loop
from xtask_reg.integrations.mmpose.doctor.facts import Examination, Facts, RunFacts
from xtask_reg.integrations.mmpose.doctor.losses import loss_facts, stage_facts
from xtask_reg.integrations.mmpose.doctor.network import first_trainable_layer, parameter_facts
from xtask_reg.integrations.mmpose.doctor.risks import find_risks
from xtask_reg.integrations.mmpose.doctor.source import beginning, called, teacher_facts, teachers_of
from xtask_reg.integrations.mmpose.doctor.start import Start, started, thawing
from xtask_reg.integrations.mmpose.doctor.step import Step, make_step


def examine(config: str | Path, options: Mapping[str, Any] | None = None) -> Examination:
    """Build an MMPose config as MMEngine would for training, make one step, and look at everything.

    Nothing is written, and nothing is trained for later use.

    Args:
        config: the config file.
        options: values to change, by dotted key, like MMEngine's ``--cfg-options``.

    Raises:
        ValueError: for a config that cannot be built or trained, with the message of what refused it on one line.
    """
    with started(Path(config), options or {}) as start:
        facts = _look(start)
    return Examination(str(config), facts, tuple(find_risks(facts)))


def _look(start: Start) -> Facts:
    model = start.runner.model
    regularizer = getattr(model, "regularizer", None)
    if regularizer is not None:
        regularizer.progress = 0
    teachers = teachers_of(regularizer)
    beginnings = {name: beginning(model, teacher) for name, teacher in teachers.items()}
    with called(teachers) as runs:
        step = make_step(start.runner, start.batch, regularizer, first_trainable_layer(model))
    test, test_error = test_loop(start.runner)
    loops = {"val_evaluator": start.runner.val_loop, "test_evaluator": test}
    return Facts(
        run=_run_facts(start.config, start.runner, step),
        data=data_facts(start.runner, step, test, test_error),
        codec=codec_facts(
            start.config, getattr(model, "head", None), {key: loop for key, loop in loops.items() if loop is not None}
        ),
        parameters=parameter_facts(model, step),
        losses=loss_facts(start.config.model.get("terms"), step),
        stages=stage_facts(step.report),
        teachers=teacher_facts(start, teachers, step, beginnings, runs),
    )


def _run_facts(config: Config, runner: Runner, step: Step) -> RunFacts:
    folders = [str(hook.folder) for hook in runner.hooks if isinstance(hook, UnlabelledImagesHook)]
    wrapper = config.get("model_wrapper_cfg") or config
    return RunFacts(
        device=str(next(runner.model.parameters()).device),
        seed=runner.seed,
        has_cross_task_hook=any(isinstance(hook, CrossTaskHook) for hook in runner.hooks),
        has_epoch_seed_hook=any(isinstance(hook, EpochSeedHook) for hook in runner.hooks),
        find_unused_parameters=bool(wrapper.get("find_unused_parameters", False)),
        thaws={path: hook["until"] for hook in thawing(config) for path in hook["paths"]},
        unlabelled=None if step.unlabelled is None else folders[-1],
    )
