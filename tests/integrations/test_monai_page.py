"""docs/monai.md, executed and checked; in a process of its own, since importing MONAI changes what torch.load reads."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "monai.md").read_text()
ROWS = re.findall(r"^\| `(\w+)`.*? \| `([\w.]+)` \| (.*) \|$", PAGE, re.MULTILINE)
STAGES = """
import json
from monai.networks import nets

three = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2}
small = {"patch_size": 16, "hidden_size": 24, "mlp_dim": 24, "num_heads": 2}
fours = {"kernel_size": [3] * 4, "strides": [1, 2, 2, 2], "upsample_kernel_size": [2] * 3, "filters": [4, 8, 16, 32]}
made = {
    "UNet": lambda: nets.UNet(channels=(4, 8, 16, 32), strides=(2, 2, 2), **three),
    "SegResNet": lambda: nets.SegResNet(init_filters=8, **three),
    "DynUNet": lambda: nets.DynUNet(**fours, **three),
    "SwinUNETR": lambda: nets.SwinUNETR(feature_size=12, **three),
    "BasicUNet": lambda: nets.BasicUNet(features=(4, 4, 8, 16, 32, 4), **three),
    "VNet": lambda: nets.VNet(**three),
    "DenseNet121": lambda: nets.DenseNet121(**three),
    "resnet18": lambda: nets.resnet18(spatial_dims=3, n_input_channels=1, num_classes=2),
    "ViT": lambda: nets.ViT(in_channels=1, img_size=64, **small),
}
found = {}
for name, make in made.items():
    network = make()
    try:
        last = xr.find_stages(network)[-1]
    except ValueError:
        last = "none"
    usable = {tap.path: tap.shape for tap in xr.list_taps(network, torch.zeros(1, 1, 64, 64, 64)) if not tap.reason}
    found[name] = last, usable
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def said() -> list[str]:
    """What the page's code prints, and then the stages of the networks in its table."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    command = [sys.executable, "-W", "ignore", "-c", code + STAGES]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def test_code_runs_and_the_term_is_balanced(said: list[str]) -> None:
    assert next(line for line in said if line.startswith("ctd_ed:")).partition("(ratio")[0] in PAGE
    (ratio,) = re.findall(r"'ratio/ctd_ed': ([\d.e-]+)", "\n".join(said))
    assert float(ratio) > 0


def test_the_table(said: list[str]) -> None:
    found = json.loads(said[-1])
    assert found.keys() == {name for name, _, _ in ROWS}
    for name, path, is_found in ROWS:
        last, usable = found[name]
        assert path in usable, name
        named = re.search(r"`(\w+)`", is_found)
        assert last == (path if is_found == "yes" else named[1] if named else "none"), name
        if is_found != "yes":  # it is the deepest map
            sides = [shape[2] for shape in usable.values() if shape and len(shape) == 5]
            assert usable[path][2] == min(sides), name
