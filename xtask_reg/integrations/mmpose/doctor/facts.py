"""What an examination finds, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from xtask_reg.inputs import InputConvention
from xtask_reg.integrations.mmpose.doctor.term_facts import LossFacts, StageFacts


@dataclass(frozen=True)
class DataFacts:
    """The training set, and the batch that was examined.

    Args:
        train_images: number of training samples.
        val_images: number of validation samples; None without validation.
        test_images: number of test samples; None without a test set that can be built.
        test_error: why the test set would be refused, if it would be.
        batch_shape: ``(B, 3, H, W)`` after the data preprocessor.
        lowest: smallest value of the batch after the data preprocessor.
        highest: largest one.
        landmarks: their number; None if the data set does not say.
        annotated: share of the batch's landmarks that are trained.
        flips: whether the training pipeline may flip images from left to right.
        flip_pairs: number of pairs of landmarks that a flip swaps.
        one_sided: landmarks that are left or right by name, but that a flip does not swap.
        never_annotated: landmarks that no training image shows, not even flipped.
        encoder_stride: input pixels per cell of the encoder's last feature map, rounded up to a power of two; None if
            unknown.
    """

    train_images: int
    val_images: int | None
    test_images: int | None
    test_error: str | None
    batch_shape: tuple[int, ...]
    lowest: float
    highest: float
    landmarks: int | None
    annotated: float | None
    flips: bool
    flip_pairs: int
    one_sided: tuple[str, ...]
    never_annotated: tuple[str, ...]
    encoder_stride: int | None


@dataclass(frozen=True)
class CodecFacts:
    """Settings in several places of a config that must agree.

    Args:
        differing: settings in which the training pipeline's encoder and the head's decoder differ.
        input_sizes: (width, height) by key.
        other_strides: by key, a metric's ``stride`` and the true number of input pixels per heatmap pixel, where these
            differ.
    """

    differing: tuple[str, ...]
    input_sizes: dict[str, tuple[int, int]]
    other_strides: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Part:
    """Numbers of parameters."""

    trainable: int
    all: int


@dataclass(frozen=True)
class ParameterFacts:
    """What trains.

    Args:
        parts: by the name of the model's child; ``'connectors'`` stands for those of the terms.
        total: all parts together.
        frozen: the shortest module paths that cover every parameter that does not train.
        first_layer: path of the first layer with trainable parameters, in the order of definition; None without any.
        without_gradient: trainable parameters that got none from the batch.
        batch_norms: number of batch norms in the model.
        batch_statistics: how many of these used the statistics of the batch.
        batch_statistics_in_backbone: how many of those are the encoder's.
    """

    parts: dict[str, Part]
    total: Part
    frozen: tuple[str, ...]
    first_layer: str | None
    without_gradient: tuple[str, ...]
    batch_norms: int
    batch_statistics: int
    batch_statistics_in_backbone: int


@dataclass(frozen=True)
class TeacherFacts:
    """The source network.

    Args:
        origin: file of its weights, ``'random'``, or what else they come from.
        metadata: of that file.
        student_input: what the data preprocessor makes.
        teacher_input: what the teacher is given.
        stated_input: what it expects according to the file, if that says so.
        converted: whether the images are converted for the teacher.
        runs: whether it was called in the step; it is not if no term reads its outputs.
        share_of_step: duration of its forward pass as a share of a whole training step (the median of three each).
        megabytes: memory of its parameters and buffers, in units of 2**20 bytes.
        in_common: number of tensors that the student's encoder and the teacher's have in common, by name and shape.
        differing: those of them that differed before the first step.
        checks: the properties that keep the teacher unchanged, and whether each holds.
    """

    origin: str
    metadata: dict[str, str]
    student_input: InputConvention
    teacher_input: InputConvention
    stated_input: InputConvention | None
    converted: bool
    runs: bool
    share_of_step: float | None
    megabytes: float
    in_common: int
    differing: tuple[str, ...]
    checks: dict[str, bool]


@dataclass(frozen=True)
class RunFacts:
    """How the run is set up.

    Args:
        device: where MMEngine trains.
        seed: of the run.
        has_cross_task_hook: whether connectors and balanced weights are saved, and schedules know the progress.
        has_epoch_seed_hook: whether epochs are seeded.
        find_unused_parameters: whether distributed training tolerates parameters without a gradient.
        thaws: modules that ``FreezeUntilHook`` freezes at first, and the fraction of the training at which they thaw;
            the examination shows the training after that.
        unlabelled: the folder of the images on which the terms are compared; None without ``UnlabelledImagesHook``, or
            while all weights are 0.
    """

    device: str
    seed: int
    has_cross_task_hook: bool
    has_epoch_seed_hook: bool
    find_unused_parameters: bool
    thaws: dict[str, float]
    unlabelled: str | None


@dataclass(frozen=True)
class Risk:
    """Something that may spoil a run."""

    name: str
    message: str
    cure: str


@dataclass(frozen=True)
class Facts:
    """Everything that was found about a config.

    Args:
        run: how it is set up.
        data: what it trains on.
        codec: how its heatmaps are made and read.
        parameters: what trains.
        losses: what is minimised.
        stages: where the monitor compares student and teacher, from shallow to deep.
        teachers: by name; a single one is called ``'teacher'``.
    """

    run: RunFacts
    data: DataFacts
    codec: CodecFacts
    parameters: ParameterFacts
    losses: LossFacts
    stages: tuple[StageFacts, ...]
    teachers: dict[str, TeacherFacts]


@dataclass(frozen=True)
class Examination:
    """A config, the facts found about it, and the risks that follow."""

    config: str
    facts: Facts
    risks: tuple[Risk, ...]
