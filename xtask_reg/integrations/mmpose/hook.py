"""What an MMPose run is checked for."""

from __future__ import annotations

from typing import Any

from mmpose.registry import HOOKS

from xtask_reg.integrations.mmengine.hook import CrossTaskHook, bare_model


@HOOKS.register_module(name="CrossTaskHook")
class CrossTaskPoseHook(CrossTaskHook):
    """:class:`xtask_reg.integrations.mmengine.CrossTaskHook`, which also checks that data and head agree."""

    def before_train(self, runner: Any) -> None:
        """Log the number of trainable parameters.

        Raises:
            ValueError: if a data set's landmarks do not fit the head, or training and validation differ.
        """
        super().before_train(runner)
        loaders = {"training": runner.train_dataloader}
        if runner.val_loop is not None:
            loaders["validation"] = runner.val_dataloader
        _check_landmarks(runner, loaders)

    def before_test(self, runner: Any) -> None:
        """Raise ``ValueError`` if the data set's number of landmarks is not the head's number of heatmaps."""
        _check_landmarks(runner, {"test": runner.test_dataloader})


def _check_landmarks(runner: Any, loaders: dict[str, Any]) -> None:
    heatmaps = getattr(getattr(bare_model(runner), "head", None), "out_channels", None)
    names: dict[str, list[str]] = {}
    for kind, loader in loaders.items():
        names[kind] = list(loader.dataset.metainfo.get("keypoint_id2name", {}).values())
        if heatmaps is not None and names[kind] and len(names[kind]) != heatmaps:
            raise ValueError(
                f"the {kind} set has {len(names[kind])} landmarks, the head gives {heatmaps} heatmaps: "
                f"set model.head.out_channels={len(names[kind])}"
            )
    if len(set(map(tuple, names.values()))) > 1:
        raise ValueError(f"the data sets have different landmarks: {names}")
