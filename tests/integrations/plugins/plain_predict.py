"""``plain_predict.py <config> <checkpoint> <image>``: predict with a plain MMPose config; prints JSON."""

from __future__ import annotations

import json
import sys

import torch
from mmengine.config import Config

config = Config.fromfile(sys.argv[1])

from mmpose.apis import inference_topdown, init_model  # noqa: E402

checkpoint = torch.load(sys.argv[2], weights_only=True)
model = init_model(config, None, device="cpu")
keys = model.load_state_dict(checkpoint["state_dict"], strict=True)
result = inference_topdown(model, sys.argv[3])[0].pred_instances
facts = {"model": type(model).__name__, "keys": str(keys), "scores": result.keypoint_scores.tolist()}
facts["registered"] = "xtask_reg.integrations.mmpose" in sys.modules
print("RESULT" + json.dumps({**facts, "points": result.keypoints.tolist()}))
