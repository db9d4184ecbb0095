"""The frozen source network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, Self

import torch
from torch import Tensor, nn

from xtask_reg.taps import TapRecorder, find_module


class FrozenTeacher(nn.Module):
    """The source network, out of reach: nothing that trains, saves, averages or synchronises a model finds it.

    The network is not a registered submodule: whoever owns the teacher does not see it in ``parameters()``,
    ``buffers()``, ``modules()`` or ``state_dict()``. It follows the owner's ``.to()`` and its relatives, and a deep
    copy of the owner shares it.

    Args:
        network: any module; it is taken over: put in eval mode, and its parameters stop requiring gradients.
        adapter: converts the student's images to what the network expects (:class:`xtask_reg.InputAdapter`); None if
            both expect the same.

    Example:
        >>> teacher = FrozenTeacher(torchvision.models.resnet50())
        >>> teacher.features(images, ["layer4", "fc"])["layer4"].shape
        torch.Size([2, 2048, 8, 8])
    """

    def __init__(self, network: nn.Module, adapter: nn.Module | None = None) -> None:
        super().__init__()
        self._hidden = (network, None)
        self.use_adapter(adapter)
        self.train(False)

    def use_adapter(self, adapter: nn.Module | None) -> None:
        """Replace the conversion of the student's images; it is moved to where the network is."""
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
            module.requires_grad_(False)

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
        """The network's output on the student's ``images``.

        A network in another precision than the images is given them in its own.

        Raises:
            RuntimeError: if the network is on another device than the images.
        """
        if any(part.training for module in self._own() for part in module.modules()):
            self._freeze()
        self._check_device(images)
        images = images if self.adapter is None else self.adapter(images)
        return self.network(images if torch.is_autocast_enabled(images.device.type) else images.to(self._dtype(images)))

    @torch.no_grad()
    def features(self, images: Tensor, paths: Iterable[str]) -> dict[str, Tensor]:
        """The outputs of the submodules at ``paths`` on the student's ``images``.

        Raises:
            ValueError: for an unknown path.
            TapError: if a submodule did not give exactly one tensor.
        """
        recorder = TapRecorder({path: find_module(self.network, path) for path in paths}, owner="teacher")
        try:
            with recorder.recording():
                self(images)
        finally:
            recorder.remove()
        return recorder.take(recorder.paths)[1]

    def _dtype(self, images: Tensor) -> torch.dtype:
        """The network's own; that of the images if it has no floating point parameter."""
        return next((p.dtype for p in self.network.parameters() if p.is_floating_point()), images.dtype)

    def _check_device(self, images: Tensor) -> None:
        own = next(self.network.parameters(), images).device
        if own != images.device:
            raise RuntimeError(
                f"the teacher is on {own}, the images are on {images.device}: "
                "move the teacher (or the regularizer that owns it) with .to(device)"
            )

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode, whatever ``mode`` is."""
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        for module in self._own():
            module._apply(fn)
        return super()._apply(fn, recurse)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        shared = copy.copy(self)
        memo[id(self)] = shared
        return shared

    def extra_repr(self) -> str:
        return f"network={type(self.network).__name__}"
