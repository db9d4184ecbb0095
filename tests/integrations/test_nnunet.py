"""The trainer of docs/nnunet.md in nnU-Net itself, where that is installed.

It needs another version of timm than this project's tests, so it has an environment of its own, with ``nnunetv2``,
pytest and this library: ``python -m pytest --noconftest -m slow tests/integrations/test_nnunet.py``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "nnunet.md").read_text()
TRAINER, RENAMING, _ = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
TRAIN = """
import copy, json, os
import torch
from torch.nn.functional import cosine_similarity
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

torch.set_num_threads(1)


def trained(configuration, name, weights=None, go_on=False, epochs=1):
    made = get_trainer_from_args("1", configuration, "all", name, "nnUNetPlans", go_on, torch.device("cpu"))
    made.num_iterations_per_epoch, made.num_val_iterations_per_epoch, made.num_epochs = 2, 1, epochs
    maybe_load_checkpoint(made, go_on, False, weights)
    made.run_training()
    return made


def gradients(network, loss):
    network.zero_grad()
    loss.backward()
    return torch.cat([each.grad.flatten() for each in network.parameters() if each.grad is not None])


found = {}
for configuration in ("2d", "3d_fullres"):
    source = trained(configuration, "nnUNetTrainer")
    os.environ["SOURCE"] = os.path.join(source.output_folder, "checkpoint_final.pth")
    trained(configuration, "KeepTrainer", weights=os.environ["SOURCE"])
    kept = trained(configuration, "KeepTrainer", go_on=True, epochs=2)
    batch = next(kept.dataloader_train)
    images, target, network = batch["data"], batch["target"], kept.network.train()
    loss = kept.loss(network(images), target)
    got = gradients(network, loss)
    with torch.no_grad():
        wanted = source.network.eval().encoder(images)[-1]
    maps = (network.encoder(images)[-1], wanted)
    cosines = cosine_similarity(*(each.flatten(1).double() for each in maps))
    by_hand = source.loss(network(images), target) + 0.5 * (1 - cosines).mean()
    expected = gradients(network, by_hand)
    error = (got - expected).norm() / expected.norm()
    found[configuration] = {
        "epochs": kept.current_epoch, "loss": loss.item(), "by hand": by_hand.item(), "error": error.item(),
        "term": (1 - cosines).mean().item(), "folder": kept.output_folder_base,
    }
print(json.dumps(found))
"""
PREDICT = """
import sys
import torch
sys.modules["xtask_reg"] = None  # not installed
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
predictor.initialize_from_trained_model_folder("..", ("all",))
print([*predictor.predict_sliding_window_return_logits(torch.randn(1, 24, 40, 36)).shape])
"""


def write_data(folder: Path) -> None:
    """Balls in noise, in nnU-Net's format."""
    import SimpleITK as sitk

    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    random = np.random.default_rng(0)
    for case in range(3):
        centre = random.integers(10, 14, (3, 1, 1, 1))
        labels = (((np.indices((24, 40, 36)) - centre) ** 2).sum(0) < 36).astype(np.uint8)
        image = (random.normal(size=labels.shape) + 2 * labels).astype(np.float32)
        sitk.WriteImage(sitk.GetImageFromArray(image), str(folder / "imagesTr" / f"case_{case}_0000.nii.gz"))
        sitk.WriteImage(sitk.GetImageFromArray(labels), str(folder / "labelsTr" / f"case_{case}.nii.gz"))
    about = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "ball": 1}, "numTraining": 3}
    (folder / "dataset.json").write_text(json.dumps({**about, "file_ending": ".nii.gz"}))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("nnunetv2") is None, reason="nnU-Net (nnunetv2) is not installed")
def test_nnunet_trains_and_predicts(tmp_path: Path) -> None:
    write_data(tmp_path / "raw" / "Dataset001_Balls")
    (tmp_path / "trainers").mkdir()
    (tmp_path / "trainers" / "keep.py").write_text(TRAINER.replace("xr.Balanced(0.1)", "0.5"))
    folders = {f"nnUNet_{name}": str(tmp_path / name) for name in ("raw", "preprocessed", "results")}
    alone = {**os.environ, **folders, "nnUNet_def_n_proc": "1", "nnUNet_n_proc_DA": "0"}

    def run(*command: str, cwd: Path = tmp_path, **others: str) -> str:
        ran = subprocess.run(command, cwd=cwd, env={**alone, **others}, check=True, stdout=subprocess.PIPE, text=True)
        return ran.stdout.splitlines()[-1]

    plan = Path(sys.executable).with_name("nnUNetv2_plan_and_preprocess")
    run(str(plan), *"-d 1 -c 2d 3d_fullres -np 1 -npfp 1".split(), nnUNet_n_proc_DA="1")  # planning refuses 0
    found = json.loads(run(sys.executable, "-c", TRAIN, nnUNet_extTrainer=str(tmp_path / "trainers")))
    for each in found.values():
        assert each["epochs"] == 2
        assert each["loss"] == pytest.approx(each["by hand"], rel=1e-5)
        assert each["error"] < 1e-4
        assert each["term"] > 1e-5
        where = Path(each["folder"]) / "fold_all"
        run(sys.executable, "-c", f"import torch\n{RENAMING}{PREDICT}", cwd=where)
