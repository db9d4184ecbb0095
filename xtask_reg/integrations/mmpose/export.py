"""Exports the plain student to files that need neither MMPose nor this package; each is checked when it is written."""

from __future__ import annotations

import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import torch
from mmengine.model import BaseModel
from mmpose.structures import PoseDataSample
from torch import Tensor, nn

from xtask_reg.inputs import PIXELS, InputAdapter
from xtask_reg.integrations.mmengine.model import input_convention
from xtask_reg.integrations.mmpose.inference_pipeline import inference_pipeline
from xtask_reg.integrations.mmpose.student import export_metadata, load_student
from xtask_reg.sources import save_weights

LIMIT = 1e-4
"""A file is not kept if its heatmaps differ by more than this share of their largest value."""


class HeatmapNetwork(nn.Module):
    """An estimator from pixels to heatmaps: normalisation, encoder, decoder.

    Args:
        model: an estimator of :func:`xtask_reg.integrations.mmpose.student.load_student`.

    Raises:
        ValueError: in the call, if its head gives no heatmaps.

    Shape: images ``(B, 3, H, W)``, RGB from 0 to 255; heatmaps ``(B, K, h, w)``.
    """

    def __init__(self, model: BaseModel) -> None:
        super().__init__()
        self.adapter = InputAdapter(PIXELS, input_convention(model.data_preprocessor))
        self.estimator = model

    def forward(self, images: Tensor) -> Tensor:
        heatmaps = self.estimator.head(self.estimator.extract_feat(self.adapter(images)))
        if isinstance(heatmaps, list):  # of a stacked network: the last stack's
            heatmaps = heatmaps[-1]
        if not isinstance(heatmaps, Tensor) or heatmaps.ndim != 4:
            raise ValueError(
                f"{type(self.estimator.head).__name__} gives no heatmaps; only models with heatmaps can be exported"
            )
        return heatmaps


def save_student(model: BaseModel, config: str | os.PathLike[str], path: str | os.PathLike[str]) -> float:
    """Write the weights of an estimator, under their own names, to a ``.safetensors`` file.

    Its metadata state the names of the landmarks and what the network expects of its images. Read again into a new
    network of the config, it must give the same heatmaps.

    Args:
        model: an estimator on the CPU.
        config: its config.
        path: what to write.

    Returns:
        The largest difference of a heatmap from the model's, as a share of their largest value.

    Raises:
        RuntimeError: if it is greater than :data:`LIMIT`.
    """
    convention = input_convention(model.data_preprocessor).to_metadata()
    save_weights(model.state_dict(), path, {**export_metadata(model), **convention})
    return compare(model, HeatmapNetwork(load_student(config, path)))


def save_onnx(model: BaseModel, path: str | os.PathLike[str]) -> float:
    """Write an ONNX file that maps any number of ``images`` to ``heatmaps``, as :class:`HeatmapNetwork` does.

    Model, check and result are as in :func:`save_student`.

    Raises:
        ImportError: if onnx, onnxscript or onnxruntime is missing.
        RuntimeError: if PyTorch cannot export the model, or the file's heatmaps differ.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  (PyTorch's exporter needs it)
    except ImportError as error:
        raise ImportError(f"ONNX needs {error.name}: pip install 'xtask-reg[export]'") from error
    with _exporting("ONNX"):
        program = torch.onnx.export(
            HeatmapNetwork(model), (_images(model, 2),), dynamo=True, verbose=False,
            input_names=["images"], output_names=["heatmaps"], dynamic_shapes={"images": {0: "batch"}},
        )  # fmt: skip
        assert program is not None  # only without dynamo
        program.model.metadata_props.update(_metadata(model))
        program.save(str(path), external_data=False)
        onnx.checker.check_model(str(path))
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return compare(model, lambda images: torch.from_numpy(session.run(["heatmaps"], {"images": images.numpy()})[0]))


def save_torch_export(model: BaseModel, path: str | os.PathLike[str]) -> float:
    """Write a :class:`HeatmapNetwork` for any number of images, to be read by ``torch.export.load(path).module()``.

    Model, check and result are as in :func:`save_student`; the metadata are ``metadata.json`` among its extra files.

    Raises:
        RuntimeError: if PyTorch cannot export the model, or the file's heatmaps differ.
    """
    batch = torch.export.Dim("batch", min=1)
    with _exporting("torch.export"):
        program = torch.export.export(
            HeatmapNetwork(model), (_images(model, 2),), dynamic_shapes={"images": {0: batch}}
        )
        content = io.BytesIO()  # given a path, it does not report a full disk
        torch.export.save(program, content, extra_files={"metadata.json": json.dumps(_metadata(model))})
        Path(path).write_bytes(content.getbuffer())
        again = torch.export.load(path).module()
    return compare(model, again)


def compare(model: BaseModel, other: Callable[[Tensor], Tensor]) -> float:
    """The largest difference of heatmaps of random images, in batches of 1 and 3, as a share of the largest value.

    Raises:
        RuntimeError: if it is greater than :data:`LIMIT`, or not a number.
    """
    differences = []
    for count in (1, 3):
        images = _images(model, count)
        with torch.no_grad():
            expected, found = _heatmaps(model, images), other(images)
        differences.append(((found - expected).abs().max() / expected.abs().max()).item())
    if not all(difference <= LIMIT for difference in differences):  # a NaN is not
        shares = " and ".join(f"{difference:.2g}" for difference in differences)
        raise RuntimeError(f"its heatmaps differ from the model's by {shares} of their largest value; it is not kept")
    return max(differences)


def input_size(model: BaseModel) -> tuple[int, int]:
    """Width and height of the images that the config's pipeline makes.

    Raises:
        ValueError: if there is none, or no step of it has an ``input_size``.
    """
    for step in inference_pipeline(model.cfg):
        if "input_size" in step:
            width, height = step["input_size"]
            return int(width), int(height)
    raise ValueError("no step of the pipeline of test_dataloader.dataset has an input_size")


def _images(model: BaseModel, count: int) -> Tensor:
    width, height = input_size(model)
    return 255 * torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(count))


def _heatmaps(model: BaseModel, images: Tensor) -> Tensor:
    """The heatmaps of MMPose's own preprocessor and modules, which are given BGR as from its image loader."""
    samples = [PoseDataSample() for _ in images]
    inputs = model.data_preprocessor({"inputs": list(images.flip(1)), "data_samples": samples})["inputs"]
    heatmaps = model.head(model.extract_feat(inputs))
    return heatmaps[-1] if isinstance(heatmaps, list) else heatmaps


def _metadata(model: BaseModel) -> dict[str, str]:
    return {**export_metadata(model), **PIXELS.to_metadata(), "size": ",".join(map(str, input_size(model)[::-1]))}


@contextmanager
def _exporting(what: str) -> Iterator[None]:
    """Silence the exporter, and turn its errors into one line."""
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (OSError, KeyboardInterrupt):
        raise
    except Exception as error:  # PyTorch's exporters raise nearly anything
        text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise RuntimeError(f"{what} does not work for this model: {text}") from error
    finally:
        logging.disable(logging.NOTSET)
