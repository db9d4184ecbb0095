"""Images without labels, on which student and teacher are compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import ImgDataPreprocessor
from mmengine.registry import HOOKS
from mmengine.structures import BaseDataElement
from torch import Tensor
from torch.utils.data import DataLoader

from xtask_reg.integrations.mmengine.bare_model import bare_model
from xtask_reg.integrations.mmengine.endless_order import EndlessOrder
from xtask_reg.integrations.mmengine.folder_of_images import FolderOfImages
from xtask_reg.integrations.mmengine.model import CrossTaskModel
from xtask_reg.integrations.mmengine.progress import steps
from xtask_reg.regularizer import CrossTaskRegularizer
from xtask_reg.sizes import checked_size
from xtask_reg.term import Term
from xtask_reg.term_list import check_not_balanced

LOOKED_AT = 20
"""At most so many images are checked for being nearly black, before training."""


@HOOKS.register_module()
class UnlabelledImagesHook(Hook):
    """Compares student and teacher on separate images, which need no labels, instead of on the labelled ones.

    In each step the student sees a batch of them as well, in eval mode, and the terms read that. Take images such as
    the source was trained on: on those the student should stay like its source. The idea of keeping the old task's
    predictions on such images is from Lee et al., "Overcoming Catastrophic Forgetting with Unlabeled Data in the Wild",
    ICCV 2019.

    They are read as BGR, like MMEngine's images, and pass through the model's data preprocessor. Each is used once
    before any is used again, in an order that depends on the run's seed, and a resumed run continues it. Each process
    of a distributed run has its own order. The random state of the training does not change. While all weights are 0
    and no monitor measures, the student is not called with them. A monitor also compares on these images.

    Args:
        folder: where the images lie, in folders within it and links to such too: PNG, JPEG, BMP, TIFF or WebP.
        batch_size: images per step.
        size: width and height in pixels. Of each image the largest part of that shape, in its middle, is resized to it.
            None if all images have one size already.
        num_workers: processes that read them.

    Raises:
        ValueError: for a bad size or batch size; before training for a folder without images, a model that is no
            :class:`CrossTaskModel` or whose data preprocessor is no ``ImgDataPreprocessor``, or terms that read no
            features or are :class:`Balanced`; in training for an image that cannot be read, or images of different
            sizes.
    """

    priority = "BELOW_NORMAL"
    """After :class:`CrossTaskHook`, which tells the weights the progress."""

    def __init__(self, folder: str, batch_size: int, size: Sequence[int] | None = None, num_workers: int = 0) -> None:
        if type(batch_size) is not int or batch_size < 1:
            raise ValueError(f"UnlabelledImagesHook: batch_size={batch_size!r}; expected a whole number above 0")
        self.folder, self.batch_size, self.num_workers = Path(folder), batch_size, num_workers
        self.size = None if size is None else checked_size(size, "width and height in pixels", "None if all have one")
        self._batches: Iterator[Sequence[Tensor]] | None = None

    def before_train(self, runner: Any) -> None:
        model = bare_model(runner)
        if not isinstance(model, CrossTaskModel):
            raise ValueError(f"UnlabelledImagesHook needs a CrossTaskModel; the model is a {type(model).__name__}")
        if model.regularizer is None:
            runner.logger.warning("UnlabelledImagesHook: the model has no terms, so its images are not used")
            return
        _check(model, model.regularizer)
        images = FolderOfImages(self.folder, self.size)
        runner.logger.info(f"terms are compared on {len(images)} images of {self.folder}, {self.batch_size} a step")
        dark = images.nearly_black(LOOKED_AT)
        if dark:
            runner.logger.warning(
                f"UnlabelledImagesHook: {len(dark)} of up to {LOOKED_AT} images of {self.folder} are nearly black, "
                f"e.g. {dark[0]}: 12-bit data in 16 bits? rescale them to 8 bits first"
            )
        done, _ = steps(runner, 0)
        order = EndlessOrder(len(images), [runner.seed, runner.rank], done * self.batch_size)
        self._batches = iter(
            DataLoader(
                images,
                self.batch_size,
                sampler=order,
                num_workers=self.num_workers,
                collate_fn=list,
                generator=torch.Generator(),  # otherwise the workers' seeds are drawn from the training's random state
            )
        )

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Give the model the images of the step."""
        if self._batches is None:
            return
        model, images = bare_model(runner), next(self._batches)
        if not model.regularizer.reads_features:
            return
        sizes = sorted({tuple(image.shape[1:]) for image in images})
        if len(sizes) > 1:
            raise ValueError(
                f"UnlabelledImagesHook: images of {self.folder} have different sizes, {sizes[0]} and {sizes[1]}: set "
                "size=(width, height) to resize them"
            )
        batch = {"inputs": images, "data_samples": [BaseDataElement() for _ in images]}
        model.compare_on(model.data_preprocessor(batch, training=False)["inputs"])

    def after_train(self, runner: Any) -> None:
        self._batches = None


def _check(model: CrossTaskModel, regularizer: CrossTaskRegularizer) -> None:
    if not regularizer.student_paths:
        raise ValueError(
            f"UnlabelledImagesHook: the terms {list(regularizer.terms)} read no features, so no images: "
            "leave out the hook"
        )
    if not isinstance(model.data_preprocessor, ImgDataPreprocessor):
        raise ValueError(
            f"UnlabelledImagesHook: the data preprocessor is a {type(model.data_preprocessor).__name__}; expected an "
            "ImgDataPreprocessor or one derived from it, that takes BGR images from 0 to 255"
        )
    check_not_balanced(term for term in regularizer.terms.values() if isinstance(term, Term))
