"""The hook of MMPose runs, which checks that data, head and metric agree."""

from __future__ import annotations

from typing import Any

from mmpose.registry import HOOKS

from xtask_reg.integrations.mmengine.bare_model import bare_model
from xtask_reg.integrations.mmengine.hook import CrossTaskHook
from xtask_reg.integrations.mmpose.codec_settings import GEOMETRY, differing
from xtask_reg.integrations.mmpose.landmark_sets import check_heatmaps, check_names, names_in
from xtask_reg.integrations.mmpose.metric import LandmarkMetric


@HOOKS.register_module(name="CrossTaskHook")
class CrossTaskPoseHook(CrossTaskHook):
    """:class:`xtask_reg.integrations.mmengine.CrossTaskHook`, which also checks that data, head and metric agree.

    It tells :class:`LandmarkMetric` how many input pixels a heatmap pixel is.
    """

    def __init__(self) -> None:
        self._trained: list[str] = []

    def before_train(self, runner: Any) -> None:
        """Log the number of trainable parameters.

        Raises:
            ValueError: if training and validation have different landmarks, these do not fit the head, a training that
                is resumed had others, the heatmaps of the training pipeline are not those that the head's decoder
                reads, or errors are to count in millimetres of images that do not say how large they are.
        """
        super().before_train(runner)
        head, names = _head(runner), _names(runner.train_dataloader)
        if runner._resume:
            check_names(names, "training", self._trained, "the training that is resumed")
        self._trained = names
        if runner.val_loop is not None:
            check_names(_names(runner.val_dataloader), "validation", self._trained, "the training set")
            _tell_codec(runner.val_loop, head)
            check_data(runner.val_loop)
        check_heatmaps(self._trained, "training", head)
        _check_geometry(runner, head)

    def before_val(self, runner: Any) -> None:
        _tell_codec(runner.val_loop, _head(runner))

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        super().after_load_checkpoint(runner, checkpoint)
        self._trained = names_in(checkpoint.get("meta", {}).get("dataset_meta") or {})

    def before_test(self, runner: Any) -> None:
        """Raise ``ValueError`` if the data set has other landmarks than the training had, or what training refuses."""
        head, names = _head(runner), _names(runner.test_dataloader)
        check_names(names, "test", self._trained, "the training of this network")
        check_heatmaps(names, "test", head)
        _check_geometry(runner, head)
        _tell_codec(runner.test_loop, head)
        check_data(runner.test_loop)


def _head(runner: Any) -> Any:
    return getattr(bare_model(runner), "head", None)


def _names(loader: Any) -> list[str]:
    return names_in(loader.dataset.metainfo)


def _tell_codec(loop: Any, head: Any) -> None:
    for metric in _landmark_metrics(loop):
        metric.use_codec(getattr(head, "decoder", None))


def check_data(loop: Any) -> None:
    """Raise ``ValueError`` if validation or test data lack the scale that a metric needs."""
    for metric in _landmark_metrics(loop):
        metric.check_data(loop.dataloader.dataset)


def _landmark_metrics(loop: Any) -> list[LandmarkMetric]:
    return [metric for metric in loop.evaluator.metrics if isinstance(metric, LandmarkMetric)]


def _check_geometry(runner: Any, head: Any) -> None:
    found = differing(runner.cfg.get("train_dataloader"), getattr(head, "decoder", None), GEOMETRY)
    if found:
        raise ValueError(f"heatmaps are made by one codec and read by another, {'; '.join(found)}: make them equal")
