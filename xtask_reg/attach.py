"""A regularizer in one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from xtask_reg.kinds import check_kind
from xtask_reg.measuring import Monitor
from xtask_reg.regularizer import CrossTaskRegularizer
from xtask_reg.shorthands import shorthand
from xtask_reg.teacher import FrozenTeacher
from xtask_reg.term import Term, Weight, is_left_out
from xtask_reg.two_encoders import check_student


def ctd(
    student: nn.Module,
    teacher: nn.Module | None,
    names: str = "ctd-ed",
    *,
    weight: Weight | None = None,
    stages: Mapping[str, str] | Sequence[str] | None = None,
    images: Tensor | None = None,
    monitor: Monitor | None = None,
    quiet: bool = False,
) -> CrossTaskRegularizer:
    """Attach a regularizer to the student, with taps that are found, and print what was chosen.

    Train the student as usual: call it, then call the regularizer, and add the terms that it returns to the task's
    loss. If ``ctd`` fails, the teacher is left as it was.

    Args:
        student: the network to train. It has an encoder: ResNet-like, of timm, of segmentation_models_pytorch, a ViT, a
            Swin.
        teacher: the source network, which is then frozen; or a :class:`FrozenTeacher`, for instance with an input
            adapter. None if no term compares with a teacher, as for ``"bss"``.
        names: the name of a regularizer, or several joined by ``+``; see :func:`xtask_reg.shorthand`.
        weight: the weight of every term, instead of the default.
        stages: the taps to use instead of those found, from shallow to deep: the teacher's paths by the student's, or a
            list if they are the same.
        images: some of the training images, ``(B, C, H, W)``: the networks are called with them to find the taps and
            the monitor's stages. By default with black images that they accept.
        monitor: what else to measure from time to time.
        quiet: print nothing.

    Raises:
        ValueError: if the networks share a tensor, the monitor names an unknown stage, or for what
            :func:`xtask_reg.shorthand` refuses.
        TypeError: for an argument of the wrong kind, such as a teacher in the student's place, or several teachers,
            which :class:`CrossTaskRegularizer` takes.

    Example:
        >>> student, source = torchvision.models.resnet18(), torchvision.models.resnet18()
        >>> keep = ctd(student, source, "ctd-ed")
        ctd_ed: CosineAlignmentLoss, student layer4, teacher layer4, weight 0.002
    """
    check_student(student)
    one = "one network or xr.FrozenTeacher; xr.CrossTaskRegularizer(student, teachers, terms) takes several"
    check_kind(teacher, (nn.Module, type(None)), "the teacher", one)
    terms = shorthand(student, teacher, names, weight, stages=stages, images=images)
    with _unchanged_by_errors(teacher):
        source = teacher if teacher is None or isinstance(teacher, FrozenTeacher) else FrozenTeacher(teacher)
        regularizer = CrossTaskRegularizer(student, source, terms, monitor, images)
    if not quiet:
        print("\n".join(map(_description, terms)))
    return regularizer


@contextmanager
def _unchanged_by_errors(network: nn.Module | None) -> Iterator[None]:
    """If the block raises, restore the network's train modes and ``requires_grad`` flags."""
    training = [] if network is None else [module for module in network.modules() if module.training]
    required = [] if network is None else [each for each in network.parameters() if each.requires_grad]
    try:
        yield
    except BaseException:
        for module in training:
            module.training = True
        for parameter in required:
            parameter.requires_grad_(True)
        raise


def _description(term: Term) -> str:
    if is_left_out(term.weighting):
        return f"{term.name}: left out, its weight is 0"
    sides = {"student": (term.student, term.student_connector), "teacher": (term.teacher, term.teacher_connector)}
    taps = [f"{side} {_tap(path, connector)}" for side, (path, connector) in sides.items() if path is not None]
    return f"{term.name}: {type(term.loss).__name__}, {', '.join(taps)}, weight {term.weighting}"


def _tap(path: str, connector: nn.Module) -> str:
    steps = connector if isinstance(connector, nn.Sequential) else [connector]
    names = [type(step).__name__ for step in steps if not isinstance(step, nn.Identity)]
    return (path or "as a whole") + (f" ({', '.join(names)})" if names else "")
