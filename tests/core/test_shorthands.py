"""Regularizers by name: the terms written out by hand for a ResNet-18, and a step of training in several families."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

import xtask_reg as xr
from xtask_reg.shorthands import NAMES, SUMS, compares, shorthand

CLASSES, POINTS, SIDE = 20, 6, 64
LAYERS = ("layer1", "layer2", "layer3", "layer4")
BALANCED = None
"""Stands for ``Balanced(0.1)``."""
PAPER = 0.002

Row = tuple[str, type[nn.Module], str, str | None, float | None]


def last(name: str, loss: type[nn.Module], weight: float | None = BALANCED) -> Row:
    return name, loss, "layer4", "layer4", weight


def each(name: str, loss: type[nn.Module]) -> list[Row]:
    return [(f"{name}{number}", loss, layer, layer, BALANCED) for number, layer in enumerate(LAYERS, start=1)]


CD = ("ctd_cd", xr.SoftmaxL2Loss, "layer4", "fc", PAPER)
ED = last("ctd_ed", xr.CosineAlignmentLoss, PAPER)
SPATIAL = last("spatial_attention", xr.AttentionTransferLoss, PAPER)
CHANNELS = last("channel_attention", xr.ChannelAttentionLoss, PAPER)
DISTANCE, ANGLE = last("rkd_distance", xr.RKDDistanceLoss), last("rkd_angle", xr.RKDAngleLoss)

BY_HAND: dict[str, list[Row]] = {
    "ctd-cd": [CD],
    "ctd-ed": [ED],
    "ctd-com": [CD, ED],
    "ctd-att": [CD, ED, SPATIAL, CHANNELS],
    "kd": [("kd", xr.KDLoss, "layer4", "fc", BALANCED)],
    "lwf": [("lwf", xr.LwFLoss, "layer4", "fc", 1.0)],
    "hint": [last("hint", xr.HintLoss)],
    "at": each("at", xr.AttentionTransferLoss),
    "spatial-attention": [SPATIAL],
    "channel-attention": [CHANNELS],
    "cwd": [last("cwd", xr.ChannelWiseLoss)],
    "pkd": [last("pkd", xr.PearsonLoss)],
    "rkd": [DISTANCE, ANGLE],
    "rkd-distance": [DISTANCE],
    "rkd-angle": [ANGLE],
    "gram": [last("gram", xr.GramAnchoringLoss)],
    "local-similarity": [last("local_similarity", xr.LocalSimilarityLoss)],
    "radio": [last("radio", xr.CosineSmoothL1Loss)],
    "delta": each("delta", xr.DELTALoss),
    "l2-sp": [("l2_sp", xr.L2SPPenalty, "", "", 0.1)],
    "bss": [("bss", xr.BSSLoss, "layer4", None, 0.001)],
    # several
    "ctd-ed + l2-sp": [ED, ("l2_sp", xr.L2SPPenalty, "", "", 0.1)],
    " RKD+Ctd-Com": [DISTANCE, ANGLE, CD, ED],
}
EVERY = [*NAMES, *SUMS]


def read(terms: list[xr.Term]) -> list[Row]:
    """The terms as rows; a balanced weight must have the ratio 0.1."""
    weights = [term.weighting for term in terms]
    assert all(weight.ratio == 0.1 for weight in weights if isinstance(weight, xr.Balanced))
    shown = [BALANCED if isinstance(weight, xr.Balanced) else weight for weight in weights]
    return [(t.name, type(t.loss), t.student, t.teacher, weight) for t, weight in zip(terms, shown)]


@pytest.fixture(scope="module")
def resnets() -> tuple[nn.Module, nn.Module]:
    """A student with another head, and its source."""
    return torchvision.models.resnet18(num_classes=POINTS), torchvision.models.resnet18(num_classes=CLASSES)


def test_each_name_is_written_out():
    assert BY_HAND.keys() >= set(EVERY)


@pytest.mark.parametrize("name", BY_HAND)
def test_terms_are_those_written_out(name, resnets):
    assert read(shorthand(*resnets, name)) == BY_HAND[name]


@pytest.mark.parametrize("name", ["ctd-att", "kd", "lwf", "bss"])
def test_what_compares_logits_has_a_copy_of_the_classifier(name, resnets):
    student, source = resnets
    for term in shorthand(student, source, name):
        connector = term.student_connector
        assert isinstance(connector, xr.PooledClassifier) == (term.teacher == "fc")
        if isinstance(connector, xr.PooledClassifier):
            assert torch.equal(connector.fc.weight, source.fc.weight)
            assert connector.fc.weight is not source.fc.weight
            assert all(parameter.requires_grad for parameter in connector.parameters())
            features = torch.rand(2, 512, 3, 4)
            torch.testing.assert_close(connector(features), source.fc(features.mean((2, 3))))
        assert isinstance(term.teacher_connector, nn.Identity)


def test_a_pooled_classifier_is_the_classifier():
    """The term uses the source's whole pooled classifier, not the linear layer in it."""
    layers = dict(list(torchvision.models.resnet18().named_children())[:-2])
    source = nn.Sequential(OrderedDict(**layers, fc=xr.PooledClassifier(nn.Linear(512, 4), window=2)))
    (term,) = shorthand(torchvision.models.resnet18(), source, "kd")
    assert term.teacher == "fc"
    assert term.student_connector.window == 2


@pytest.mark.parametrize(("weight", "shown"), [(0.5, 0.5), (0, 0.0), (xr.LinearDecay(2.0), xr.LinearDecay(2.0))])
def test_given_weight(weight, shown, resnets):
    assert [row[-1] for row in read(shorthand(*resnets, "ctd-com + kd", weight=weight))] == [shown] * 3


@pytest.mark.parametrize("given", [xr.Balanced(0.1, every=7), None])
def test_each_term_has_a_balance_of_its_own(given, resnets):
    balances = [term.weighting for term in shorthand(*resnets, "at + hint", weight=given)]
    assert len({id(balance) for balance in [given, *balances]}) == 6
    assert {balance.every for balance in balances} == {7 if given else 5}
    balances[0].update(1.0, 2.0)
    assert [balance.measurements for balance in balances] == [1, 0, 0, 0, 0]


def test_prefix(resnets):
    terms = shorthand(*resnets, "ctd-ed + delta", prefix="loss_")
    assert [term.name for term in terms] == ["loss_ctd_ed", *(f"loss_delta{number}" for number in range(1, 5))]


def test_frozen_or_not_and_wrapped_or_not(resnets):
    student, source = resnets
    names = "ctd-cd + at + l2-sp + bss"
    plain = read(shorthand(student, source, names))
    assert read(shorthand(nn.DataParallel(student), xr.FrozenTeacher(source), names)) == plain


def resnet10(outputs: int) -> nn.Module:
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=outputs)


class Features(nn.Module):
    """A network of ``timm.create_model(..., features_only=True)`` with a head."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = timm.create_model("resnet10t", features_only=True)
        self.head = nn.Conv2d(512, POINTS, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encoder(images)[-1])


SOURCE = functools.partial(timm.create_model, "resnet10t", num_classes=CLASSES)
FAMILIES: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module], str]] = {
    "torchvision": (functools.partial(resnet10, POINTS), functools.partial(resnet10, CLASSES), ""),
    "timm": (lambda: timm.create_model("resnet10t", num_classes=POINTS), SOURCE, ""),
    "timm features": (Features, SOURCE, "encoder."),
    "smp unet": (
        lambda: smp.Unet("resnet18", encoder_weights=None, decoder_channels=(16, 8, 8, 8, 8), classes=POINTS),
        lambda: torchvision.models.resnet18(num_classes=CLASSES),
        "encoder.",
    ),
}


@pytest.fixture(scope="module")
def networks() -> Callable[[str], tuple[nn.Module, xr.FrozenTeacher, str]]:
    """Student, teacher and the student's prefix of a family, made once."""

    @functools.cache
    def make(family: str) -> tuple[nn.Module, xr.FrozenTeacher, str]:
        student, source, prefix = FAMILIES[family]
        torch.manual_seed(1)
        return student(), xr.FrozenTeacher(source()), prefix

    return make


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", EVERY)
def test_a_step_of_training(name, family, networks):
    """The terms alone, without a task: they reach the first convolution."""
    student, teacher, prefix = networks(family)
    student.zero_grad()
    terms = shorthand(student, teacher, name, weight=1.0)
    assert {term.student for term in terms} <= {f"{prefix}{layer}" for layer in LAYERS} | {prefix.rstrip(".")}
    keep = xr.CrossTaskRegularizer(student, teacher, terms)
    optimizer = torch.optim.SGD([*student.parameters(), *keep.parameters()], lr=1e-3)
    student.train()(torch.rand(3, 3, SIDE, SIDE))
    losses = keep()
    assert len(losses) == len(BY_HAND[name])
    assert all(loss.isfinite() and loss > 0 for loss in losses.values()), losses
    sum(losses.values()).backward()
    keep.remove()
    optimizer.step()
    stem = next(student.parameters())
    assert stem.grad.count_nonzero() > 0
    assert all(parameter.isfinite().all() for parameter in student.parameters())


NONE = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())


def unet() -> nn.Module:
    return smp.Unet("tu-resnet10t", encoder_weights=None)


@pytest.mark.parametrize(
    ("name", "student", "source", "message"),
    [
        ("ctd", SOURCE, SOURCE, "there is no regularizer 'ctd'; the names are " + ", ".join(EVERY)),
        ("ctd-ed + ", SOURCE, SOURCE, "there is no regularizer ''"),
        ("ctd_ed", SOURCE, SOURCE, "there is no regularizer 'ctd_ed'"),
        *(
            (
                name, unet, unet,
                rf"the way of Unet from its last stage 'encoder.model.layer4' .*xr.{loss}\(\), "
                rf"student='encoder.model.layer4', .* name='{name.replace('-', '_')}'\)",
            )
            for name, loss in (("ctd-cd", "SoftmaxL2Loss"), ("kd", "KDLoss"), ("lwf", "LwFLoss"))
        ),
        (
            "at", SOURCE, lambda: timm.create_model("vit_tiny_patch16_224", depth=5, embed_dim=8, num_heads=2),
            r"student has the stages \['layer1', .* the teacher \['blocks.0', .*'blocks.4'\]: .*stages=\{student",
        ),
        ("at", SOURCE, lambda: NONE, "no stages were found in Sequential"),
        ("bss", lambda: NONE, SOURCE, "no stages were found in Sequential"),
        ("l2-sp", lambda: NONE, SOURCE, "no stages were found in Sequential"),
    ],
)  # fmt: skip
def test_errors(name, student, source, message):
    with pytest.raises(ValueError, match=message):
        shorthand(student(), source(), name)


@pytest.mark.parametrize("names", ["ctd-com", "at + l2-sp + bss", "CTD-ED"])
def test_a_regularizer_by_name_is_that_of_its_terms(names, networks):
    student, teacher, _ = networks("timm")
    images, values = torch.rand(4, 3, SIDE, SIDE), []
    for terms in (names, shorthand(student, teacher, names)):
        keep = xr.CrossTaskRegularizer(student, teacher, terms)
        for term in keep.terms.values():
            term.set_weight(1.0)
        student.eval()(images)
        values.append({name: loss.item() for name, loss in keep().items()})
        keep.remove()
    assert values[0].keys() == {row[0] for part in names.split(" + ") for row in BY_HAND[part.lower()]}
    assert values[0] == pytest.approx(values[1])
    assert min(values[0].values()) > 0


def test_a_regularizer_by_name_trains_its_connector(networks):
    student, teacher, _ = networks("timm")
    keep = xr.CrossTaskRegularizer(nn.DataParallel(student), teacher, "ctd-cd")
    assert sorted(parameter.shape for parameter in keep.parameters()) == [(CLASSES,), (CLASSES, 512)]
    assert keep.terms["ctd_cd"].weight == PAPER
    keep.remove()


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (False, True, "terms='ctd-ed'.* give the regularizer the student"),
        (True, None, r"compares with a teacher: give one, FrozenTeacher\(source\)"),
        (True, "several", r"terms='ctd-ed'.* one FrozenTeacher\(source\)"),
    ],
)
def test_by_name_it_needs_a_student_and_one_teacher(student, teacher, message, networks):
    own, source, _ = networks("timm")
    given = {"several": {"faces": source}, True: source}.get(teacher)
    with pytest.raises(ValueError, match=message):
        xr.CrossTaskRegularizer(own if student else None, given, "ctd-ed")


def test_by_name_errors_are_those_of_the_shorthand(networks):
    student, teacher, _ = networks("timm")
    with pytest.raises(ValueError, match="there is no regularizer 'ed'; the names are ctd-cd, ctd-ed"):
        xr.CrossTaskRegularizer(student, teacher, "ed")
    with pytest.raises(ValueError, match=r"term names \['ctd_ed', 'ctd_cd', 'ctd_ed'\] are not unique"):
        xr.CrossTaskRegularizer(student, teacher, "ctd-ed + ctd-com")


def test_tokens_are_brought_into_the_order_of_maps():
    """A rotation of the channels of all tokens does not change their similarities."""
    student, source = (timm.create_model("vit_tiny_patch16_224", depth=4, embed_dim=8, num_heads=2) for _ in range(2))
    (term,) = shorthand(student, source, "gram")
    tokens, target = torch.randn(2, 2, 197, 8)
    turn = torch.linalg.qr(torch.randn(8, 8))[0]
    assert term(tokens, tokens @ turn).item() == pytest.approx(0, abs=1e-6)
    assert term(tokens, target).item() > 0.01


@pytest.mark.parametrize("name", ["bss", "BSS + bss"])
def test_what_compares_with_nothing_needs_no_teacher(name):
    student = resnet10(POINTS)
    assert read(shorthand(student, None, name)) == [BY_HAND["bss"][0]] * name.lower().count("bss")
    assert not compares(name)


@pytest.mark.parametrize("name", sorted({*EVERY} - {"bss"}))
def test_what_compares_needs_one(name):
    assert compares(name)
    with pytest.raises(ValueError, match=r"compares with a teacher: give one, FrozenTeacher\(source\)"):
        shorthand(resnet10(POINTS), None, name)


def test_parameters_at_given_stages_need_no_call():
    """The networks accept no image at all."""
    student, source = (nn.Sequential(OrderedDict(body=nn.Sequential(nn.Linear(7, 2), nn.Linear(2, 5)))) for _ in "ab")
    (term,) = shorthand(student, source, "l2-sp", stages={"body.0": "body.0", "body.1": "body.1"})
    assert (term.student, term.teacher) == ("body", "body")
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [term])
    student(torch.rand(3, 7))
    assert keep()["l2_sp"] > 0


@pytest.mark.parametrize(
    ("stages", "own", "source"),
    [
        ({"encoder.layer3": "layer3"}, "encoder", ""),
        ({"encoder.layer3": "layer3", "encoder.layer4.0": "layer4"}, "encoder", ""),
        ({"encoder.layer4.0.conv1": "layer4.0.conv1"}, "encoder.layer4.0", "layer4.0"),
    ],
)
def test_parameters_are_those_around_the_given_stages(stages, own, source):
    student = nn.Sequential(OrderedDict(encoder=resnet10(POINTS)))
    (term,) = shorthand(student, resnet10(CLASSES), "l2-sp", stages=stages)
    assert (term.student, term.teacher) == (own, source)


AT_LAST = sorted({*EVERY} - {"l2-sp", "bss", "at", "delta"})


@pytest.mark.parametrize("name", AT_LAST)
def test_the_last_stages_of_different_numbers_are_a_pair(name):
    source = timm.create_model("vit_tiny_patch16_224", img_size=SIDE, depth=5, embed_dim=8, num_heads=2, num_classes=4)
    terms = shorthand(resnet10(POINTS), source, name)
    assert {term.student for term in terms} == {"layer4"}
    assert {term.teacher for term in terms} <= {"blocks.4", "head"}
    for term in (term for term in terms if name.startswith("rkd")):
        maps, tokens = torch.rand(3, 512, 2, 2), torch.rand(3, 17, 8)
        assert term(maps, tokens).item() == pytest.approx(term.loss(maps, tokens.transpose(1, 2)).item())


@pytest.mark.parametrize("path", ["module.layer4", "layer4"])
def test_given_stages_below_a_child_named_as_a_wrapper(path):
    """``module.`` in a path does not matter, and one that is there by that name does not either."""
    student = nn.Sequential(OrderedDict(module=resnet10(POINTS)))
    (term,) = shorthand(student, resnet10(CLASSES), "ctd-ed", stages={path: "layer4"})
    assert (term.student, term.teacher) == (path, "layer4")
