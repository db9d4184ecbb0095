"""What the encoders of segmentation_models_pytorch expect of their images."""

from __future__ import annotations

from segmentation_models_pytorch.encoders import get_preprocessing_params

from xtask_reg.inputs import InputConvention


def input_convention(encoder_name: str, weights: str = "imagenet") -> InputConvention:
    """What an encoder with published weights expects of its images: the preparation that it was trained with.

    It is SMP's ``get_preprocessing_params``, which may look at the Hugging Face Hub.

    Args:
        encoder_name: ``'resnet18'`` or ``'tu-convnext_atto'``, for instance.
        weights: which of its published weights; one that SMP takes from timm has a single one.

    Raises:
        ValueError: if there are no such weights.
    """
    try:
        stated = get_preprocessing_params(encoder_name, weights)
    except KeyError as error:
        raise ValueError(f"segmentation_models_pytorch has no encoder {encoder_name!r}") from error
    return InputConvention(
        mean=tuple(stated["mean"]),
        std=tuple(stated["std"]),
        channels=stated["input_space"].lower(),
        value_range=stated["input_range"][1],
    )
