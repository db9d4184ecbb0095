"""The disk cache of a teacher's outputs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xtask_reg.caching.audit import check_rows, is_same
from xtask_reg.caching.circumstances import circumstances
from xtask_reg.caching.disk_space import announce
from xtask_reg.caching.raw_bytes import image_key
from xtask_reg.caching.store import Layout, Store
from xtask_reg.caching.teacher_state import TeacherState

Compute = Callable[[Tensor, Sequence[str]], Mapping[str, Tensor]]
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class TeacherCache:
    """A frozen teacher's outputs, kept on disk: each image passes through the teacher once, in all runs together.

    An entry belongs to the very pixels that the teacher is given: its key is a hash of the image's values, dtype and
    shape. Sample, geometry, colour, mixing and normalisation are thereby all in it, and nothing has to be declared.
    Each combination of the following has a folder of its own: the classes, settings and tensors of network and adapter;
    the tap; the image's shape and dtype; the device type, precision and autocast; PyTorch's version.

    So there must be few different images: the augmentation must draw from a finite set (a flip, a few scales), and the
    first image beyond ``images * versions`` is an error. A step that computes an entry uses it as it is stored,
    rounded, too.

    What no setting shows (the code, or an output that depends on the rest of the batch) is audited: each process
    computes one image of each tap again, alone, before it stores outputs, and before it uses those of other processes.

    Any number of processes may use one folder at the same time. Copies and pickles of a cache have its settings alone.

    Args:
        folder: where the files are; made when the first entry is written.
        images: how many images the teacher is asked about: the labelled ones of the training, or those without labels
            on which the terms are compared.
        versions: how many different images the augmentation makes of each: 6 for a flip and three scales.
        dtype: the precision in which floating point outputs are stored: ``torch.float16`` or ``'float16'`` takes half
            the space of float32; None for that of the teacher's outputs.

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
        self.folder: Path = Path(folder).absolute()
        self.images = images
        self.versions = versions
        self.dtype = chosen
        self._states: dict[tuple[int, ...], TeacherState] = {}
        self._stores: dict[str, Store] = {}
        self._seen: set[bytes] = set()
        self._independent: set[Store] = set()
        self._trusted: set[Store] = set()
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
            ValueError: for more different images than :attr:`capacity`; if an output is another one for the image
                alone, has not one entry an image, changes its shape, or is too large for the stored dtype.
            OSError: if the folder cannot be written, or the disk is too small for all entries.
        """
        paths = list(paths)
        if not len(images):
            return dict(compute(images, paths))
        keys = [image_key(image) for image in images]
        self._count(keys)
        stores = self._open(paths, images, modules)
        rows: dict[bytes, int] = {}
        for row, key in enumerate(keys):
            rows.setdefault(key, row)
        for path, store in stores.items():
            if any(key not in store for key in rows):
                store.refresh()
            foreign = next((key for key in rows if store.has_from_elsewhere(key)), None)
            if foreign is not None and store not in self._trusted:
                self._audit(path, store, store.read([foreign]), images[rows[foreign]], compute)
                self._trusted.add(store)
        self._fill(stores, rows, images, compute)
        return {path: store.read(keys).to(images.device).to(store.layout.dtype) for path, store in stores.items()}

    def _count(self, keys: Sequence[bytes]) -> None:
        self._seen.update(keys)
        if len(self._seen) > self.capacity:
            raise ValueError(
                f"the teacher was given {len(self._seen)} different images, but images={self.images} in "
                f"versions={self.versions} make {self.capacity}. A cache helps only if the same pixels come again: "
                "draw the augmentation from a finite set (a flip, a few scales); if it already is, give the true "
                f"images and versions; else train without cache. What was stored so far is in {self.folder}"
            )

    def _open(self, paths: Sequence[str], images: Tensor, modules: Sequence[nn.Module]) -> dict[str, Store]:
        state = self._states.setdefault(tuple(map(id, modules)), TeacherState())  # keeps them alive
        common = {"teacher": state.digest(modules), "cast to": str(self.dtype), **circumstances(images)}
        return {path: self._store({"tap": path, **common}) for path in paths}

    def _store(self, identity: Mapping[str, str]) -> Store:
        name = blake2b(repr(sorted(identity.items())).encode(), digest_size=12).hexdigest()
        if name not in self._stores:
            readable = "".join(each if each.isalnum() or each in "._-" else "_" for each in identity["tap"])[:60]
            self._stores[name] = Store(self.folder / f"{readable}-{name}", identity)
        store = self._stores[name]
        store.forget_what_was_cut()
        return store

    def _audit(self, path: str, store: Store, given: Tensor, image: Tensor, compute: Compute) -> None:
        """Check that an output ``(1, ...)`` is what the teacher gives for the image alone."""
        if not is_same(given, compute(image[None], [path])[path]):
            raise ValueError(
                f"the teacher's output at {path!r} for an image alone differs from the one that is, or was to be, "
                f"stored in {store.folder}. Either it depends on the other images of a batch (batch "
                "statistics, attention over the batch) or is random: train without cache. Or the teacher's code "
                "changed since: delete that folder"
            )

    def _fill(self, stores: Mapping[str, Store], rows: Mapping[bytes, int], images: Tensor, compute: Compute) -> None:
        """Compute and store the missing outputs of the images with these keys, each with its row in the batch."""
        lacking = {path: [key for key in rows if key not in store] for path, store in stores.items()}
        lacking = {path: keys for path, keys in lacking.items() if keys}
        if not lacking:
            return
        wanted = sorted({rows[key] for keys in lacking.values() for key in keys})
        chosen = images if len(wanted) == len(images) else images[wanted]
        outputs = compute(chosen, list(lacking))
        for path, output in outputs.items():
            check_rows(path, output, len(chosen))
            if len(chosen) > 1 and stores[path] not in self._independent | self._trusted:
                self._audit(path, stores[path], output[:1], chosen[0], compute)
                self._independent.add(stores[path])
        stored = {path: self._stored(path, outputs[path]) for path in lacking}
        for path, values in stored.items():
            stores[path].use(Layout(tuple(values.shape[1:]), outputs[path].dtype, values.dtype))
        self._announce({path: stores[path] for path in lacking if stores[path] not in self._announced})
        for path, values in stored.items():
            stores[path].write({key: values[wanted.index(rows[key])] for key in lacking[path]})

    def _stored(self, path: str, output: Tensor) -> Tensor:
        if self.dtype is None or not output.is_floating_point():
            return output
        stored = output.to(self.dtype)
        if (stored.isinf() & ~output.isinf()).any():
            raise ValueError(
                f"the teacher's output at {path!r} reaches {output.abs().max().item():.3g}, but {self.dtype} ends at "
                f"{torch.finfo(self.dtype).max:.3g}: give the cache dtype='bfloat16', or None"
            )
        return stored

    def _announce(self, stores: Mapping[str, Store]) -> None:
        if stores:
            sizes = {path: store.record_size for path, store in stores.items()}
            announce(self.folder, self.capacity, sizes, {path: len(store) for path, store in stores.items()})
            self._announced.update(stores.values())
