"""The student alone: a config's estimator without its teacher, untrained or from a checkpoint."""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.model.utils import revert_sync_batchnorm
from mmpose.registry import MODELS

from xtask_reg.data.coco import is_pairing
from xtask_reg.integrations.checkpoint_meta import checkpoint_meta
from xtask_reg.integrations.mmpose.errors import one_line_errors
from xtask_reg.integrations.mmpose.landmark_sets import names_in
from xtask_reg.integrations.mmpose.tools import read_config
from xtask_reg.sources import load_covering, load_metadata, load_weights

NOT_OF_THE_STUDENT = ("teacher", "terms", "monitor")


def build_student(path: Path, changes: Mapping[str, Any] | None = None) -> BaseModel:
    """The network of an MMPose config, with random weights; no checkpoint is read.

    Args:
        path: the config file, which is executed.
        changes: new values of fields of ``model``.

    Raises:
        ValueError: if the config has no model.
        Exception: whatever its components raise.
    """
    return _build(read_config(path), changes or {})


def load_student(path: str | os.PathLike[str], checkpoint: str | os.PathLike[str], device: str = "cpu") -> BaseModel:
    """A trained estimator as ``mmpose.apis.init_model`` gives it, without its teacher, whose file is not needed.

    Args:
        path: the config that it was trained with; it is executed.
        checkpoint: what MMEngine wrote in training, or what ``xtask-reg export`` made of that; nothing in it is
            executed.
        device: where it will run.

    Returns:
        The estimator in eval mode, with ``cfg`` and ``dataset_meta``.

    Raises:
        FileNotFoundError: if a file does not exist.
        ValueError: for a config that cannot be built, a checkpoint that cannot be read, belongs to another model, or
            does not name its landmarks and their mirror images, or weights that are NaN.
    """
    path, checkpoint = Path(path), Path(checkpoint)
    weights = load_weights(checkpoint)
    with redirect_stdout(io.StringIO()), warnings.catch_warnings(), one_line_errors():
        warnings.simplefilter("ignore")
        config = read_config(path)
        model = revert_sync_batchnorm(_build(config, {}))
    load_covering(model, weights, name=str(checkpoint))
    _check_numbers(model, checkpoint)
    model.cfg = config
    model.dataset_meta = _dataset_meta(checkpoint)
    _check_names(model, checkpoint)
    return model.to(device).eval()


def landmark_names(model: BaseModel) -> tuple[list[str], list[int]]:
    """The names of an estimator's landmarks, and for each the index of its mirror image."""
    return names_in(model.dataset_meta), [int(index) for index in model.dataset_meta["flip_indices"]]


def export_metadata(model: BaseModel) -> dict[str, str]:
    """What :func:`load_student` needs besides the weights of an estimator, as strings."""
    names, flip = landmark_names(model)
    return {"landmarks": json.dumps(names), "flip_index": json.dumps(flip)}


def _build(config: Config, changes: Mapping[str, Any]) -> BaseModel:
    model = config.get("model")
    if model is None:
        raise ValueError("the config has no model")
    student = {key: value for key, value in model.items() if key not in NOT_OF_THE_STUDENT}
    return MODELS.build({**student, **changes})


def _dataset_meta(checkpoint: Path) -> dict[str, Any]:
    """MMPose's ``dataset_meta``: the names, the number and the mirror images of the landmarks."""
    stated = load_metadata(checkpoint)
    if not stated:
        meta = checkpoint_meta(checkpoint)
        found = meta.get("dataset_meta") if isinstance(meta, Mapping) else None
        return dict(found) if isinstance(found, Mapping) else {}
    try:
        names, flip = json.loads(stated["landmarks"]), json.loads(stated["flip_index"])
        return {"keypoint_id2name": dict(enumerate(names)), "flip_indices": flip, "num_keypoints": len(names)}
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}


def _check_numbers(model: BaseModel, checkpoint: Path) -> None:
    spoiled = [name for name, value in model.state_dict().items() if torch.isnan(value).any()]
    if spoiled:
        raise ValueError(
            f"{checkpoint}: {spoiled[0]} has NaN, as after a training that diverged; use another checkpoint"
        )


def _check_names(model: BaseModel, checkpoint: Path) -> None:
    names, flip = (model.dataset_meta.get(key) for key in ("keypoint_id2name", "flip_indices"))
    if not (isinstance(names, Mapping) and isinstance(flip, Sequence)):
        raise ValueError(
            f"{checkpoint} does not name its landmarks; expected a checkpoint as MMEngine writes it, with "
            "meta.dataset_meta, or a file of xtask-reg export"
        )
    if not is_pairing(flip, len(names)):
        raise ValueError(f"{checkpoint}: flip_indices must pair the {len(names)} landmarks mutually, not {list(flip)}")
    heatmaps = getattr(model.head, "out_channels", None)
    if isinstance(heatmaps, int) and heatmaps != len(names):
        raise ValueError(f"{checkpoint} names {len(names)} landmarks, but the head gives {heatmaps} heatmaps")
