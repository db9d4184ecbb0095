"""The images of a folder, as MMEngine's data preprocessors expect them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from xtask_reg.data.files_below import files_below
from xtask_reg.data.images import SUFFIXES, check_whole, is_nearly_black, is_shown_image


class FolderOfImages(Dataset[Tensor]):
    """The images in a folder and its sub-folders, BGR ``(3, H, W)`` from 0 to 255; hidden ones are left out.

    Raises:
        OSError: if a sub-folder cannot be read.
        ValueError: if the folder does not exist or has no image; in the access, if an image is damaged or cut off.
    """

    def __init__(self, folder: Path, size: tuple[int, int] | None) -> None:
        if not folder.is_dir():
            raise ValueError(f"UnlabelledImagesHook: there is no folder {folder}")
        self.files = sorted(filter(is_shown_image, files_below(folder)))
        self.size = size
        self._whole: set[int] = set()
        if not self.files:
            raise ValueError(f"UnlabelledImagesHook: {folder} has no images; expected one of {SUFFIXES} in it")

    def __len__(self) -> int:
        return len(self.files)

    def nearly_black(self, most: int) -> list[Path]:
        """The nearly black ones among up to ``most`` images, spread over the folder."""
        some = range(0, len(self.files), -(-len(self.files) // most))
        return [self.files[index] for index in some if is_nearly_black(self._read(index))]

    def _read(self, index: int) -> np.ndarray:
        """The pixels of an image; its file is checked before it is read for the first time."""
        if index not in self._whole:
            check_whole(self.files[index])
            self._whole.add(index)
        image = cv2.imread(str(self.files[index]))
        if image is None:
            raise ValueError(f"{self.files[index]} cannot be read as an image: repair it, or remove it from the folder")
        return image

    def __getitem__(self, index: int) -> Tensor:
        image = self._read(index)
        if self.size is not None:
            image = _middle(image, *self.size)
        return torch.from_numpy(image.transpose(2, 0, 1).copy())


def _middle(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """The largest central crop with this aspect ratio, resized."""
    rows, columns = image.shape[:2]
    scale = min(columns / width, rows / height)
    kept_width, kept_height = (max(1, round(side * scale)) for side in (width, height))
    left, top = (columns - kept_width) // 2, (rows - kept_height) // 2
    part = image[top : top + kept_height, left : left + kept_width]
    return cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR)
