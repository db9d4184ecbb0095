"""The teacher's outputs on disk."""

from __future__ import annotations

import errno
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xtask_reg.caching.circumstances import circumstances
from xtask_reg.caching.independence import check_independence, check_rows
from xtask_reg.caching.raw_bytes import image_key
from xtask_reg.caching.store import Layout, Store
from xtask_reg.caching.teacher_state import TeacherState

Compute = Callable[[Tensor, Sequence[str]], Mapping[str, Tensor]]
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class TeacherCache:
    """A frozen teacher's outputs, kept on disk: each image passes through the teacher once, in all runs together.

    An entry belongs to the very pixels that the teacher is given: its key is a hash of the image's values, dtype and
    shape. Sample, geometry, colour, mixing, normalisation are thereby all in it, and nothing has to be declared. It
    lies in a folder that belongs to the teacher: the code, settings and tensors of network and adapter; the tap; the
    image's shape and dtype; the device type, precision and autocast; PyTorch's version. Anything else, another folder.

    So there must be few different images: the augmentation draws from a finite set (a flip, a few scales), and the
    first image beyond ``images * versions`` is an error. In a step that computes an entry the rounded, stored value is
    what counts, too.

    The teacher's output for an image must not depend on the rest of the batch. That is checked at the first batch of
    which several images are computed, by computing one of them again alone.

    Any number of processes may use one folder at the same time. Copies and pickles have the settings alone.

    Args:
        folder: where the files are; made when the first entry is written.
        images: how many labelled images the training has.
        versions: how many different images the augmentation makes of each: 6 for a flip and three scales.
        dtype: in which floating point outputs are stored, ``torch.float16`` or ``'float16'`` for half of float32;
            None for what the teacher gives.

    Raises:
        ValueError: for numbers that are not positive, or another dtype.

    Example:
        >>> teacher = FrozenTeacher(network, cache=TeacherCache("cache", images=50, versions=6, dtype="float16"))
    """

    def __init__(
        self, folder: str | os.PathLike[str], images: int, versions: int = 1, dtype: torch.dtype | str | None = None
    ) -> None:
        for name, number in (("images", images), ("versions", versions)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise ValueError(f"TeacherCache: {name}={number!r}; expected a whole number from 1")
        chosen = getattr(torch, dtype, dtype) if isinstance(dtype, str) else dtype
        if chosen is not None and chosen not in _DTYPES:
            raise ValueError(f"TeacherCache: dtype={dtype!r}; expected one of {_DTYPES}, or None")
        self.folder = Path(folder).absolute()
        self.images = images
        self.versions = versions
        self.dtype = chosen
        self._state = TeacherState()
        self._stores: dict[str, Store] = {}
        self._seen: set[bytes] = set()
        self._checked: set[Store] = set()
        self._announced: set[Store] = set()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.folder, self.images, self.versions, self.dtype)

    def __repr__(self) -> str:
        return f"TeacherCache({str(self.folder)!r}, {self.images}, {self.versions}, {self.dtype})"

    @property
    def capacity(self) -> int:
        """How many different images there may be."""
        return self.images * self.versions

    def features(
        self, images: Tensor, paths: Iterable[str], compute: Compute, modules: Sequence[nn.Module]
    ) -> dict[str, Tensor]:
        """The outputs at ``paths`` for a batch of images, read where they are stored, else computed and stored.

        Args:
            images: the batch, ``(B, ...)``.
            paths: what the outputs are called.
            compute: gives the outputs ``(B', ...)`` at some of the paths for some of the images.
            modules: what the outputs depend on: the teacher's network, and its adapter.

        Raises:
            ValueError: for more different images than :attr:`capacity`; if an output depends on other images of the
                batch, has not one entry an image, changes its shape, or is too large for the stored dtype.
            OSError: if the folder cannot be written, or the disk is too small for all entries.
        """
        paths = list(paths)
        if not len(images):
            return dict(compute(images, paths))
        keys = [image_key(image) for image in images]
        self._count(keys)
        common = {
            "teacher": self._state.digest(modules),
            "cast to": str(self.dtype),
            **circumstances(images),
        }
        stores = {path: self._store({"tap": path, **common}) for path in paths}
        self._fill(stores, dict(zip(reversed(keys), reversed(range(len(keys))))), images, compute)
        return {path: store.read(keys).to(images.device).to(store.layout.dtype) for path, store in stores.items()}

    def _count(self, keys: Sequence[bytes]) -> None:
        self._seen.update(keys)
        if len(self._seen) > self.capacity:
            raise ValueError(
                f"the teacher was given {len(self._seen)} different images, but images={self.images} in "
                f"versions={self.versions} make {self.capacity}. A cache is of use only if the same pixels come again: "
                "draw the augmentation from a finite set (a flip, a few scales), quantise it, or leave it to the "
                "student's side; if it is finite, state the true images and versions; else train without cache. "
                f"What was stored so far is in {self.folder}"
            )

    def _store(self, identity: Mapping[str, str]) -> Store:
        name = blake2b(repr(sorted(identity.items())).encode(), digest_size=12).hexdigest()
        if name not in self._stores:
            readable = "".join(each if each.isalnum() or each in "._-" else "_" for each in identity["tap"])[:60]
            self._stores[name] = Store(self.folder / f"{readable}-{name}", identity)
        store = self._stores[name]
        store.forget_what_was_cut()
        return store

    def _fill(self, stores: Mapping[str, Store], rows: Mapping[bytes, int], images: Tensor, compute: Compute) -> None:
        """Compute and store what is not there yet of the images with these keys, each at its row of the batch."""
        for store in stores.values():
            if any(key not in store for key in rows):
                store.refresh()
        lacking = {path: [key for key in rows if key not in store] for path, store in stores.items()}
        lacking = {path: keys for path, keys in lacking.items() if keys}
        if not lacking:
            return
        wanted = sorted({rows[key] for keys in lacking.values() for key in keys})
        chosen = images if len(wanted) == len(images) else images[wanted]
        outputs = compute(chosen, list(lacking))
        self._check_independence(stores, outputs, chosen, compute)
        stored = {path: self._stored(path, outputs[path]) for path in lacking}
        for path, values in stored.items():
            stores[path].use(Layout(tuple(values.shape[1:]), outputs[path].dtype, values.dtype))
        self._announce(stores)
        for path, values in stored.items():
            self._write(stores[path], {key: values[wanted.index(rows[key])] for key in lacking[path]})

    def _check_independence(
        self, stores: Mapping[str, Store], outputs: Mapping[str, Tensor], images: Tensor, compute: Compute
    ) -> None:
        for path, output in outputs.items():
            check_rows(path, output, len(images))
        unchecked = [path for path in outputs if stores[path] not in self._checked]
        if unchecked and len(images) > 1:
            alone = compute(images[:1], unchecked)
            for path in unchecked:
                check_independence(path, outputs[path][:1], alone[path])
            self._checked.update(stores[path] for path in unchecked)

    def _stored(self, path: str, output: Tensor) -> Tensor:
        if self.dtype is None or not output.is_floating_point():
            return output
        stored = output.to(self.dtype)
        if (stored.isinf() & ~output.isinf()).any():
            raise ValueError(
                f"the teacher's output at {path!r} reaches {output.abs().max().item():.3g}, but {self.dtype} ends at "
                f"{torch.finfo(self.dtype).max:.3g}: give the cache dtype=torch.bfloat16, or None"
            )
        return stored

    def _announce(self, stores: Mapping[str, Store]) -> None:
        """Say how much will be written, once for each tap, and see that there is room for it."""
        if all(store in self._announced for store in stores.values()):
            return
        sizes = {path: store.record_size for path, store in stores.items()}
        listed = ", ".join(f"{path}: up to {self.capacity} entries of {_size(size)}" for path, size in sizes.items())
        needed = sum(max(0, self.capacity - len(store)) * sizes[path] for path, store in stores.items())
        there = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
        what = f"the cache of the teacher's outputs in {self.folder} ({listed}) may grow by {_size(needed)}"
        if free < needed:
            raise OSError(
                errno.ENOSPC,
                f"{what}, but only {_size(free)} are free: choose another folder, dtype=torch.float16, fewer versions "
                "of each image, or train without cache",
            )
        warnings.warn(f"{what}; {_size(free)} are free")
        self._announced.update(stores.values())

    def _write(self, store: Store, outputs: Mapping[bytes, Tensor]) -> None:
        try:
            store.write(outputs)
        except OSError as error:
            raise OSError(
                error.errno,
                f"the teacher's outputs cannot be stored in {store.folder} ({error.strerror}): choose another folder, "
                "or train without cache",
            ) from error


def _size(nbytes: int) -> str:
    """A number of bytes as people write it."""
    power = min(4, max(0, len(str(nbytes)) - 1) // 3)
    return f"{nbytes / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"
