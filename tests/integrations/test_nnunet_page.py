"""docs/nnunet.md, executed and checked.

nnU-Net itself needs another version of timm than the other tests. Its trainer is replaced by one that does the same in
the same order; ``test_nnunet.py`` runs the real one where it is installed.
"""

from __future__ import annotations

import copy
import re
import sys
import types
from pathlib import Path

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import Tensor, nn
from torch.nn import functional

import xtask_reg as xr

PAGE = (Path(__file__).parents[2] / "docs" / "nnunet.md").read_text()
TRAINER, RENAMING, TERMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(SAID,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
PATCHES = {2: (32, 24), 3: (16, 24, 16)}
SCALES = (1.0, 0.5, 0.0)
"""The weights of deep supervision; nnU-Net's lowest resolution has none either."""


def network(dimensions: int, classes: int = 2, kind: type[nn.Module] = PlainConvUNet, stages: int = 4) -> nn.Module:
    """A network as nnU-Net builds it, but small."""
    blocks = "n_conv_per_stage" if kind is PlainConvUNet else "n_blocks_per_stage"
    return kind(
        input_channels=1,
        n_stages=stages,
        features_per_stage=[4 * 2 ** min(stage, 3) for stage in range(stages)],
        conv_op=getattr(nn, f"Conv{dimensions}d"),
        kernel_sizes=3,
        strides=[1] + [2] * (stages - 1),
        num_classes=classes,
        n_conv_per_stage_decoder=1,
        conv_bias=True,
        norm_op=getattr(nn, f"InstanceNorm{dimensions}d"),
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
        **{blocks: 1},
    )


def supervised(outputs: list[Tensor], target: Tensor) -> Tensor:
    """The cross entropy at each resolution."""
    sizes = [functional.interpolate(target[:, None].float(), each.shape[2:])[:, 0].long() for each in outputs]
    return sum(scale * functional.cross_entropy(*each) for scale, *each in zip(SCALES, outputs, sizes))


class Trainer:
    """What nnU-Net's trainer does, in its order."""

    def __init__(self, dimensions: int) -> None:
        torch.manual_seed(0)
        self.device, self.num_input_channels = torch.device("cpu"), 1
        self.configuration_manager = types.SimpleNamespace(patch_size=PATCHES[dimensions])
        self.network = network(dimensions)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.01, momentum=0.99, nesterov=True)
        self.loss = self._build_loss()

    def _build_loss(self):
        return supervised

    def on_train_start(self) -> None:
        torch.manual_seed(2)
        patch = self.configuration_manager.patch_size
        self.batches = [(torch.randn(2, 1, *patch), torch.randint(2, (2, *patch))) for _ in range(4)]

    def on_epoch_end(self) -> None:
        pass

    def print_to_log_file(self, said: dict[str, float]) -> None:
        self.said = said

    def run(self) -> list[float]:
        """The losses of an epoch, that of its validation last."""
        self.on_train_start()
        losses = [self.step(*batch) for batch in self.batches[:-1]]
        self.network.eval()
        with torch.no_grad():
            images, target = self.batches[-1]
            losses.append(self.loss(self.network(images), target).item())
        self.on_epoch_end()
        return losses

    def step(self, images: Tensor, target: Tensor) -> float:
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.network(images), target)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 12)
        self.optimizer.step()
        return loss.item()


class ByHand(Trainer):
    """The page's trainer without xtask_reg: weight * (1 - cosine) between the encoders' last outputs."""

    def __init__(self, dimensions: int, source: nn.Module, weight: float) -> None:
        super().__init__(dimensions)
        self.source, self.weight = copy.deepcopy(source), weight

    def _build_loss(self):
        return self.with_term

    def with_term(self, outputs: list[Tensor], target: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return supervised(outputs, target)
        with torch.no_grad():
            wanted = self.source.encoder(self.images)[-1]
        found = self.network.encoder(self.images)[-1]
        cosines = functional.cosine_similarity(found.flatten(1), wanted.flatten(1))
        return supervised(outputs, target) + self.weight * (1 - cosines).mean()

    def step(self, images: Tensor, target: Tensor) -> float:
        self.images = images
        return super().step(images, target)


def load_pretrained_weights(into: nn.Module, path: str) -> None:
    weights = torch.load(path)["network_weights"]
    found = into.load_state_dict({name: each for name, each in weights.items() if ".seg_layers." not in name}, False)
    assert all(".seg_layers." in name for name in found.missing_keys)


@pytest.fixture(params=[2, 3], ids=["2d", "3d"])
def dimensions(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint_final.pth"


@pytest.fixture
def source(dimensions: int, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A pretrained network, and its checkpoint."""
    torch.manual_seed(1)
    made = network(dimensions, classes=5)
    torch.save({"network_weights": made.state_dict(), "trainer_name": "KeepTrainer"}, checkpoint)
    monkeypatch.setenv("SOURCE", str(checkpoint))
    return made


def started(trainer: Trainer, checkpoint: Path) -> Trainer:
    """With ``-pretrained_weights``, and changed so much that the term is not almost 0."""
    load_pretrained_weights(trainer.network, str(checkpoint))
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in trainer.network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return trainer


@pytest.fixture
def keep_trainer(monkeypatch: pytest.MonkeyPatch):
    """The page's trainer, with its weight or another."""
    members = {
        "run.load_pretrained_weights": load_pretrained_weights,
        "training.nnUNetTrainer.nnUNetTrainer": Trainer,
    }
    for path, member in members.items():
        module = types.ModuleType(f"nnunetv2.{path}")
        setattr(module, path.rpartition(".")[2], member)
        monkeypatch.setitem(sys.modules, module.__name__, module)

    def execute(weight: str = "xr.Balanced(0.1)") -> type[Trainer]:
        namespace: dict[str, object] = {}
        exec(TRAINER.replace("xr.Balanced(0.1)", weight), namespace)
        return namespace["KeepTrainer"]

    return execute


def test_the_trainer_does_what_a_loop_by_hand_does(keep_trainer, dimensions, source, checkpoint) -> None:
    trainer = started(keep_trainer("0.5")(dimensions), checkpoint)
    expected = started(ByHand(dimensions, source, 0.5), checkpoint)
    assert trainer.run() == pytest.approx(expected.run(), rel=1e-5)
    torch.testing.assert_close(trainer.network.state_dict(), expected.network.state_dict(), rtol=1e-4, atol=1e-5)


def test_the_term_is_balanced_and_logged(keep_trainer, dimensions, source, checkpoint, capsys) -> None:
    trainer = started(keep_trainer()(dimensions), checkpoint)
    trainer.run()
    assert SAID.partition("(ratio")[0] in capsys.readouterr().out
    assert {"value/ctd_ed", "weight/ctd_ed", "ratio/ctd_ed"} <= trainer.said.keys()


def test_a_training_that_goes_on_has_the_same_teacher(keep_trainer, dimensions, source, checkpoint) -> None:
    trainer = keep_trainer()(dimensions)
    trainer.network.load_state_dict(network(dimensions).state_dict())  # of --c
    trainer.run()
    wanted = source.encoder.state_dict()
    torch.testing.assert_close(trainer.keep.teacher.network.encoder.state_dict(), wanted, rtol=0, atol=0)


def test_the_checkpoint_is_renamed(source, checkpoint, monkeypatch) -> None:
    monkeypatch.chdir(checkpoint.parent)
    exec(RENAMING, {"torch": torch})
    renamed = torch.load(checkpoint)
    assert renamed["trainer_name"] == "nnUNetTrainer"
    torch.testing.assert_close(renamed["network_weights"], source.state_dict(), rtol=0, atol=0)


def test_the_terms_on_class_scores_and_parameters() -> None:
    torch.manual_seed(0)
    made: dict[str, object] = {"copy": copy, "torch": torch, "xr": xr}
    exec(TERMS, made)
    student, source, keep = made["student"], made["source"], made["keep"]
    assert list(dict(keep.named_parameters())) == [f"terms.lwf.student_connector.{name}" for name in ("weight", "bias")]
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    images = torch.randn(2, 1, 16, 16, 16)
    student(images)
    terms = keep()
    features = {}
    student.decoder.stages[2].register_forward_hook(lambda _, __, output: features.update(student=output))
    student(images)
    old = source.decoder.seg_layers[2](features["student"]) / 2  # the temperature
    wanted = source(images)[0] / 2
    divergence = functional.kl_div(old.log_softmax(1), wanted.softmax(1), reduction="none").sum(1).mean()
    torch.testing.assert_close(terms["lwf"], divergence)
    pairs = zip(student.encoder.parameters(), source.encoder.parameters())
    torch.testing.assert_close(terms["l2_sp"], 0.1 * sum((one - other).square().sum() for one, other in pairs) / 2)


@pytest.mark.parametrize("kind", [PlainConvUNet, ResidualEncoderUNet])
@pytest.mark.parametrize("stages", [4, 5])
def test_what_can_be_tapped(kind, dimensions, stages) -> None:
    made = network(dimensions, kind=kind, stages=stages)
    images = torch.zeros(1, 1, *(2**stages,) * dimensions)
    taps = {tap.path: tap for tap in xr.list_taps(made, images)}
    for path in (*(f"encoder.stages.{n}" for n in range(stages)), f"decoder.stages.{stages - 2}"):
        assert not taps[path].reason
    assert taps[f"decoder.seg_layers.{stages - 2}"].shape == (1, 2, *images.shape[2:])
    assert {taps[path].reason for path in ("", "encoder", "decoder") if path in taps} == {"gives a list"}
    if stages == 4:
        with pytest.raises(ValueError, match="no stages were found"):
            xr.find_stages(made)
    else:
        assert xr.find_stages(made) == [f"encoder.stages.{n}" for n in (2, 3, 4)]


def test_seven_stages_need_images() -> None:
    made = network(2, stages=7)
    with pytest.raises(ValueError, match="give images="):
        xr.find_stages(made)
    assert len(xr.find_stages(made, torch.zeros(1, 1, 128, 128))) == 5


def test_the_decoder_contains_the_encoder() -> None:
    made = network(2)
    frozen = xr.freeze(made, ["decoder"])
    assert not any(parameter.requires_grad for parameter in made.parameters())
    frozen.release()
    xr.freeze(made, ["decoder"], but=["decoder.encoder"])
    assert all(parameter.requires_grad for parameter in made.encoder.parameters())
    assert not any(parameter.requires_grad for parameter in made.decoder.seg_layers.parameters())
