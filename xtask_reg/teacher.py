"""The frozen source network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any, Self

import torch
from torch import Tensor, nn

from xtask_reg.caching import TeacherCache
from xtask_reg.conversion import try_conversion
from xtask_reg.kinds import check_kind
from xtask_reg.submodules import check_list_of_paths
from xtask_reg.tapped_pass import TappedPass


class FrozenTeacher(nn.Module):
    """The source network, frozen, and hidden from all that trains, saves, averages or synchronises a model.

    The network is not a registered submodule: the owner of the teacher does not see it in ``parameters()``,
    ``buffers()``, ``modules()`` or ``state_dict()``. It follows the owner's ``.to()`` and similar calls. A deep copy of
    the owner shares it, until the copy is moved or converted: then it takes a network of its own.

    Args:
        network: any module. It is not copied: it is put in eval mode, and its parameters stop requiring gradients.
        adapter: converts the student's images to what the network expects (:class:`xtask_reg.InputAdapter`); None if
            both expect the same.
        dtype: the precision to convert the network to, for instance ``torch.bfloat16``; None leaves it. The outputs
            have that precision; the losses read them in float32.
        channels_last: whether to convert its weights to that memory format, which is often faster for convolutions.
        compile: whether ``torch.compile`` compiles :meth:`features`, or in which of its modes: with
            ``"reduce-overhead"`` it is a CUDA graph.
        cache: where :meth:`features` keeps outputs on disk, for images that come again.

    Raises:
        TypeError: if the network or the adapter is not a module, or the cache not a :class:`TeacherCache`.

    Example:
        >>> teacher = FrozenTeacher(torchvision.models.resnet50())
        >>> teacher.features(images, ["layer4", "fc"])["layer4"].shape
        torch.Size([2, 2048, 8, 8])
    """

    _borrows = False
    """Whether this is a copy that shares the original's network."""

    def __init__(
        self,
        network: nn.Module,
        adapter: nn.Module | None = None,
        dtype: torch.dtype | None = None,
        channels_last: bool = False,
        compile: bool | str = False,
        cache: TeacherCache | None = None,
    ) -> None:
        super().__init__()
        check_kind(network, nn.Module, "the source network", "an nn.Module")
        check_kind(cache, (TeacherCache, type(None)), "the cache", "xr.TeacherCache(folder, images=...), or None")
        if dtype is not None:
            network.to(dtype)
        if channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it
        self._hidden: tuple[nn.Module, nn.Module | None] = (network, None)
        self._compile = compile
        self.cache = cache
        self._passes: dict[frozenset[str], TappedPass] = {}
        self.use_adapter(adapter)
        self.train(False)

    def use_adapter(self, adapter: nn.Module | None) -> None:
        """Replace the conversion of the student's images; the new one is moved to the network's device.

        Raises:
            TypeError: if it is not a module.
        """
        expected = "a module that converts the student's images, xr.InputAdapter(student=..., teacher=...), or None"
        check_kind(adapter, (nn.Module, type(None)), "the adapter", expected)
        parameter = next(self.network.parameters(), None)
        if adapter is not None and parameter is not None:
            adapter.to(parameter.device)
        self._hidden = (self.network, adapter)
        self._freeze()

    def _own(self) -> list[nn.Module]:
        return [module for module in self._hidden if module is not None]

    def _freeze(self) -> None:
        for module in self._own():
            module.eval()
            for parameter in module.parameters():
                parameter.requires_grad_(False)

    @property
    def network(self) -> nn.Module:
        """The source network."""
        return self._hidden[0]

    @property
    def adapter(self) -> nn.Module | None:
        """The conversion of the student's images, if any."""
        return self._hidden[1]

    @torch.no_grad()
    def forward(self, images: Tensor) -> Any:
        """The network's output for the student's ``images``.

        A network in a precision other than float32 runs in that precision, under autocast or not.

        Raises:
            RuntimeError: if the network is on another device than the images.
        """
        return self._run(images, self.network)

    @torch.no_grad()
    def features(self, images: Tensor, paths: Iterable[str], rarely: Iterable[str] = ()) -> dict[str, Tensor]:
        """The outputs of the submodules at ``paths`` for the student's ``images``.

        The first pass for a set of paths runs the whole network; later ones end at the last of these submodules.

        Args:
            images: ``(B, ...)``.
            paths: dotted paths of submodules.
            rarely: more of them, whose outputs a cache does not keep.

        Raises:
            RuntimeError: if the network is on another device than the images.
            ValueError: for an unknown path, or what :meth:`~xtask_reg.TeacherCache.features` refuses.
            TapError: if a submodule did not give exactly one tensor.
            TypeError: for a single path instead of a list of them.
            OSError: if the cache cannot be written.
        """
        for given in (paths, rarely):
            check_list_of_paths(given)
        paths, others = set(paths), set(rarely)
        if self.cache is None or not paths:
            return self._computed(images, paths | others)
        kept = self.cache.features(images, sorted(paths), self._computed, self._own())
        return kept | (self._computed(images, others - paths) if others - paths else {})

    def _computed(self, images: Tensor, paths: Iterable[str]) -> dict[str, Tensor]:
        wanted = frozenset(paths)
        if wanted not in self._passes:
            self._passes[wanted] = TappedPass(self.network, wanted, self._compile)
        return self._run(images, self._passes[wanted])

    def _run(self, images: Tensor, network: Callable[[Tensor], Any]) -> Any:
        """Call the network on a copy of the images, so that in-place operations change nothing for the other networks.

        Autocast is off if the network's precision is not float32.
        """
        single = self._like(images).dtype == torch.float32
        with nullcontext() if single else torch.autocast(images.device.type, enabled=False):
            return network(self.prepared(images.clone()))

    def prepared(self, images: Tensor) -> Tensor:
        """The network's input for the student's ``images``: adapted, and in the network's precision.

        Integers are not converted: a network that accepts them interprets them itself.

        Raises:
            RuntimeError: if the network is on another device than the images.
        """
        if not all(map(_evaluates, self._own())):
            self._freeze()
        like = self._like(images)
        if like.device != images.device:
            raise RuntimeError(
                f"the teacher is on {like.device}, the images are on {images.device}: "
                "move the teacher (or the regularizer that owns it) with .to(device)"
            )
        images = images if self.adapter is None else self.adapter(images)
        as_is = torch.is_autocast_enabled(images.device.type) or not images.is_floating_point()
        return images if as_is else images.to(like.dtype)

    def _like(self, images: Tensor) -> Tensor:
        """A tensor with the network's precision and device; the images if it has no floating-point parameter."""
        return next((p for p in self.network.parameters() if p.is_floating_point()), images)

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode, whatever ``mode`` is."""
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        conversion = try_conversion(fn, self._own())
        if not conversion.keeps_values:
            raise RuntimeError(
                "to_empty() discards the values of the frozen teacher, which no state_dict restores: build the teacher "
                "after to_empty(), or move it with .to()"
            )
        if self._borrows and conversion.changes:
            self._stop_borrowing()
        for module in self._own():
            module._apply(fn)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's has no types

    def _stop_borrowing(self) -> None:
        self._hidden, self.cache = copy.deepcopy((self._hidden, self.cache))
        self._passes = {}
        self._borrows = False

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        shared = copy.copy(self)
        shared._borrows = True
        return shared

    def extra_repr(self) -> str:
        given = {"adapter": self.adapter and type(self.adapter).__name__, "cache": self.cache}
        options = [f"{name}={value}" for name, value in given.items() if value is not None]
        return ", ".join([f"network={type(self.network).__name__}", *options])


def _evaluates(module: nn.Module) -> bool:
    """Whether a module and all its parts are in eval mode. Called in each step, so it avoids slow ``modules()``."""
    parts: list[nn.Module | None] = [module]
    while parts:
        part = parts.pop()
        if part is not None:
            if part.training:
                return False
            parts += part._modules.values()
    return True
