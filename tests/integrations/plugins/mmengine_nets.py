"""A hand-written MMEngine model, plain and regularized, and configs of runs of it and of MMDetection's CenterNet."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import cv2
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel, Sequential
from mmengine.registry import DATASETS, MODELS
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from xtask_reg.data import synthetic
from xtask_reg.integrations.mmengine import CrossTaskModel
from xtask_reg.sources import save_weights

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
SIZE, CLASSES, CHANNELS = 64, 6, {"own": 512, "mmdet": 64}
SCOPES = {"own": "mmengine", "mmdet": "mmdet"}
OBJECTS = {"eye": [["left_eye"], ["right_eye"]], "nose": [["nose"]], "mouth": [["upper_lip", "mouth", "lower_lip"]]}


@MODELS.register_module()
class TinyEncoder(Sequential):
    """torchvision's ResNet with one block a stage, up to its last feature map."""

    def __init__(self, init_cfg: Any = None) -> None:
        layers = list(ResNet(BasicBlock, [1, 1, 1, 1]).named_children())[:-2]
        super().__init__(OrderedDict(layers), init_cfg=init_cfg)


@MODELS.register_module()
class PointNet(BaseModel):
    """Predicts 14 points from the mean of the last features."""

    def __init__(self, backbone: dict[str, Any], data_preprocessor: Any = None, init_cfg: Any = None) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = MODELS.build(backbone)
        self.head = nn.Linear(512, 28)

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = "tensor") -> Any:
        points = self.head(self.backbone(inputs).mean((2, 3)))
        return {"loss_points": F.mse_loss(points, torch.stack(data_samples))} if mode == "loss" else points


@MODELS.register_module()
class CrossTaskPointNet(CrossTaskModel, PointNet):
    """PointNet with regularizing terms."""


@DATASETS.register_module()
class Faces:
    """Faces as MMEngine's data preprocessor expects them, BGR, and their points in -1..1."""

    metainfo: dict[str, Any] = {}

    def __init__(self, people: int) -> None:
        self.people = people

    def __len__(self) -> int:
        return self.people

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        face = _face(index)
        points = torch.from_numpy(face.landmarks).float().flatten() / (SIZE / 2) - 1
        return {"inputs": torch.from_numpy(face.image[..., ::-1].copy()).permute(2, 0, 1), "data_samples": points}


def _face(person: int) -> synthetic.Face:
    return synthetic.render(synthetic.Identity.from_seed(person), synthetic.View.from_seed(person), SIZE)


def write_boxes(folder: Path, people: int) -> None:
    """Pictures and ``boxes.json``: eyes, nose and mouth in COCO's format."""
    images, boxes = [], []
    for person in range(people):
        face, file = _face(person), f"{person}.png"
        cv2.imwrite(str(folder / file), face.image[..., ::-1])
        images.append({"id": person, "file_name": file, "width": SIZE, "height": SIZE})
        for category, objects in enumerate(OBJECTS.values()):
            for parts in objects:
                mask = sum((face.mask == synthetic.PART_NAMES.index(part)).astype("uint8") for part in parts)
                x, y, w, h = cv2.boundingRect(mask)
                box = {"id": len(boxes), "image_id": person, "category_id": category, "bbox": [x, y, w, h]}
                boxes.append({**box, "area": w * h, "iscrowd": 0})
    categories = [{"id": index, "name": name} for index, name in enumerate(OBJECTS)]
    content = {"images": images, "annotations": boxes, "categories": categories}
    (folder / "boxes.json").write_text(json.dumps(content))


def write_source(kind: str, path: Path) -> None:
    """Weights as if trained: no initial value remains."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        weights = MODELS.build({"_scope_": SCOPES[kind], **_encoder(kind)}).state_dict()
        for name, value in weights.items():
            if value.is_floating_point():
                weights[name] = torch.rand_like(value) + 0.5 if value.ndim < 2 else 0.05 * torch.randn_like(value)
        classifier = nn.Linear(CHANNELS[kind], CLASSES)
    save_weights({**weights, "fc.weight": classifier.weight, "fc.bias": classifier.bias}, path)


def _encoder(kind: str) -> dict[str, Any]:
    resnet = dict(type="ResNet", depth=18, base_channels=8, norm_eval=False, norm_cfg=dict(type="BN"))
    return dict(type="TinyEncoder") if kind == "own" else resnet


def term(name: str, **changes: Any) -> dict[str, Any]:
    """L_ED or L_CD at the last stage."""
    loss, teacher = {"ed": ("CosineAlignmentLoss", "backbone.layer4"), "cd": ("SoftmaxL2Loss", "classifier")}[name]
    connector = {"student_connector": dict(type="RetainedClassifier")} if name == "cd" else {}
    taps = dict(student="backbone.layer4", teacher=teacher)
    return dict(name=f"loss_{name}", loss=dict(type=loss), weight=0.5, **taps, **connector, **changes)


def plain_model(kind: str, source: Path | str) -> dict[str, Any]:
    """The model without the mixin."""
    backbone = {**_encoder(kind), "init_cfg": dict(type="SourceWeights", checkpoint=str(source))}
    preprocessor = dict(mean=MEAN, std=STD, bgr_to_rgb=True)
    if kind == "own":
        preprocessor["type"] = "ImgDataPreprocessor"
        return dict(type="PointNet", data_preprocessor=preprocessor, backbone=backbone)
    neck = dict(type="CTResNetNeck", in_channels=64, num_deconv_filters=(16, 16, 8), num_deconv_kernels=(4, 4, 4))
    return dict(
        type="CenterNet",
        data_preprocessor=dict(type="DetDataPreprocessor", **preprocessor),
        backbone=backbone,
        neck={**neck, "use_dcn": False},
        bbox_head=dict(type="CenterNetHead", num_classes=len(OBJECTS), in_channels=8, feat_channels=8),
        test_cfg=dict(topk=20, local_maximum_kernel=3, max_per_img=20),
    )


def cross_task_model(kind: str, source: Path | str, **changes: Any) -> dict[str, Any]:
    """The same with the mixin and CTD-Com."""
    teacher = dict(type="FrozenTeacher", classifier=dict(in_channels=CHANNELS[kind], num_classes=CLASSES))
    model = plain_model(kind, source)
    own = dict(teacher=teacher, terms=[term("cd"), term("ed")])
    return {**model, "type": f"CrossTask{model['type']}", **own, **changes}


def data_of(kind: str, folder: Path, training: bool) -> dict[str, Any]:
    """The data set; the detector's pictures are in ``folder``."""
    if kind == "own":
        return dict(type="Faces", people=8)
    load = dict(type="LoadImageFromFile", to_float32=True)
    annotations, flip = dict(type="LoadAnnotations", with_bbox=True), dict(type="RandomFlip", prob=0.5)
    border = dict(type="RandomCenterCropPad", ratios=None, border=None, mean=[0, 0, 0], std=[1, 1, 1], to_rgb=True,
                  test_mode=True, test_pad_mode=["logical_or", 31], test_pad_add_pix=1)  # fmt: skip
    meta = ("img_id", "img_path", "ori_shape", "img_shape")
    packed = dict(type="PackDetInputs", meta_keys=meta if training else (*meta, "border"))
    steps = [load, annotations, flip, packed] if training else [load, border, annotations, packed]
    return dict(
        type="CocoDataset",
        data_root=str(folder),
        ann_file="boxes.json",
        data_prefix=dict(img=""),
        metainfo=dict(classes=tuple(OBJECTS)),
        test_mode=not training,
        pipeline=steps,
    )


def run_config(kind: str, model: dict[str, Any], data: Path, **changes: Any) -> dict[str, Any]:
    """A run of two epochs of two steps."""
    sampler = dict(type="DefaultSampler", shuffle=True)
    return {
        "model": model,
        "default_scope": SCOPES[kind],
        "custom_imports": dict(imports=["mmengine_nets", "mmdet_nets"] if kind == "mmdet" else ["mmengine_nets"]),
        "train_dataloader": dict(batch_size=4, num_workers=0, sampler=sampler, dataset=data_of(kind, data, True)),
        "train_cfg": dict(by_epoch=True, max_epochs=2),
        "optim_wrapper": dict(optimizer=dict(type="Adam", lr=1e-3)),
        "custom_hooks": [dict(type="CrossTaskHook"), dict(type="EpochSeedHook")],
        "default_hooks": dict(logger=dict(type="LoggerHook", interval=1)),
        "randomness": dict(seed=0),
        **changes,
    }
