"""``xtask-reg predict``."""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xtask_reg.cli.options import device, positive, positive_number

if TYPE_CHECKING:
    from torch import nn

    from xtask_reg.landmarks.faces import Face, LandmarkedFace


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "predict", help="find landmarks in photographs: CSV, COCO-style JSON, pictures, distances",
        description="Writes landmarks.csv, landmarks.json, and pictures of the points and heatmaps into a new folder.",
    )  # fmt: skip
    parser.add_argument("config", type=Path, metavar="CONFIG", help="the config of the run, as in its work folder")
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="checkpoint of that run; no teacher needed")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="image files, or folders of them")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; must not exist, or be empty")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--box", type=float, nargs=4, metavar=("LEFT", "TOP", "WIDTH", "HEIGHT"),
        help="where the face is in each image, in pixels (default: the whole image)",
    )  # fmt: skip
    where.add_argument(
        "--boxes", type=Path, metavar="FILE.csv",
        help="one face per line, any number per image; columns file, left, top, width, height",
    )  # fmt: skip
    parser.add_argument(
        "--distance", nargs="+", default=[], metavar="NAME=POINT:POINT",
        help="distances between landmarks for distances.csv, or a JSON file of them: {NAME: [POINT, POINT]}",
    )  # fmt: skip
    parser.add_argument("--mm-per-pixel", type=positive_number, metavar="MM", help="give distances in mm, not pixels")
    parser.add_argument("--batch-size", type=positive, default=16, help="faces per batch (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, or auto (default: %(default)s)")
    parser.add_argument("--no-pictures", action="store_true", help="leave out the pictures")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from xtask_reg.landmarks.distances import check_distances, parse_distances
    from xtask_reg.landmarks.face_files import check_image_names
    from xtask_reg.new_folder import new_folder

    pairs = parse_distances(options.distance)
    if options.mm_per_pixel and not pairs:
        raise ValueError("--mm-per-pixel applies to distances only: add --distance")
    where, faces = device(options.device), _faces(options)
    check_image_names((face.image for face in faces), options.out)

    from xtask_reg.integrations.mmpose.student import landmark_names, load_student

    model = load_student(options.config, options.checkpoint, where)
    names, flip = landmark_names(model)
    check_distances(pairs, names)
    with new_folder(options.out) as folder:
        found, seconds = _predict(model, faces, options.batch_size, None if options.no_pictures else folder)
        _write(folder, found, names, flip, options, pairs)
    _print(found, seconds, where, options)


def _faces(options: argparse.Namespace) -> list[Face]:
    from xtask_reg.data.faces import check_box, image_files, read_boxes
    from xtask_reg.landmarks.faces import Face

    images = image_files(options.images)
    if options.boxes:
        return read_boxes(options.boxes, images)
    box = check_box(options.box) if options.box else None
    return [Face(image, box) for image in images]


def _predict(
    model: nn.Module, faces: list[Face], batch_size: int, folder: Path | None
) -> tuple[list[LandmarkedFace], float]:
    """The predictions without heatmaps, and the seconds that they took without the pictures."""
    from xtask_reg.data.progress import track
    from xtask_reg.integrations.mmpose.predict import predict

    found: list[LandmarkedFace] = []
    seconds, start = 0.0, time.perf_counter()
    batches = predict(model, faces, batch_size)
    for batch in track(batches, "faces", total=-(-len(faces) // batch_size)):
        seconds += time.perf_counter() - start
        for face in batch:
            found.append(replace(face, heatmaps=None))
            if folder is not None:
                _draw(face, folder / "pictures" / _picture_name(len(found), face.image))
        start = time.perf_counter()
    return found, seconds


def _picture_name(number: int, image: Path) -> str:
    """A file name with as much of the image's name as fits into the 255 bytes that file systems allow."""
    return os.fsencode(f"{number:05d}_{image.stem}")[:250].decode(errors="ignore") + ".jpg"


def _draw(face: LandmarkedFace, file: Path) -> None:
    import cv2

    from xtask_reg.data.images import read_image
    from xtask_reg.landmarks.face_picture import face_picture

    file.parent.mkdir(exist_ok=True)
    picture = face_picture(face, read_image(face.image)[..., ::-1])
    file.write_bytes(cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes())


def _write(
    folder: Path, found: list[LandmarkedFace], names: list[str], flip: list[int], options: argparse.Namespace,
    pairs: dict[str, tuple[str, str]],
) -> None:  # fmt: skip
    from xtask_reg.landmarks.face_files import write_coco, write_csv, write_distances

    write_csv(folder / "landmarks.csv", found, names, options.out)
    write_coco(folder / "landmarks.json", found, names, flip, options.out)
    if pairs:
        write_distances(folder / "distances.csv", found, names, pairs, options.mm_per_pixel, options.out)


def _print(found: list[LandmarkedFace], seconds: float, where: str, options: argparse.Namespace) -> None:
    import numpy as np

    confidence = np.concatenate([face.confidence for face in found])
    low, middle, high = np.quantile(confidence, (0, 0.5, 1)).tolist()
    facts: dict[str, Any] = {
        "out": str(options.out),
        "files": sorted(path.name for path in options.out.iterdir()),
        "images": len({face.image for face in found}),
        "faces": len(found),
        "landmarks": len(found[0].points),
        "nearly_black": len({face.image for face in found if face.is_dark}),
        "confidence": {"lowest": low, "median": middle, "highest": high},
        "device": where,
        "batch_size": options.batch_size,
        "seconds": seconds,
        "faces_per_second": len(found) / seconds,
    }
    if options.json:
        print(json.dumps(facts))
        return
    print(f"{options.out}: {', '.join(facts['files'])}")
    print(f"  {facts['faces']} faces in {facts['images']} images, {facts['landmarks']} landmarks each")
    if facts["nearly_black"]:
        print(f"  nearly black images: {facts['nearly_black']}; 12-bit data in 16 bits? rescale them to 8 bits first")
    print(f"  confidence {low:.2f} to {high:.2f}, median {middle:.2f}")
    print(f"  {facts['faces_per_second']:.1f} images/s on {where}, including reading; batches of {options.batch_size}")
