"""Checks of the images that landmark files name."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from xtask_reg.data.checks.finding import Finding
from xtask_reg.data.images import is_nearly_black, read_image
from xtask_reg.data.progress import track


def check_images(contents: Mapping[Path, dict[str, Any]], images: Path | None) -> Iterator[Finding]:
    """Findings about the images, each decoded completely; ``contents`` are the landmark files' by path."""
    entries = [(file, image) for file, content in contents.items() for image in content["images"]]
    alike: dict[bytes, list[tuple[Path, str]]] = defaultdict(list)
    dark: dict[Path, list[str]] = defaultdict(list)
    for file, image in track(entries, "looking at images"):
        name = image["file_name"]
        try:
            pixels = read_image((images or file.parent) / name)
        except (ValueError, OSError) as error:
            yield Finding("error", file, str(error))
            continue
        height, width = pixels.shape[:2]
        if (image["width"], image["height"]) != (width, height):
            said = f"{image['width']} x {image['height']}"
            yield Finding("error", file, f"{name} has {width} x {height} pixels; the file says {said}")
        if is_nearly_black(pixels):
            dark[file].append(name)
        alike[hashlib.sha256(f"{width} {height} ".encode() + pixels.tobytes()).digest()].append((file, name))
    for (file, name), *others in alike.values():
        for other, other_name in others:
            found = f"{name} has the same pixels as {other_name}"
            yield Finding("warning", file, found) if other == file else Finding("error", file, f"{found} of {other}")
    for file, names in dark.items():
        count = f"{len(names)} of {len(contents[file]['images'])} images"
        yield Finding("warning", file, f"nearly black: {count}, e.g. {names[0]}; 12-bit data in 16 bits?")
