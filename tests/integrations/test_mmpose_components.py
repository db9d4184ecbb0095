"""The codec and the metric inside MMPose's own pipeline, against formulas written out here."""

from __future__ import annotations

import json
import math
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmpose.codecs import MSRAHeatmap, UDPHeatmap
from mmpose.registry import DATASETS, KEYPOINT_CODECS, METRICS, MODELS

from xtask_reg.data.conversion.crops import Square
from xtask_reg.integrations.mmpose.codec_settings import GEOMETRY, differing
from xtask_reg.landmarks.predictions import read_predictions

SIGMA, STRIDE = 1.5, 4


def gaussian(x: float, y: float, width: int, height: int, sigma: float = SIGMA) -> np.ndarray:
    """The equation of the paper's section 2, cell by cell."""
    heatmap = np.zeros((height, width))
    for b in range(height):
        for a in range(width):
            heatmap[b, a] = math.exp(-((a - x) ** 2 + (b - y) ** 2) / (2 * sigma**2))
    return heatmap


def face(folder: Path, points: Any, bbox: Any = (0, 0, 64, 64), size: tuple[int, int] = (64, 64)) -> dict[str, Any]:
    """Config of a data set of one random picture with landmarks ``(K, 3)``."""
    width, height = size
    folder.mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    cv2.imwrite(str(folder / "face.png"), pixels)
    content = {
        "images": [{"id": 1, "file_name": "face.png", "width": width, "height": height}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": list(bbox),
             "keypoints": np.asarray(points, dtype=float).flatten().tolist()}
        ],
        "categories": [{"id": 1, "name": "face", "keypoints": [f"point{k}" for k in range(len(points))]}],
    }  # fmt: skip
    (folder / "face.json").write_text(json.dumps(content))
    return dict(type="LandmarkDataset", data_root=str(folder), ann_file="face.json")


def crop(input_size: tuple[int, int], *targets: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        dict(type="LoadImage"),
        dict(type="GetBBoxCenterScale", padding=1.0),
        dict(type="TopdownAffine", input_size=input_size),
        *targets,
        dict(type="PackPoseInputs"),
    ]


def target(codec: dict[str, Any]) -> dict[str, Any]:
    return dict(type="GenerateTarget", encoder=codec)


EXACT = dict(type="ExactHeatmap", sigma=SIGMA, stride=STRIDE)
BORDER = [0.0, 0.4, 1.0, 2.0, 3.0, 3.75, 4.0, 7.3, 11.0, 13.0, 14.6, 15.0]


@pytest.mark.parametrize("x", BORDER)
@pytest.mark.parametrize("y", [0.0, 2.0, 8.2, 15.0])
def test_pipeline_heatmap_is_the_formula(tmp_path, x, y):
    data = face(tmp_path, [[x * STRIDE, y * STRIDE, 2], [20, 30, 2]])
    sample = DATASETS.build({**data, "pipeline": crop((64, 64), target(EXACT))})[0]["data_samples"]
    heatmaps = sample.gt_fields.heatmaps.numpy()
    assert heatmaps.shape == (2, 16, 16)
    np.testing.assert_allclose(heatmaps[0], gaussian(x, y, 16, 16), atol=1e-5)
    assert sample.gt_instance_labels.keypoint_weights.tolist() == [[1, 1]]


@pytest.mark.parametrize(("centre", "wrong"), [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 5), (13, 13), (15, 15)])
@pytest.mark.parametrize("axis", [0, 1])
def test_msra_and_udp_are_wrong_near_the_border_where_exact_is_not(centre, wrong, axis):
    point = np.full((1, 1, 2), 8.0)
    point[0, 0, axis] = centre
    visible = np.ones((1, 1))
    codecs = {
        "msra": MSRAHeatmap((64, 64), (16, 16), sigma=SIGMA).encode(point * STRIDE, visible)["heatmaps"],
        "udp": UDPHeatmap((64, 64), (16, 16), sigma=SIGMA).encode(point * 63 / 15, visible)["heatmaps"],
        "exact": KEYPOINT_CODECS.build(EXACT).encode(point * STRIDE, visible, input_size=(64, 64))["heatmaps"],
    }
    peaks = {name: np.unravel_index(maps[0].argmax(), (16, 16))[1 - axis] for name, maps in codecs.items()}
    assert peaks == {"msra": wrong, "udp": wrong, "exact": centre}


def test_exact_is_msra_s_unbiased_heatmap():
    points = np.random.default_rng(2).uniform([-4, -4], [19, 15], (200, 2))[None]
    visible = np.ones((1, 200))
    own = KEYPOINT_CODECS.build(EXACT).encode(points * STRIDE, visible, input_size=(64, 48))
    theirs = MSRAHeatmap((64, 48), (16, 12), sigma=SIGMA, unbiased=True).encode(points * STRIDE, visible)
    np.testing.assert_allclose(own["heatmaps"], theirs["heatmaps"], atol=1e-6)
    np.testing.assert_array_equal(own["keypoint_weights"], theirs["keypoint_weights"])


def test_quarter_offset_is_msra_s_but_near_the_border():
    heatmaps = np.random.default_rng(3).random((2000, 12, 16), dtype=np.float32)
    own, _ = KEYPOINT_CODECS.build({**EXACT, "decode": "quarter_offset"}).decode(heatmaps)
    theirs, _ = MSRAHeatmap((64, 48), (16, 12), sigma=SIGMA).decode(heatmaps)
    y, x = np.divmod(heatmaps.reshape(2000, -1).argmax(axis=1), 16)
    same = (own[0] == theirs[0]).all(axis=1)
    inside = (x > 1) & (x < 15) & (y > 1) & (y < 11)
    assert same[inside].all()
    assert not same[~inside].all()


def test_pipeline_crop_moves_the_centre(tmp_path):
    """At 64 x 96 the box (8, 4, 16, 36) becomes 24 x 36 around its centre (16, 22): 8/3 input pixels per pixel."""
    data = face(tmp_path, [[13.3, 31.7, 2]], bbox=(8, 4, 16, 36))
    sample = DATASETS.build({**data, "pipeline": crop((64, 96), target(EXACT))})[0]["data_samples"]
    x, y = ((13.3 - 4) * 64 / 24 / STRIDE, (31.7 - 4) * 96 / 36 / STRIDE)
    np.testing.assert_allclose(sample.gt_fields.heatmaps[0].numpy(), gaussian(x, y, 16, 24), atol=1e-5)


def test_whole_picture_is_cropped_unchanged(tmp_path):
    data = DATASETS.build({**face(tmp_path, [[1, 2, 2]]), "pipeline": crop((64, 64))})
    np.testing.assert_array_equal(data[0]["inputs"].numpy().transpose(1, 2, 0), cv2.imread(str(tmp_path / "face.png")))


@pytest.mark.parametrize("size", [(300, 200), (200, 300)])
def test_a_whole_image_is_cut_as_mmpose_cuts_one_without_a_box(tmp_path, size):
    width, height = size
    y, x = np.mgrid[:height, :width]
    image = np.stack([100 + 90 * np.sin(x / 30), 100 + 90 * np.cos(y / 25), 100 + 90 * np.sin((x + y) / 40)], axis=2)
    data = face(tmp_path, [[1, 2, 2]], bbox=(0, 0, *size), size=size)
    cv2.imwrite(str(tmp_path / "face.png"), image.round().astype(np.uint8))
    own = DATASETS.build({**data, "pipeline": crop((64, 64))})[0]["inputs"].numpy().transpose(1, 2, 0).astype(float)
    written = Square.of_whole(height, width).cut(cv2.imread(str(tmp_path / "face.png")), 64).astype(float)
    assert np.median(np.abs(own - written)) <= 4  # half a pixel of the 64 lies between their conventions
    np.testing.assert_array_equal((own == 0)[[0, -1]].all(), (written == 0)[[0, -1]].all())
    np.testing.assert_array_equal((own == 0)[:, [0, -1]].all(), (written == 0)[:, [0, -1]].all())
    assert abs(int((own.sum(2) == 0).sum()) - int((written.sum(2) == 0).sum())) <= 2 * 64


@pytest.mark.parametrize(
    ("point", "visible", "weight"),
    [
        ((8.0, 8.0), 1, 1),
        ((8.0, 8.0), 0, 0),
        ((-4.4, 8.0), 1, 1),
        ((-4.6, 8.0), 1, 0),
        ((8.0, 19.4), 1, 1),
        ((8.0, 19.6), 1, 0),
        ((-4.6, 8.0), 0, 0),
    ],
)
def test_weight_of_invisible_and_far_points(point, visible, weight):
    encoded = KEYPOINT_CODECS.build(EXACT).encode(
        np.array([[point]]) * STRIDE, np.array([[visible]], dtype=float), input_size=(64, 64)
    )
    assert encoded["keypoint_weights"].tolist() == [[weight]]
    assert encoded["keypoint_weights"].dtype == np.float32
    np.testing.assert_allclose(encoded["heatmaps"][0], gaussian(*point, 16, 16), atol=1e-6)


@pytest.mark.parametrize(("decode", "offset"), [("argmax", 0.0), ("quarter_offset", 0.25)])
def test_decode(decode, offset):
    heatmaps = np.zeros((2, 16, 12), dtype=np.float32)
    heatmaps[0, 5, 7], heatmaps[0, 5, 8], heatmaps[0, 4, 7] = 0.9, 0.5, 0.4
    heatmaps[1] = -1  # no positive cell: the point is still in the picture
    points, scores = KEYPOINT_CODECS.build({**EXACT, "decode": decode}).decode(heatmaps)
    np.testing.assert_allclose(points, [[[(7 + offset) * 4, (5 - offset) * 4], [0, 0]]])
    np.testing.assert_allclose(scores, [[0.9, -1]])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"sigma": 0}, "sigma=0"),
        ({"sigma": math.nan}, "sigma=nan"),
        ({"stride": 0}, "stride=0"),
        ({"stride": 2.5}, "stride=2.5"),
        ({"decode": "dark"}, "dark"),
    ],
)
def test_codec_rejects_arguments_when_it_is_built(arguments, match):
    with pytest.raises(ValueError, match=match):
        KEYPOINT_CODECS.build({**EXACT, **arguments})


@pytest.mark.parametrize(
    ("instances", "size", "match"),
    [(2, (64, 64), "2 instances"), (1, (64, 66), "not a multiple"), (1, (30, 64), "stride 4")],
)
def test_codec_rejects_input(instances, size, match):
    with pytest.raises(ValueError, match=match):
        KEYPOINT_CODECS.build(EXACT).encode(np.ones((instances, 3, 2)), input_size=size)


def test_invisible_landmark_has_no_gradient(tmp_path):
    """The loss is the weighted mean over all B·K·H·W cells, as MMPose's KeypointMSELoss has it."""
    data = [
        face(tmp_path / "a", [[10, 20, 2], [30, 40, 0], [50, 5, 1]]),
        face(tmp_path / "b", [[9, 9, 0], [31, 40, 2], [500, 5, 2]]),
    ]
    visible = np.array([[1, 0, 1], [0, 1, 0]])
    samples = [DATASETS.build({**d, "pipeline": crop((64, 64), target(EXACT))})[0]["data_samples"] for d in data]
    head = MODELS.build(
        dict(type="HeatmapHead", in_channels=4, out_channels=3, deconv_out_channels=(4, 4, 4), decoder=EXACT,
             loss=dict(type="KeypointMSELoss", use_target_weight=True))
    )  # fmt: skip
    maps = []
    head.final_layer.register_forward_hook(lambda module, args, output: output.retain_grad() or maps.append(output))
    loss = head.loss((torch.randn(2, 4, 2, 2),), samples, train_cfg={"compute_acc": False})["loss_kpt"]
    loss.backward()
    truth = np.stack([s.gt_fields.heatmaps.numpy() for s in samples])
    predicted = maps[0].detach().numpy()
    squares = ((predicted - truth) ** 2 * visible[:, :, None, None]).sum()
    assert loss.item() == pytest.approx(squares / (2 * 3 * 16 * 16), rel=1e-5)
    has_gradient = maps[0].grad.abs().sum((2, 3)).numpy() > 0
    np.testing.assert_array_equal(has_gradient, visible.astype(bool))


def scored(data: dict[str, Any], offsets: Any, input_size: Any = (64, 96), **metric: Any) -> dict[str, float]:
    """The metric's scores for predictions that are off by ``offsets`` (images, K, 2) in image pixels."""
    evaluator = METRICS.build({"type": "LandmarkMetric", "stride": STRIDE, **metric})
    for offset in offsets:
        evaluator.process({}, [predicted(data, offset, input_size)])
    return evaluator.evaluate(len(offsets))


def predicted(data: dict[str, Any], offset: Any, input_size: Any) -> dict[str, Any]:
    """The first sample with predictions that are off by ``offset`` (K, 2) in image pixels."""
    sample = DATASETS.build({**data, "test_mode": True, "pipeline": crop(input_size)})[0]["data_samples"]
    sample.pred_instances = sample.gt_instances.clone()
    sample.pred_instances.keypoints = sample.gt_instances.keypoints + np.asarray(offset, dtype=float)
    return sample.to_dict()


# the third landmark is invisible; 8/3 input pixels a pixel, 2/3 heatmap pixels a pixel
CROPPED = dict(points=[[13, 31, 2], [9, 9, 1], [20, 20, 0]], bbox=(8, 4, 16, 36))
OFFSETS = [[[3, 4], [6, 8], [99, 99]], [[0, 0], [0, 1.5], [50, 0]]]
IMAGE_ERRORS = {"mean_distance": [7.5, 0.75], "vector_norm": [math.sqrt(125) / 2, 0.75]}
FACTOR = {"image": 1.0, "input": 8 / 3, "heatmap": 2 / 3}


@pytest.mark.parametrize("reduction", IMAGE_ERRORS)
@pytest.mark.parametrize("space", FACTOR)
def test_metric_by_hand(tmp_path, space, reduction):
    first, second = (error * FACTOR[space] for error in IMAGE_ERRORS[reduction])
    scores = scored(face(tmp_path, **CROPPED), OFFSETS, space=space, reduction=reduction, threshold=4.0)
    assert scores["landmark/ME"] == pytest.approx((first + second) / 2, rel=1e-5)
    assert scores["landmark/SD"] == pytest.approx(abs(first - second) / math.sqrt(2), rel=1e-5)
    assert scores["landmark/FR"] == 50.0 * ((first > 4) + (second > 4))
    assert scores["landmark/AUC"] == pytest.approx((max(0, 1 - first / 4) + max(0, 1 - second / 4)) / 2, rel=1e-5)


def test_metric_in_millimetres_by_hand(tmp_path):
    """With each image's own pixel size the errors are 1 and 2, and 0 and 0.6 mm."""
    evaluator = METRICS.build(dict(type="LandmarkMetric", space="mm", threshold=1, success_at=[0.3, 1, 2.5]))
    for offset, size in zip(OFFSETS, (0.2, 0.4)):
        data = face(tmp_path / str(size), **CROPPED)
        file = Path(data["data_root"]) / data["ann_file"]
        content = json.loads(file.read_text())
        content["images"][0]["mm_per_pixel"] = size
        file.write_text(json.dumps(content))
        evaluator.process({}, [predicted(data, offset, (64, 96))])
    scores = evaluator.evaluate(2)
    assert scores["landmark/ME"] == pytest.approx((1.5 + 0.3) / 2)
    assert scores["landmark/FR"] == 50
    rates = [scores[f"landmark/SDR@{distance}"] for distance in ("0.3", "1", "2.5")]
    assert rates == [25, 75, 100]


def test_metric_in_millimetres_of_images_without_a_size(tmp_path):
    with pytest.raises(ValueError, match=r"the pixel size of .*png is unknown.*lacks 'mm_per_pixel'.*--mm-per-pixel"):
        scored(face(tmp_path, [[16, 16, 2]]), [[[3, 4]]], (64, 64), space="mm")


COCO = "configs/_base_/datasets/coco.py"


@pytest.mark.parametrize(
    ("wrapper", "is_told_early"),
    [
        (lambda data: data, True),
        (lambda data: dict(type="ConcatDataset", datasets=[data, data]), True),
        (lambda data: dict(type="RepeatDataset", dataset=data, times=2), True),
        (lambda data: dict(type="CombinedDataset", metainfo=dict(from_file=COCO), datasets=[data]), False),
    ],
)
def test_metric_in_millimetres_looks_at_data_sets_of_others(tmp_path, wrapper, is_told_early):
    data = {**face(tmp_path, [[16, 16, 2]]), "test_mode": True, "pipeline": crop((64, 64))}
    metric = METRICS.build(dict(type="LandmarkMetric", space="mm"))
    expected = pytest.raises(ValueError, match="the pixel size of") if is_told_early else nullcontext()
    with expected:
        metric.check_data(DATASETS.build(wrapper(data)))


def test_metric_in_millimetres_of_other_data_sets(tmp_path):
    sample = predicted(face(tmp_path, [[16, 16, 2]]), [[3, 4]], (64, 64))
    del sample["raw_ann_info"]
    with pytest.raises(ValueError, match="the pixel size of .*the data set is not a LandmarkDataset"):
        METRICS.build(dict(type="LandmarkMetric", space="mm")).process({}, [sample])


@pytest.mark.parametrize(("threshold", "failures"), [(5.0, 0.0), (4.999, 100.0)])
def test_error_equal_to_the_threshold_is_no_failure(tmp_path, threshold, failures):
    data = face(tmp_path, [[16, 16, 2]])
    assert scored(data, [[[3, 4]]], (64, 64), space="image", threshold=threshold)["landmark/FR"] == failures


@pytest.mark.parametrize("stride", [2, 8.0])
def test_stride_of_the_metric(tmp_path, stride):
    data = face(tmp_path, [[16, 16, 2]])
    assert scored(data, [[[3, 4]]], (64, 64), stride=stride)["landmark/ME"] == pytest.approx(5 / stride)


SIZES = {"input_size": (64, 96), "heatmap_size": (16, 12)}
CELLS = [
    (dict(type="ExactHeatmap", stride=8), {}, (8, 8)),
    (dict(type="MSRAHeatmap", sigma=2, **SIZES), {}, (4, 8)),
    (dict(type="UDPHeatmap", sigma=2, **SIZES), {}, (63 / 15, 95 / 11)),
    (dict(type="ExactHeatmap", stride=8), {"stride": 2}, (2, 2)),
]


@pytest.mark.parametrize(("codec", "arguments", "cell"), CELLS)
def test_metric_counts_in_the_pixels_of_the_codecs_heatmaps(tmp_path, codec, arguments, cell):
    out = tmp_path / "predictions.json"
    evaluator = METRICS.build(dict(type="LandmarkMetric", outfile=str(out), **arguments))
    evaluator.use_codec(KEYPOINT_CODECS.build(codec))
    data = face(tmp_path, [[16, 16, 2]], size=(64, 96), bbox=(0, 0, 64, 96))
    sample = DATASETS.build({**data, "pipeline": crop((64, 96))})[0]["data_samples"].to_dict()
    sample["pred_instances"] = {"keypoints": sample["gt_instances"]["keypoints"] + np.array([3, 4])}
    evaluator.process({}, [sample])
    assert evaluator.evaluate(1)["landmark/ME"] == pytest.approx(math.hypot(3 / cell[0], 4 / cell[1]), rel=1e-5)
    assert json.loads(out.read_text())["extent"] == pytest.approx([64 / cell[0], 96 / cell[1]])


UDP = dict(type="UDPHeatmap", sigma=2, **SIZES)
APART = [
    (dict(type="ExactHeatmap"), dict(type="ExactHeatmap", sigma=3, decode="quarter_offset"), []),
    (dict(type="ExactHeatmap"), dict(type="ExactHeatmap", stride=8), ["{}.stride=4 and {}.stride=8"]),
    (dict(type="ExactHeatmap"), {**UDP, "type": "MSRAHeatmap"}, ["{}.stride=4 and {}.stride=[4.0, 8.0]"]),
    (UDP, UDP, []),
    ([UDP, {**UDP, "sigma": 3}], UDP, []),
    (UDP, {**UDP, "input_size": (64, 97)}, ["{}.stride=", "{}.input_size=(64, 96) and {}.input_size=(64, 97)"]),
    (dict(type="ExactHeatmap"), None, []),
]


@pytest.mark.parametrize(("encoder", "decoder", "expected"), APART)
@pytest.mark.parametrize("wrapped", [False, True])
def test_where_encoder_and_decoder_put_points_to_other_places(encoder, decoder, expected, wrapped):
    dataset: dict[str, Any] = dict(type="LandmarkDataset", pipeline=[len, target(encoder)])
    dataset = dict(type="ConcatDataset", datasets=[dataset]) if wrapped else dataset
    places = f"train_dataloader.dataset{'.datasets.0' * wrapped}.pipeline.1.encoder", "model.head.decoder"
    found = differing({"dataset": dataset}, decoder and KEYPOINT_CODECS.build(decoder), GEOMETRY)
    assert len(found) == len(expected)
    assert all(text.startswith(start.format(*places)) for text, start in zip(found, expected))


SIMCC = dict(type="SimCCLabel", input_size=(64, 64), sigma=4.0)


def test_metric_in_heatmap_pixels_where_there_are_none(tmp_path):
    data = face(tmp_path, [[16, 16, 2]])
    with pytest.raises(ValueError, match="their size is unknown.*CrossTaskHook"):
        scored(data, [[[3, 4]]], (64, 64), stride=None)
    with pytest.raises(ValueError, match="SimCCLabel makes no heatmaps: set space='input'"):
        METRICS.build(dict(type="LandmarkMetric")).use_codec(KEYPOINT_CODECS.build(SIMCC))
    METRICS.build(dict(type="LandmarkMetric", space="input")).use_codec(KEYPOINT_CODECS.build(SIMCC))
    METRICS.build(dict(type="LandmarkMetric", stride=4)).use_codec(KEYPOINT_CODECS.build(SIMCC))
    assert scored(data, [[[3, 4]]], (64, 64), space="input", stride=None)["landmark/ME"] == pytest.approx(5)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"space": "pixels"}, "pixels"),
        ({"reduction": "sum"}, "sum"),
        ({"threshold": 0}, "threshold"),
        ({"stride": 0}, "stride=0; expected a positive number"),
        ({"success_at": 2}, "success_at=2; expected a list of distances above 0"),
        ({"success_at": "2.5"}, "success_at='2.5'; expected a list"),
        ({"success_at": [2, 0]}, r"success_at=\[2, 0\]; expected a list"),
    ],
)
def test_metric_rejects_arguments_when_it_is_built(arguments, match):
    with pytest.raises(ValueError, match=match):
        METRICS.build(dict(type="LandmarkMetric", **arguments))


def test_outfile(tmp_path):
    out = tmp_path / "results" / "predictions.json"
    scored(face(tmp_path, **CROPPED), OFFSETS, outfile=str(out), success_at=[4, 6])
    content = json.loads(out.read_text())
    assert {key: content[key] for key in content if key != "images"} == {
        "space": "heatmap", "reduction": "mean_distance", "threshold": 1.2, "success_at": [4, 6], "extent": [16, 24],
        "landmarks": ["1", "2", "3"],
    }  # fmt: skip
    first = content["images"][0]
    np.testing.assert_allclose(first["scale"], 2 / 3)
    assert read_predictions(out).success_rates == {4.0: 0.75, 6.0: 0.75}
    assert first["image"] == str(tmp_path / "face.png")
    assert first["error"] == pytest.approx(5.0)
    assert first["visible"] == [True, True, False]
    np.testing.assert_allclose(first["target"], [[13, 31], [9, 9], [20, 20]])
    np.testing.assert_allclose(first["predicted"], [[16, 35], [15, 17], [119, 119]])
    assert [path.name for path in out.parent.iterdir()] == ["predictions.json"]


def test_interrupted_outfile_leaves_the_earlier_one(tmp_path, monkeypatch):
    out = tmp_path / "results" / "predictions.json"
    data = face(tmp_path, **CROPPED)
    scored(data, OFFSETS, outfile=str(out))
    before = out.read_text()
    write = Path.write_text

    def half(self: Path, text: str, *args: Any, **kwargs: Any) -> int:
        write(self, text[: len(text) // 2], *args, **kwargs)
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="no space"):
        scored(data, [OFFSETS[1]], outfile=str(out))
    assert out.read_text() == before


def test_metric_accepts_visibility_with_weights(tmp_path):
    """MMPose's KeypointConverter makes ``keypoints_visible`` (1, K, 2): visibility and weight."""
    evaluator = METRICS.build(dict(type="LandmarkMetric", space="image"))
    sample = DATASETS.build({**face(tmp_path, **CROPPED), "pipeline": crop((64, 96))})[0]["data_samples"].to_dict()
    sample["gt_instances"]["keypoints_visible"] = np.array([[[1, 1], [0, 1], [0, 1]]])
    sample["pred_instances"] = {"keypoints": sample["gt_instances"]["keypoints"] + np.array([[[3, 4], [9, 9], [9, 9]]])}
    evaluator.process({}, [sample])
    assert evaluator.evaluate(1)["landmark/ME"] == pytest.approx(5.0)


# -- Caffe's ResNet, and the task's loss -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 64), (75, 98)])
def test_caffe_resnet_is_torchvisions_with_the_layers_of_caffe(size):
    """``caffe_resnet50`` itself is tested in tests/sources/test_vggface2.py, against a forward pass by hand."""
    from xtask_reg.sources import caffe_resnet50

    backbone = MODELS.build(dict(type="CaffeResNet", depth=50, out_indices=(0, 1, 2, 3)))
    backbone.eval()
    reference = caffe_resnet50(num_classes=2).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter) * parameter.std().nan_to_num(1))
    found = backbone.load_state_dict(reference.state_dict(), strict=False)
    assert found.missing_keys == []
    assert found.unexpected_keys == ["fc.weight", "fc.bias"]
    images, expected = torch.randn(1, 3, *size), []
    for layer in (reference.layer1, reference.layer2, reference.layer3, reference.layer4):
        layer.register_forward_hook(lambda module, args, output: expected.append(output))
    with torch.no_grad():
        reference(images)
        for own, other in zip(backbone(images), expected, strict=True):
            torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5 * other.abs().max().item())


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weighted", [True, False])
def test_heatmap_loss_against_numpy(reduction, weighted):
    rng = np.random.default_rng(0)
    output, target = rng.normal(size=(2, 2, 3, 4, 5))
    weights = np.array([[1, 0, 1], [1, 1, 0]]) if weighted else np.ones((2, 3))
    total = sum(
        weights[n, k] * ((output[n, k] - target[n, k]) ** 2).sum() / (1 if reduction == "sum" else 3 * 4 * 5)
        for n in range(2)
        for k in range(3)
    )
    loss = MODELS.build(dict(type="HeatmapMSELoss", reduction=reduction, use_target_weight=True))
    arguments = [torch.from_numpy(array) for array in (output, target, weights)]
    assert loss(*arguments).item() == pytest.approx(total / 2, rel=1e-12)


def test_heatmap_loss_names_its_reductions():
    with pytest.raises(ValueError, match="reduction='none'; expected 'mean' or 'sum'"):
        MODELS.build(dict(type="HeatmapMSELoss", reduction="none"))


def test_caffe_resnet_has_one_style():
    with pytest.raises(TypeError, match="style"):
        MODELS.build(dict(type="CaffeResNet", depth=50, style="pytorch"))


def test_frozen_statistics_are_not_averaged(process, tmp_path):
    """Over three processes, where the mean of three equal numbers need not be that number."""
    script = Path(__file__).parent / "plugins" / "average.py"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3"]
    result = process([*torchrun, str(script)], tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
