"""The mixin with a hand-written model and with MMDetection's CenterNet, in runs of MMEngine's Runner."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import HOOKS, MODELS, DefaultScope, init_default_scope
from mmengine.runner import Runner
from same_tensors import assert_same
from torch import Tensor, nn
from two_processes import found_by_each

from xtask_reg.inputs import InputConvention
from xtask_reg.integrations.mmengine import CrossTaskModel
from xtask_reg.sources import load_weights

PLUGINS = Path(__file__).parent / "plugins"
KINDS = ["own", "mmdet"]
STEPS = 2
BALANCED = dict(type="Balanced", ratio=0.1, every=1)
LONG = dict(train_cfg=dict(by_epoch=True, max_epochs=4))  # a balanced weight is 0 for five steps
CONNECTOR = {f"terms.loss_cd.student_connector.fc.{kind}" for kind in ("weight", "bias")}
GLOO = dict(dist_cfg=dict(backend="gloo"))
CHECKPOINTS = dict(logger=dict(type="LoggerHook", interval=1), checkpoint=dict(type="CheckpointHook", interval=1))


@pytest.fixture(autouse=True)
def _default_scope() -> None:
    init_default_scope("mmengine")


@pytest.fixture
def files(shared, nets) -> Path:
    """Pictures with their boxes, and the sources ``own.safetensors`` and ``mmdet.safetensors``."""

    def make(folder: Path) -> None:
        nets.write_boxes(folder, 8)
        for kind in KINDS:
            nets.write_source(kind, folder / f"{kind}.safetensors")

    return shared("mmengine", make)


@pytest.fixture
def config(nets, files, tmp_path, request) -> Callable[..., Config]:
    """``config(kind, model, **changes)``: a run's config, with its own work folder and names."""

    def make(kind: str, model: dict[str, Any], name: str = "run", **changes: Any) -> Config:
        names = f"{abs(hash(request.node.nodeid))}_{name}"
        own = dict(work_dir=str(tmp_path / name), experiment_name=names)
        visualizer = dict(type="Visualizer", name=names, vis_backends=[dict(type="LocalVisBackend")])
        return Config(nets.run_config(kind, model, files, **own, visualizer=visualizer, **changes))

    return make


@pytest.fixture
def model(nets, files) -> Callable[..., dict[str, Any]]:
    """``model(kind, **changes)``: the config of the model with the mixin."""
    return lambda kind, **changes: nets.cross_task_model(kind, files / f"{kind}.safetensors", **changes)


@pytest.fixture
def plain(nets, files) -> Callable[[str], dict[str, Any]]:
    """``plain(kind)``: the config of the model without the mixin."""
    return lambda kind: nets.plain_model(kind, files / f"{kind}.safetensors")


def student(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.startswith(("teacher.", "connectors."))}


def checkpoint(folder: str, epoch: int = 2) -> dict[str, Any]:
    return torch.load(Path(folder) / f"epoch_{epoch}.pth", weights_only=True)


def log(runner: Runner) -> list[dict[str, Any]]:
    (path,) = Path(runner.work_dir).glob("*/vis_data/scalars.json")
    return [entry for entry in map(json.loads, path.read_text().splitlines()) if "loss" in entry]


# -- training ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ["weightless", "monitor alone"])
def test_nothing_to_regularize_is_plain_training_to_the_bit(kind, case, nets, watch, config, model, plain):
    """With all weights 0 the teacher is not even built; with a monitor it runs, and changes nothing."""
    terms = [nets.term("cd") | {"weight": 0}, nets.term("ed") | {"weight": 0.0}]
    if case == "weightless":
        own = model(kind, terms=terms, teacher=dict(type="NoSuchTeacher"))
    else:
        own = model(kind, terms=[], monitor=dict(stages=["backbone.layer4"], every=1))
    runner, found = watch.run(config(kind, own))
    _, expected = watch.run(config(kind, plain(kind), "plain"))
    assert (runner.model.regularizer is None) == (case == "weightless")
    assert found.losses == expected.losses
    assert len(found.losses) == 2 * STEPS
    assert not any("ed" in key or "cd" in key for key in found.losses[0])
    assert_same(student(found.start), expected.start)
    assert_same(student(found.end), expected.end)
    for own_batch, plain_batch in zip(found.batches, expected.batches, strict=True):
        np.testing.assert_array_equal(own_batch, plain_batch)


def test_building_leaves_the_random_state_alone(nets, model, plain):
    """A projection, the teacher and its classifier draw random numbers, but what is built later does not change."""
    projection = dict(type="Projection", in_channels=512, out_channels=512)
    drawn = []
    for each in (model("own", terms=[nets.term("ed", student_connector=projection)]), plain("own")):
        torch.manual_seed(3)
        MODELS.build(each)
        drawn.append(torch.rand(3).tolist())
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("kind", KINDS)
def test_terms_act_and_the_teacher_stays(kind, watch, config, model, plain, files):
    """Start and batches are those of plain training, the end is not; the connector copies the classifier and trains."""
    _, found = watch.run(config(kind, model(kind)))
    _, expected = watch.run(config(kind, plain(kind), "plain"))
    task = expected.losses[0].keys()
    for step in found.losses:
        assert step.keys() == {*task, "loss_cd", "loss_ed"}
        total = sum(value for key, value in step.items() if key != "loss")
        assert step["loss"] == pytest.approx(total, rel=1e-5)
        assert step["loss_cd"] > 0
        assert step["loss_ed"] > 0
    assert_same(student(found.start), expected.start)
    assert [batch.tolist() for batch in found.batches] == [batch.tolist() for batch in expected.batches]
    assert watch.changed(found.start, found.end) == {key.split(".")[0] for key in task_parts(expected)} | {"connectors"}
    teacher = {
        (f"classifier.{key}" if key.startswith("fc.") else f"backbone.{key}"): value
        for key, value in load_weights(files / f"{kind}.safetensors").items()
    }
    assert_same(watch.part(found.start, "teacher"), teacher)
    assert_same(watch.part(found.end, "teacher"), teacher)
    fc = load_weights(files / f"{kind}.safetensors")["fc.weight"]
    assert torch.equal(found.start["connectors.terms.loss_cd.student_connector.fc.weight"], fc)
    different = {key for key, value in student(found.end).items() if not torch.equal(value, expected.end[key])}
    assert any(key.startswith("backbone.conv1") for key in different)


def task_parts(plain_run: Any) -> set[str]:
    return {key for key in plain_run.start if key.endswith("weight")}


@pytest.mark.parametrize("kind", KINDS)
def test_first_losses_are_those_of_the_equations(kind, watch, config, model, plain, files):
    """By hand: the run's batch, normalised in NumPy, through the encoder alone."""
    _, found = watch.run(config(kind, model(kind)))
    init_default_scope("mmengine" if kind == "own" else "mmdet")
    encoders = [MODELS.build(plain(kind)["backbone"]) for _ in range(2)]
    weights = load_weights(files / f"{kind}.safetensors")
    mean, std = (np.reshape(each, (3, 1, 1)) for each in ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]))
    images = (found.batches[0][:, ::-1] - mean) / std
    outputs = []
    for encoder, training in zip(encoders, (True, False)):
        encoder.load_state_dict({key: value for key, value in weights.items() if not key.startswith("fc.")})
        encoder.train(training)
        with torch.no_grad():
            output = encoder(torch.from_numpy(images).float())
        outputs.append((output if kind == "own" else output[-1]).numpy().astype(float))
    s, t = (output.reshape(len(output), -1) for output in outputs)
    cosines = (s * t).sum(1) / np.sqrt((s * s).sum(1) * (t * t).sum(1))
    assert found.losses[0]["loss_ed"] == pytest.approx(0.5 * (1 - cosines.mean()), rel=1e-4)
    fc, bias = weights["fc.weight"].numpy(), weights["fc.bias"].numpy()
    p, q = (np.exp((output.mean((2, 3)) @ fc.T + bias) / 2) for output in outputs)
    p, q = (each / each.sum(1, keepdims=True) for each in (p, q))
    assert found.losses[0]["loss_cd"] == pytest.approx(0.5 * ((p - q) ** 2).sum(1).mean(), rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_regularizer_by_name_and_its_log(kind, config, model):
    """The taps are found in the model; measurements are logged, and do not count as losses."""
    teacher = dict(type="FrozenTeacher")
    runner = Runner.from_cfg(config(kind, model(kind, teacher=teacher, terms="ctd-ed", monitor=dict(every=2))))
    runner.train()
    stages = [f"backbone.layer{number}" for number in range(1, 5)]
    measured = {f"{name}/{stage}" for name in ("cosine", "cka") for stage in stages}
    measured |= {"value/ctd_ed", "weight/ctd_ed", "ratio/ctd_ed"}
    entries = log(runner)
    assert len(entries) == 2 * STEPS
    assert {key for key in entries[0] if "/" in key} == measured
    for entry in entries:
        assert entry["loss"] == pytest.approx(sum(v for k, v in entry.items() if k.startswith("loss_")), rel=1e-5)
        assert entry["loss_ctd_ed"] > 0
    assert entries[0]["loss_ctd_ed"] == pytest.approx(0.002 * entries[0]["value/ctd_ed"], rel=1e-5)
    assert entries[0]["value/ctd_ed"] == pytest.approx(1 - entries[0]["cosine/backbone.layer4"], rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_frozen(kind, watch, config, model):
    own = model(kind, terms=[], teacher=None, frozen=["backbone"], frozen_but=["backbone.layer4"])
    _, found = watch.run(config(kind, own))
    still = {key for key, value in found.end.items() if torch.equal(value, found.start[key])}
    frozen = {key for key in found.start if key.startswith("backbone.") and ".layer4." not in key}
    assert still & {key for key in found.start if key.startswith("backbone.")} == frozen


# -- checkpoints -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoint_is_plain_and_resumed_as_if_never_interrupted(kind, nets, watch, config, model, plain):
    """Connectors and measurements of balanced weights are beside ``state_dict``, and are resumed."""
    terms = [nets.term("cd"), nets.term("ed") | {"weight": BALANCED}]
    own = model(kind, terms=terms)
    runner, whole = watch.run(config(kind, own, default_hooks=CHECKPOINTS, **LONG))
    first = checkpoint(runner.work_dir, 3)
    init_default_scope("mmengine" if kind == "own" else "mmdet")
    bare = MODELS.build(plain(kind))
    assert list(first["state_dict"]) == list(bare.state_dict())
    bare.load_state_dict(first["state_dict"], strict=True)
    assert first["xtask_reg"].keys() > CONNECTOR
    assert any(key.startswith("terms.loss_ed.weighting.") for key in first["xtask_reg"])
    again = dict(resume=True, load_from=str(Path(runner.work_dir) / "epoch_3.pth"))
    _, resumed = watch.run(config(kind, own, "resumed", default_hooks=CHECKPOINTS, **again, **LONG))
    begun = watch.part(resumed.start, "connectors")
    assert_same({key: begun[key] for key in CONNECTOR}, {key: first["xtask_reg"][key] for key in CONNECTOR})
    assert resumed.losses == whole.losses[3 * STEPS :]
    assert resumed.weights == whole.weights[3 * STEPS :]
    assert resumed.weights[-1]["loss_ed"] > 0
    assert_same(resumed.end, whole.end)


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoint_without_connectors_cannot_be_resumed_with_them(kind, config, model, plain, watch):
    runner, _ = watch.run(config(kind, plain(kind), "plain", default_hooks=CHECKPOINTS))
    load = str(Path(runner.work_dir) / "epoch_1.pth")
    with pytest.raises(ValueError, match="has no 'xtask_reg' entry.*loss_cd"):
        Runner.from_cfg(config(kind, model(kind), resume=True, load_from=load)).train()


@pytest.mark.parametrize("kind", KINDS)
def test_prediction_without_the_sources_file_is_the_plain_models(kind, nets, watch, config, model, plain, files):
    """The source file is deleted: the model is built, loads the checkpoint, and predicts what the plain class does."""
    runner, _ = watch.run(config(kind, model(kind), default_hooks=CHECKPOINTS))
    state = checkpoint(runner.work_dir)["state_dict"]
    gone = nets.cross_task_model(kind, "gone.safetensors")
    init_default_scope("mmengine" if kind == "own" else "mmdet")
    models = [MODELS.build(each).eval() for each in (gone, {**plain(kind), "backbone": gone["backbone"]})]
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for each in models:
        each.load_state_dict(state, strict=True)
    with torch.no_grad():
        found, expected = (each(images) for each in models)
    for own, other in zip(_tensors(found), _tensors(expected), strict=True):
        assert torch.equal(own, other)
    with pytest.raises(FileNotFoundError, match=r"gone\.safetensors"):
        models[0].init_weights()


def _tensors(output: Any) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else [tensor for each in output for tensor in _tensors(each)]


# -- which models and inputs are accepted ------------------------------------------------------------------------------


def toy(images: Callable[[Any], Tensor] = lambda inputs: inputs, losses: Any = None) -> type[CrossTaskModel]:
    """A model with its own argument names, whose images are ``images(inputs)``."""

    class Toy(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Conv2d(3, 4, 3)

        def forward(self, pictures: Any, labels: Any = None, mode: str = "tensor") -> Any:
            features = self.net(images(pictures))
            if mode == "loss":
                return losses if losses is not None else {"loss_task": features.square().mean()}
            return features

    class CrossTaskToy(CrossTaskModel, Toy):
        pass

    return CrossTaskToy


def built(cls: type[CrossTaskModel], name: str = "loss_ed", **options: Any) -> CrossTaskModel:
    backbone = dict(type="ModuleBackbone", module="nets:with_dropout")
    term = dict(name=name, loss=dict(type="LocalSimilarityLoss"), student="net", teacher="backbone.net.0", weight=1.0)
    connectors = {key: dict(type="Resize", size=(4, 4)) for key in ("student_connector", "teacher_connector")}
    teacher = dict(type="FrozenTeacher", backbone=backbone, checkpoint="random")
    return cls(teacher=teacher, terms=[{**term, **connectors}], **options)


IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("call", ["by position", "by keyword"])
def test_arguments_of_other_names(call, watch):
    model = built(toy())
    by_position = model(IMAGES, None, mode="loss")
    found = by_position if call == "by position" else model(inputs=IMAGES, data_samples=None, mode="loss")
    assert found.keys() == {"loss_task", "loss_ed"}
    assert found["loss_ed"].item() == by_position["loss_ed"].item() > 0
    assert torch.equal(model(IMAGES), model.net(IMAGES))
    assert torch.equal(model(IMAGES, mode="predict"), model.net(IMAGES))


@pytest.mark.parametrize(
    ("inputs", "match"),
    [
        ([IMAGES[0], IMAGES[1]], "inputs of CrossTaskToy are a list; .*data preprocessor.*teacher_images"),
        ({"images": IMAGES}, "inputs of CrossTaskToy are a dict"),
        (IMAGES[:, None], r"a tensor of shape \(2, 1, 3, 64, 64\)"),
    ],
)
def test_other_inputs_are_refused_by_name(inputs, match, watch):
    model = built(toy())
    with pytest.raises(TypeError, match=match):
        model(inputs, None, mode="loss")


@pytest.mark.parametrize(
    ("inputs", "images"),
    [
        ([IMAGES[0], IMAGES[1]], torch.stack),
        ({"views": IMAGES, "other": IMAGES[:1]}, lambda inputs: inputs["views"]),
        (IMAGES[:, None], lambda clips: clips.flatten(0, 1)),
    ],
)
def test_other_inputs_with_teacher_images(inputs, images, watch):
    """The teacher is given the result of ``teacher_images``: as if the model were called with the images."""

    class Own(toy(images)):
        def teacher_images(self, inputs: Any) -> Tensor:
            return images(inputs)

    torch.manual_seed(0)
    found = built(Own)(inputs, torch.zeros(2), mode="loss")
    torch.manual_seed(0)
    expected = built(toy())(IMAGES, torch.zeros(2), mode="loss")
    assert found["loss_ed"].item() == expected["loss_ed"].item() > 0


def test_without_a_teacher_any_inputs_will_do():
    term = dict(name="loss_bss", loss=dict(type="BSSLoss"), student="net", weight=1.0)
    model = toy(torch.stack)(terms=[term])
    found = model([IMAGES[0], IMAGES[1]], None, mode="loss")
    assert found.keys() == {"loss_task", "loss_bss"}
    assert found["loss_bss"] > 0


def test_a_name_that_compares_with_nothing_needs_no_teacher(model):
    regularizer = MODELS.build(model("own", terms="bss", teacher=None)).regularizer
    assert [*regularizer.terms] == ["loss_bss"]
    assert regularizer.teacher is None


def test_a_name_whose_taps_are_not_found_says_what_a_config_can_do(nets):
    backbone = dict(type="ModuleBackbone", module="nets:with_dropout")
    with pytest.raises(ValueError, match="no stages were found in CrossTaskToy") as error:
        toy()(teacher=dict(type="FrozenTeacher", backbone=backbone, checkpoint="random"), terms="ctd-ed")
    assert error.value.__notes__ == [
        "terms='ctd-ed' in a config has no arguments stages and images: write the terms out"
    ]


@pytest.mark.parametrize("channels", [1, 5])
def test_a_name_for_images_of_other_channels(channels):
    class Net(BaseModel):
        def __init__(self, backbone: dict[str, Any]) -> None:
            super().__init__()
            self.backbone = MODELS.build(backbone)

        def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = "tensor") -> Any:
            features = self.backbone(inputs)[-1]
            return {"loss_task": features.square().mean()} if mode == "loss" else features

    class CrossTaskNet(CrossTaskModel, Net):
        pass

    backbone = dict(type="ModuleBackbone", module="timm/resnet10t", kwargs=dict(in_chans=channels))
    net = CrossTaskNet(backbone=backbone, teacher=dict(type="FrozenTeacher", checkpoint="random"), terms="ctd-ed")
    assert net(torch.rand(2, channels, 32, 32), mode="loss")["loss_ctd_ed"] > 0
    assert net.regularizer.terms["loss_ctd_ed"].student == "backbone.net.layer4"


def test_a_classifier_without_pooling_is_copied(model):
    backbone = dict(type="ModuleBackbone", module="torchvision.models:resnet18")
    teacher = dict(type="FrozenTeacher", backbone=backbone, checkpoint="random")
    built = MODELS.build(model("own", terms="ctd-cd", teacher=teacher))
    source = built.regularizer.teacher.network.backbone.net.fc
    torch.nn.init.constant_(source.weight, 0.25)  # as if it were read from a file after the copy was made
    built.init_weights()
    copied = built.regularizer.terms["loss_ctd_cd"].student_connector.fc
    assert (copied.weight == 0.25).all()
    assert torch.equal(copied.bias, source.bias)


def test_a_copy_that_could_not_be_filled_is_refused(model):
    """A copy of more than the classifier, which is made before the source's weights are read."""
    backbone = dict(type="ModuleBackbone", module="torchvision.models:mobilenet_v3_small")
    teacher = dict(type="FrozenTeacher", backbone=backbone, checkpoint="random")
    with pytest.raises(ValueError, match="loss_ctd_cd needs a copy of more than a classifier.*write the terms out"):
        MODELS.build(model("own", terms="ctd-cd", teacher=teacher))


def test_losses_must_be_a_dict(watch):
    model = built(toy(losses=torch.zeros(())))
    with pytest.raises(TypeError, match=r"forward\(mode='loss'\) returned a Tensor; expected a dict of losses"):
        model(IMAGES, None, mode="loss")


def test_a_term_may_not_take_the_name_of_a_loss(watch):
    with pytest.raises(ValueError, match=r"\['loss_task'\] are taken by losses of the model"):
        built(toy(), name="loss_task")(IMAGES, None, mode="loss")


def test_mixin_needs_a_finished_model_behind_it():
    for bases in [(CrossTaskModel, BaseModel), (CrossTaskModel,)]:
        with pytest.raises(TypeError, match="class Net: CrossTaskModel must be followed by a base class"):
            type("Net", bases, {"forward": lambda self, inputs, data_samples=None, mode="tensor": {}})


def test_model_behind_the_mixin_by_mistake(nets):
    with pytest.raises(TypeError, match="CrossTaskModel must be followed by a base class"):
        type("Net", (nets.PointNet, CrossTaskModel), {})


def test_teacher_without_any_backbone(watch):
    teacher = dict(type="FrozenTeacher", checkpoint="random")
    term = dict(name="loss_ed", loss=dict(type="HintLoss"), student="net", teacher="backbone", weight=1.0)
    with pytest.raises(ValueError, match=r"no backbone, and the model was not built from .*teacher.backbone"):
        toy()(teacher=teacher, terms=[term])


@pytest.mark.parametrize("stated", [True, False])
def test_input_convention(stated, nets, model):
    """That of the data preprocessor for BGR input, or that of the config."""
    given = dict(mean=[0.5] * 3, std=[0.25] * 3)
    teacher = dict(type="FrozenTeacher", checkpoint="random", **({"student_input": given} if stated else {}))
    built = MODELS.build(model("own", teacher=teacher, terms=[nets.term("ed")]))
    made = InputConvention(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), value_range=255)
    expected = InputConvention(**given) if stated else made
    found = built.regularizer.teacher.student_input
    assert (found.channels, found.value_range) == (expected.channels, expected.value_range)
    assert (*found.mean, *found.std) == pytest.approx((*expected.mean, *expected.std))


# -- registries --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("default_scope", [None, "mmengine", "mmdet", "mmpose"])
def test_parts_are_those_of_the_models_package(default_scope, nets, model, monkeypatch):
    """A subclass of MMDetection's model gets its ResNet, not MMPose's; a scope that is set has precedence."""
    from mmdet.models.backbones import ResNet
    from mmpose.models.backbones import ResNet as PoseResNet

    monkeypatch.setattr(DefaultScope, "_instance_dict", OrderedDict())
    config = model("mmdet", terms=[nets.term("ed")])
    encoder = config["backbone"]
    if default_scope:
        init_default_scope(default_scope)
    scoped = {key: {**value, "_scope_": "mmdet"} for key, value in config.items() if key in ("neck", "bbox_head")}
    config |= scoped | {"data_preprocessor": {**config["data_preprocessor"], "_scope_": "mmdet"}}
    config["backbone"] = {**encoder, "_scope_": "mmdet"}
    config["teacher"] = dict(type="FrozenTeacher", backbone={**encoder, "init_cfg": None}, checkpoint="random")
    cls = MODELS.get("mmdet.CrossTaskCenterNet")
    built = cls(**{key: value for key, value in config.items() if key != "type"})
    network = built.regularizer.teacher.network.backbone
    assert type(network) is (PoseResNet if default_scope == "mmpose" else ResNet)
    current = DefaultScope.get_current_instance()
    assert (None if current is None else current.scope_name) == default_scope


def test_no_package_has_a_component_of_the_same_name(nets):
    """A package's own registry has precedence, so the user would get the package's component instead of ours."""
    import mmdet.models  # noqa: F401
    import mmpose.models  # noqa: F401

    import xtask_reg.integrations.mmpose  # noqa: F401

    for registry, special in ((MODELS, set()), (HOOKS, {"CrossTaskHook"})):
        ours = {name for name, each in registry.module_dict.items() if each.__module__.startswith("xtask_reg.")}
        assert len(ours) >= 5
        for package in ("mmpose", "mmdet"):
            assert ours & registry.children[package].module_dict.keys() <= special, package


def test_mmpose_has_the_hook_that_checks_its_landmarks():
    import xtask_reg.integrations.mmpose  # noqa: F401

    kinds = {}
    for scope in ("mmengine", "mmdet", "mmpose"):
        init_default_scope(scope)
        kinds[scope] = type(HOOKS.build(dict(type="CrossTaskHook"))).__name__
    assert kinds == {"mmengine": "CrossTaskHook", "mmdet": "CrossTaskHook", "mmpose": "CrossTaskPoseHook"}


def test_room_needs_mmengine_alone():
    """None of the packages on top of MMEngine, nor mmcv."""
    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['mmcv', 'mmpose', 'mmdet', 'timm', 'lightning', 'transformers']))\n"
        "import xtask_reg.integrations.mmengine\n"
        "print([n for n in sys.modules if n.startswith('xtask_reg.integrations.mmpose')])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


# -- several processes -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes(kind, nets, config, model, tmp_path):
    """MMEngine's DDP: both end with the same student, connectors and balanced weight, from different batches."""
    terms = [nets.term("cd"), nets.term("ed") | {"weight": BALANCED}]
    wrapper = dict(type="MMDistributedDataParallel", device_ids=None)
    run = config(kind, model(kind, terms=terms), launcher="pytorch", model_wrapper_cfg=wrapper, env_cfg=GLOO, **LONG)
    run.train_dataloader.batch_size = 2
    folder = tmp_path / "ranks"
    folder.mkdir()
    run.dump(folder / "run.py")
    first, second = (found["run"] for found in found_by_each(str(PLUGINS / "two_ranks.py"), folder))
    assert not torch.equal(first["batches"][0], second["batches"][0])
    parameters = {name.removeprefix("module.") for name in first["names"] if "running" not in name}
    same = {key for key, value in first["end"].items() if torch.equal(value, second["end"][key])}
    assert {key for key in first["end"] if key in parameters or key.startswith(("connectors.", "teacher."))} <= same
    fc = "connectors.terms.loss_cd.student_connector.fc.weight"
    assert not torch.equal(first["start"][fc], first["end"][fc])
    assert first["weights"] == second["weights"]
    assert first["weights"][-1]["loss_ed"] > 0
