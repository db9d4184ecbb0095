"""``run.py <folder>``: read thousands of damaged weight files, in a separate process that may crash."""

from __future__ import annotations

import faulthandler
import json
import random
import resource
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import torch
import torchvision  # noqa: F401  (which import_vggface2 imports: no part of the time of the first file)
from files import ANYWHERE, STRUCTURE

from xtask_reg.sources import import_vggface2, load_metadata, load_numpy_pickle, load_weights

MEMORY = 512 * 2**20
SECONDS = 5


def read(kind: str, path: Path) -> dict[str, torch.Tensor]:
    if kind == "VGGFace2":
        import_vggface2(path, path.with_suffix(".safetensors"))
    if path.suffix == ".safetensors":
        load_metadata(path)
    return load_numpy_pickle(path) if path.suffix == ".pkl" else load_weights(path)


def check(weights: dict[str, torch.Tensor]) -> None:
    """The tensors are plain, within their memory, and can be read completely."""
    assert type(weights) is dict
    for name, value in weights.items():
        assert type(name) is str
        assert type(value) is torch.Tensor
        assert (value.device.type, value.layout, value.requires_grad) == ("cpu", torch.strided, False)
        last = value.storage_offset() + sum((n - 1) * step for n, step in zip(value.shape, value.stride()))
        assert value.numel() == 0 or 0 <= last < value.untyped_storage().nbytes() // value.itemsize
        bytes(value.contiguous().flatten().view(torch.uint8).numpy())


def outcome(kind: str, path: Path) -> str:
    try:
        check(read(kind, path))
    except (ValueError, FileNotFoundError) as error:
        if str(path) not in str(error):
            raise
        return "refused"
    return "loaded"


def main(folder: Path) -> None:
    marker, results = folder / "marker", {}
    for kind, (suffix, mutation, count) in {**STRUCTURE, **ANYWHERE}.items():
        chance, outcomes, memory = random.Random(kind), Counter[str](), peak()
        path = folder / f"{kind.replace(', ', '-')}{suffix}"  # the last one remains, for debugging
        for _ in range(count):
            path.write_bytes(mutation(chance, str(marker)))
            start = time.process_time()
            outcomes[outcome(kind, path)] += 1
            assert time.process_time() - start < SECONDS
            assert not marker.exists()
        results[kind] = {**outcomes, "megabytes": peak() - memory}
    print("RESULT" + json.dumps(results))


def peak() -> int:
    """The peak memory of the process, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


if __name__ == "__main__":
    faulthandler.enable()
    faulthandler.dump_traceback_later(120, exit=True)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    main(Path(sys.argv[1]))
