"""Terms on unlabelled images, in models and runs of MMEngine."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from xtask_reg.integrations.mmengine.endless_order import EndlessOrder
from xtask_reg.integrations.mmengine.folder_of_images import FolderOfImages
from xtask_reg.integrations.mmengine.unlabelled import UnlabelledImagesHook

EPOCHS, STEPS, BATCH = 4, 2, 3
MEAN, STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
ED = dict(
    name="loss_ed",
    loss=dict(type="CosineAlignmentLoss"),
    student="backbone.layer4",
    teacher="backbone.layer4",
    weight=0.5,
)
PENALTY = dict(name="loss_l2sp", loss=dict(type="L2SPPenalty"), student="backbone", teacher="backbone", weight=0.1)
PLAIN = {
    "train_cfg": dict(_delete_=True, by_epoch=True, max_epochs=EPOCHS),
    "param_scheduler": None,
    "default_hooks.checkpoint": None,
    **dict.fromkeys(("val_cfg", "val_dataloader", "val_evaluator")),
}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """Seven noisy pictures of different sizes in two folders, and files that are not images."""
    folder, random = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    (folder / "more").mkdir()
    for number, (rows, columns) in enumerate([(64, 64), (80, 64), (64, 90), (128, 128), (200, 64), (64, 64), (70, 66)]):
        name = ("more/" if number % 2 else "") + f"{number}.{'PNG' if number else 'png'}"
        assert cv2.imwrite(str(folder / name), random.integers(0, 256, (rows, columns, 3), np.uint8))
    (folder / ".trash").mkdir()
    for name in ("notes.txt", "._0.png", "more/._1.PNG", ".trash/2.png"):  # macOS keeps such files beside images
        (folder / name).write_text("no image")
    return folder


class Watch(Hook):
    """Records the inputs and the results of the training."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.batches: list[Tensor] = []
        self.others: list[Tensor] = []
        self.statistics: list[Tensor] = []
        self.random: list[Tensor] = []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.batches.append(torch.stack(list(data_batch["inputs"])).clone())
        self.random.append(torch.get_rng_state())
        if runner.model.compared_on is not None:
            self.others.append(runner.model.compared_on.clone())

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.statistics.append(runner.model.backbone.bn1.running_mean.clone())


@pytest.fixture
def run(tiny_config, photographs) -> Callable[..., tuple[Runner, Watch]]:
    """``run(changes, **hook)``: the runner after a training, and the records; without the hook for ``None``."""

    def go(changes: dict[str, Any] | None = None, **hook: Any) -> tuple[Runner, Watch]:
        config = tiny_config({**PLAIN, **(changes or {})})
        if hook:
            own = dict(type="UnlabelledImagesHook", folder=str(photographs), batch_size=BATCH, size=(64, 64))
            config.custom_hooks.append({**own, **hook})
        runner, watch = Runner.from_cfg(config), Watch()
        runner.register_hook(watch)
        runner.train()
        return runner, watch

    return go


def test_terms_are_of_these_images(model_config, first_batch):
    """L_ED by hand from the teacher and the student in eval mode; the task loss is that without terms."""
    from mmpose.registry import MODELS

    torch.manual_seed(0)
    model = MODELS.build(model_config)
    model.init_weights()
    with torch.no_grad():  # otherwise student and teacher would be equal
        for parameter in model.backbone.layer4.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    others = torch.randn(3, 3, 64, 64)
    data = model.data_preprocessor(first_batch, training=True)
    model.train()
    before = {name: value.clone() for name, value in model.backbone.named_buffers()}
    model.compare_on(others)
    losses = model(**data, mode="loss")
    losses["loss_ed"].backward()
    assert model.backbone.conv1.weight.grad.abs().sum() > 0
    after = {name: value.clone() for name, value in model.backbone.named_buffers()}
    for name, value in before.items():  # only the labelled batch has changed the statistics
        model.backbone.get_buffer(name).copy_(value)
    plain = model(**data, mode="loss")
    torch.testing.assert_close(losses["loss_kpt"], plain["loss_kpt"], rtol=0, atol=0)
    for name, value in model.backbone.named_buffers():
        torch.testing.assert_close(after[name], value, rtol=0, atol=0)
    assert not torch.allclose(losses["loss_ed"], plain["loss_ed"])

    model.eval()
    with torch.no_grad():
        own = model.backbone(others)[-1].flatten(1).double().numpy()
        source = model.regularizer.teacher.network.backbone(others)[-1].flatten(1).double().numpy()
    cosine = (own * source).sum(1) / np.linalg.norm(own, axis=1) / np.linalg.norm(source, axis=1)
    assert losses["loss_ed"].item() == pytest.approx(0.5 * (1 - cosine).mean(), rel=1e-4)


BSS = dict(name="loss_bss", loss=dict(type="BSSLoss"), student="head.deconv_layers", weight=0.1)


@pytest.mark.parametrize(("terms", "calls"), [([ED], 1), ([ED, BSS], 2)])
def test_no_more_of_the_student_is_called_than_is_read(model_config, first_batch, terms, calls):
    from mmpose.registry import MODELS

    model = MODELS.build({**model_config, "terms": [dict(term) for term in terms]})
    model.init_weights()
    heads = []
    model.head.deconv_layers.register_forward_hook(lambda module, args, output: heads.append(len(output)))
    model.compare_on(torch.randn(2, 3, 64, 64))
    losses = model(**model.data_preprocessor(first_batch, training=True), mode="loss")
    assert heads == [4, 2][:calls]
    assert all(losses[term["name"]].isfinite() for term in terms)


def test_each_step_has_its_own_and_every_mode_comes_back(model_config, first_batch):
    from mmpose.registry import MODELS

    model = MODELS.build(model_config)
    model.init_weights()
    model.train()
    model.backbone.layer1.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    data = model.data_preprocessor(first_batch, training=True)
    model.compare_on(torch.randn(2, 3, 64, 64))
    model(**data, mode="loss")
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert model.compared_on is None


def test_run(run, photographs):
    """The model is given the files, each once per round, preprocessed like the student's images."""
    _, watch = run(size=(64, 64))
    assert [len(images) for images in watch.others] == [BATCH] * (EPOCHS * STEPS)
    files = sorted(file for file in photographs.rglob("*") if file.suffix in {".png", ".PNG"} and "/." not in str(file))
    expected = [_as_given(cv2.imread(str(file))) for file in files]
    shown = [int(np.argmin([np.abs(image.numpy() - known).max() for known in expected])) for image in
             torch.cat(watch.others)]  # fmt: skip
    for image, index in zip(torch.cat(watch.others).numpy(), shown):
        np.testing.assert_allclose(image, expected[index], atol=1e-5)
    rounds = [shown[start : start + 7] for start in range(0, 21, 7)]
    assert [sorted(each) for each in rounds] == [list(range(7))] * 3
    assert rounds[0] != rounds[1]


def _as_given(image: np.ndarray) -> np.ndarray:
    """The central square of a picture at 64 pixels, RGB and normalised."""
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    square = image[top : top + side, left : left + side]
    square = cv2.resize(square, (64, 64), interpolation=cv2.INTER_AREA) if side != 64 else square
    return ((square[..., ::-1] - MEAN) / STD).transpose(2, 0, 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_labelled_batches_random_numbers_and_statistics_are_those_without(run, workers):
    """Also without a hook that seeds each epoch."""
    changes = {"custom_hooks": [dict(type="CrossTaskHook")]}
    _, with_them = run(changes, num_workers=workers)
    _, without = run(changes)
    for kind in ("batches", "random"):
        for own, plain in zip(getattr(with_them, kind), getattr(without, kind), strict=True):
            assert torch.equal(own, plain), kind
    assert torch.equal(with_them.statistics[0], without.statistics[0])
    assert not torch.equal(with_them.statistics[-1], without.statistics[-1])


def test_resumed_run_goes_on_with_them(run, tmp_path):
    kept = {"default_hooks.checkpoint": dict(type="CheckpointHook", max_keep_ckpts=-1)}
    whole, seen = run(kept, size=(64, 64))
    resumed, later = run({**kept, "resume": True, "load_from": str(tmp_path / "epoch_1.pth")}, size=(64, 64))
    assert torch.equal(torch.cat(later.others), torch.cat(seen.others)[BATCH * STEPS :])
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_a_cache_of_the_teacher_keeps_them(run, tmp_path):
    """Each image passes through the teacher once, although the augmentation of the labelled images is continuous."""
    cache = dict(folder=str(tmp_path / "cache"), images=7, versions=1)
    terms = {"model.terms": [ED], "model.monitor": None, "model.teacher.cache": cache}
    runner, watch = run(terms, size=(64, 64))
    passed = runner.model.regularizer.teacher
    plain, _ = run({"model.terms": [ED], "model.monitor": None}, size=(64, 64))
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(runner.model.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    passed._computed = lambda *_: pytest.fail("the teacher ran for an image that it has seen")
    for images in watch.others:
        passed.features(images, ["backbone.layer4"])


def test_without_terms_nothing_happens(run):
    _, watch = run({"model.terms": []}, size=(64, 64))
    assert not watch.others


@pytest.mark.parametrize(
    ("changes", "hook", "match"),
    [
        ({}, dict(folder="nowhere"), "there is no folder nowhere"),
        ({}, dict(folder="empty"), "empty has no images; expected one of"),
        ({}, dict(batch_size=0), "batch_size=0"),
        ({}, dict(size=(64, 0)), r"size=\(64, 0\); expected width and height"),
        ({"model.terms": [{**ED, "weight": dict(type="Balanced", ratio=0.1)}]}, {}, r"\['loss_ed'\] are Balanced"),
        ({"model.terms": [PENALTY], "model.monitor": None}, {}, r"\['loss_l2sp'\] read no features"),
    ],
)
def test_refused(run, tmp_path, monkeypatch, changes, hook, match):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    with pytest.raises(ValueError, match=match):
        run(changes, **{"size": (64, 64), **hook})


def test_a_model_without_terms_of_ours_is_refused(tiny_config, photographs):
    config = tiny_config(PLAIN)
    config.custom_hooks = [dict(type="UnlabelledImagesHook", folder=str(photographs), batch_size=2)]
    config.model = {key: value for key, value in config.model.items() if key not in ("teacher", "terms", "monitor")}
    config.model.type = "TopdownPoseEstimator"
    with pytest.raises(ValueError, match="needs a CrossTaskModel; the model is a TopdownPoseEstimator"):
        Runner.from_cfg(config).train()


def test_unreadable_image(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"broken\.jpg cannot be decoded"):
        FolderOfImages(tmp_path, None)[0]


def test_an_image_that_is_cut_off(tmp_path):
    """OpenCV would fill it with grey."""
    _, content = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    (tmp_path / "cut.jpg").write_bytes(content.tobytes()[: len(content) // 2])
    with pytest.raises(ValueError, match=r"cut\.jpg is damaged or cut off"):
        FolderOfImages(tmp_path, None)[0]


def test_images_that_show_nothing_are_told(run, tmp_path):
    """12-bit values in 16-bit files, of which the upper 8 bits are read."""
    for number in range(30):
        image = np.random.default_rng(number).integers(0, 256, (64, 64), np.uint16)
        cv2.imwrite(str(tmp_path / f"{number:02d}.png"), image * (256 if number % 3 else 16))
    images = FolderOfImages(tmp_path, None)
    assert images.nearly_black(30) == images.nearly_black(10) == images.files[::3]
    runner, _ = run(folder=str(tmp_path))
    (log,) = Path(runner.work_dir).rglob("*.log")
    assert re.search(r"5 of up to 20 images of \S+ are nearly black, e\.g\. \S+00\.png: 12-bit", log.read_text())


def test_sizes_that_differ_are_refused_where_none_is_named(run):
    with pytest.raises(ValueError, match=r"different sizes.*size="):
        run(size=None)


@pytest.mark.parametrize("start", [0, 1, 5, 12, 23])
def test_order_goes_on_anywhere(start):
    whole = [index for index, _ in zip(EndlessOrder(5, [3, 0], 0), range(40))]
    assert [index for index, _ in zip(EndlessOrder(5, [3, 0], start), range(10))] == whole[start : start + 10]
    other = [index for index, _ in zip(EndlessOrder(5, [3, 1], 0), range(40))]
    assert whole != other


def test_it_may_stand_before_the_hook_that_knows_the_progress(tiny_config, photographs):
    ended = dict(type="Steps", values=[0.5, 0.0], at=[0.5])
    config = tiny_config({**PLAIN, "model.terms": [{**ED, "weight": ended}], "model.monitor": None})
    hook = dict(type="UnlabelledImagesHook", folder=str(photographs), batch_size=BATCH, size=(64, 64))
    config.custom_hooks.insert(0, hook)
    runner, watch = Runner.from_cfg(config), Watch()
    runner.register_hook(watch)
    runner.train()
    assert len(watch.others) == EPOCHS * STEPS // 2


def test_a_monitor_sees_the_same_images_to_the_end(run):
    ended = dict(type="Steps", values=[0.5, 0.0], at=[0.5])
    _, watch = run({"model.terms": [{**ED, "weight": ended}]}, size=(64, 64))
    assert len(watch.others) == EPOCHS * STEPS


def test_hook_as_the_page_has_it():
    page = (Path(__file__).parents[2] / "docs" / "mmpose.md").read_text()
    (block,) = re.findall(r"```python\n(custom_hooks.*?)```", page, re.DOTALL)
    given: dict[str, Any] = {}
    exec(compile(block, "docs/mmpose.md", "exec"), given)
    (hook,) = (HOOKS.build(config) for config in given["custom_hooks"])
    assert (hook.batch_size, hook.size) == (8, (256, 256))


@pytest.mark.parametrize("arguments", [dict(size=64), dict(size=(64,)), dict(size=(64.0, 64.0)), dict(batch_size="2"),
                                       dict(batch_size=2.5)])  # fmt: skip
def test_arguments_of_another_kind(arguments):
    name, value = next(iter(arguments.items()))
    with pytest.raises(ValueError, match=re.escape(f"{name}={value!r}; expected")):
        UnlabelledImagesHook("photographs", **{"batch_size": 2, **arguments})


def test_a_data_preprocessor_that_takes_other_images_is_refused(tiny_config, photographs):
    from mmengine.model import BaseDataPreprocessor

    config = tiny_config({**PLAIN})
    config.custom_hooks.append(dict(type="UnlabelledImagesHook", folder=str(photographs), batch_size=2))
    runner = Runner.from_cfg(config)
    runner.model.data_preprocessor = BaseDataPreprocessor()
    with pytest.raises(ValueError, match="data preprocessor is a BaseDataPreprocessor; expected an ImgDataPreproc"):
        runner.train()
