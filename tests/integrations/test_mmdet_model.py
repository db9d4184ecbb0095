"""MMDetection's detectors with the mixin: what test_mmengine_model.py does not cover."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, load_checkpoint


@pytest.fixture(autouse=True)
def _default_scope() -> None:
    init_default_scope("mmdet")


@pytest.fixture
def files(shared, nets) -> Path:
    """Pictures with their boxes, and the source."""

    def make(folder: Path) -> None:
        nets.write_boxes(folder, 8)
        nets.write_source("mmdet", folder / "mmdet.safetensors")

    return shared("mmdet", make)


@pytest.fixture
def config(nets, files, tmp_path, request) -> Any:
    def make(model: dict[str, Any], name: str, **changes: Any) -> Config:
        names = f"{abs(hash(request.node.nodeid))}_{name}"
        visualizer = dict(type="DetLocalVisualizer", name=names)
        own = dict(work_dir=str(tmp_path / name), experiment_name=names, visualizer=visualizer, **changes)
        return Config(nets.run_config("mmdet", model, files, **own))

    return make


@pytest.fixture
def evaluation(nets, files) -> dict[str, Any]:
    """What a run needs to validate or to test."""
    loader = dict(
        batch_size=2, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False),
        dataset=nets.data_of("mmdet", files, False),
    )  # fmt: skip
    return dict(loader=loader, cfg=dict(), evaluator=dict(type="CocoMetric", ann_file=str(files / "boxes.json")))


def test_validation_and_testing_without_the_sources_file(nets, files, config, evaluation):
    """The runner's own test loop; its boxes are those of the plain class with the same checkpoint."""
    val = {f"val_{key if key != 'loader' else 'dataloader'}": value for key, value in evaluation.items()}
    runner = Runner.from_cfg(config(nets.cross_task_model("mmdet", files / "mmdet.safetensors"), "train", **val))
    runner.train()
    test = {key.replace("val", "test", 1): value for key, value in val.items()}
    scores, boxes = [], []
    for name, make in (("own", nets.cross_task_model), ("plain", nets.plain_model)):
        load = dict(load_from=str(Path(runner.work_dir) / "epoch_2.pth"))
        tested = Runner.from_cfg(config(make("mmdet", "gone.safetensors"), name, **load, **copy.deepcopy(test)))
        scores.append(tested.test())
        batch = next(iter(tested.test_dataloader))
        boxes.append([sample.pred_instances for sample in tested.model.test_step(batch)])
    assert scores[0] == scores[1]
    for own, plain in zip(*boxes, strict=True):
        assert len(own) == 20
        for field in ("bboxes", "scores", "labels"):
            assert torch.equal(own[field], plain[field])


def test_inference_by_mmdetections_own_function(nets, files, config, evaluation):
    """``init_detector`` builds the whole model, here without the teacher's file."""
    from mmdet.apis import inference_detector, init_detector

    runner = Runner.from_cfg(config(nets.cross_task_model("mmdet", files / "mmdet.safetensors"), "train"))
    runner.train()
    path = str(Path(runner.work_dir) / "epoch_2.pth")
    loaders = dict(test_dataloader=evaluation["loader"], test_evaluator=evaluation["evaluator"])
    given = config(nets.cross_task_model("mmdet", "gone.safetensors"), "gone", **loaders)
    detector = init_detector(given, path, palette="random", device="cpu")
    found = inference_detector(detector, str(files / "0.png")).pred_instances
    plain = MODELS.build(Config(nets.plain_model("mmdet", "gone.safetensors"))._cfg_dict).eval()
    load_checkpoint(plain, path)
    plain.cfg = given
    expected = inference_detector(plain, str(files / "0.png")).pred_instances
    np.testing.assert_array_equal(found.bboxes.numpy(), expected.bboxes.numpy())
    assert len(found) == 20


def test_detector_that_gives_lists_of_losses(nets, files, config):
    """RetinaNet has one loss per pyramid level; a tap is in the neck, which the teacher lacks."""
    from mmdet.models import RetinaNet
    from mmdet.registry import MODELS as DETECTORS

    from xtask_reg.integrations.mmengine import CrossTaskModel

    class CrossTaskRetinaNet(CrossTaskModel, RetinaNet):
        pass

    DETECTORS.register_module(module=CrossTaskRetinaNet, force=True)
    own = nets.cross_task_model("mmdet", files / "mmdet.safetensors")
    sizes = dict(type="AnchorGenerator", octave_base_scale=4, scales_per_octave=1, ratios=[1.0], strides=[8, 16, 32])
    assigner = dict(type="MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0)
    own |= dict(
        type="CrossTaskRetinaNet",
        neck=dict(type="FPN", in_channels=[8, 16, 32, 64], out_channels=8, start_level=1, num_outs=3),
        bbox_head=dict(type="RetinaHead", num_classes=3, in_channels=8, stacked_convs=1, feat_channels=8,
                       anchor_generator=sizes),
        train_cfg=dict(assigner=assigner, sampler=dict(type="PseudoSampler"), allowed_border=-1, pos_weight=-1),
    )  # fmt: skip
    hint = dict(type="LocalSimilarityLoss")
    neck = dict(name="loss_neck", loss=hint, student="neck.lateral_convs.2", teacher="backbone.layer4", weight=1.0)
    own["terms"] = [*own["terms"], neck]
    runner = Runner.from_cfg(config(own, "retina"))
    before: dict[str, list[torch.Tensor]] = {}
    forward = RetinaNet.forward

    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = forward(self, *args, **kwargs)
        before.update(output if isinstance(output, dict) else {})
        return output

    RetinaNet.forward = watched
    try:
        runner.train()
    finally:
        RetinaNet.forward = forward
    assert {key: len(values) for key, values in before.items()} == {"loss_cls": 3, "loss_bbox": 3}
    scalars = runner.message_hub.log_scalars
    names = ("loss_cls", "loss_bbox", "loss_cd", "loss_ed", "loss_neck")
    total = sum(scalars[f"train/{name}"].current() for name in names)
    assert scalars["train/loss"].current() == pytest.approx(total, rel=1e-5)
    assert scalars["train/loss_cls"].current() == pytest.approx(sum(map(float, before["loss_cls"])), rel=1e-5)
    assert scalars["train/loss_neck"].current() > 0
