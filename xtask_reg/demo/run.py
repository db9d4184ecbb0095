"""The whole demonstration: data, source network, several ways to fine-tune, table and pictures."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from xtask_reg.data import synthetic
from xtask_reg.demo.report import write_qualitative, write_report
from xtask_reg.demo.source import train_source
from xtask_reg.demo.stages import Stage
from xtask_reg.integrations.mmpose.tools import read_config, train_and_test
from xtask_reg.integrations.mmpose_files import configs
from xtask_reg.landmarks.predictions import read_predictions

METHODS = ("FT", "CTD-CD", "CTD-ED", "CTD-Com")
SIZE = 128
SOURCE_PEOPLE, SOURCE_IMAGES, SOURCE_EPOCHS = 40, 20, 8
LANDMARK_PEOPLE = {"train": range(1000, 1040), "val": range(2000, 2020), "test": range(3000, 3100)}


class Demo:
    """One folder with everything that the demonstration makes; results that are up to date are reused.

    Args:
        out: the folder.
        epochs: training epochs of each method.
        console: where progress and result are printed.
        methods: the methods to compare; each has a config in ``configs/mmpose/demo``.
    """

    def __init__(self, out: Path, epochs: int, console: Console, methods: Sequence[str] = METHODS) -> None:
        self.out = out
        self.epochs = epochs
        self.methods = methods
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[state]}"),
            console=console,
        )

    def run(self) -> None:
        """Make everything, and print the table."""
        start = time.monotonic()
        with self.progress:
            identities, landmarks = self._make_data()
            source = self._train_source(identities)
            with ThreadPoolExecutor(self._at_once) as pool:
                try:
                    stages = list(pool.map(lambda method: self._train(method, [source, landmarks]), self.methods))
                except BaseException:  # Ctrl-C above all, which ends the running tools
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
        trained = dict(zip(self.methods, stages))
        text = self._report(trained, source.result)
        self.console.print(Markdown(text))
        self.console.print(f"Pictures: {self.out / 'ced.png'}, {self.out / 'qualitative.png'}")
        self.console.print(f"Numbers: {self.out / 'results.json'}; {time.monotonic() - start:.0f} s in all")

    @property
    def _at_once(self) -> int:
        """How many methods train at the same time, sharing the cores."""
        return min(os.cpu_count() or 1, len(self.methods))

    def _make_data(self) -> tuple[Stage, Stage]:
        bar = self.progress.add_task("synthetic faces", total=1 + len(LANDMARK_PEOPLE), state="")
        identities = Stage(self.out / "identities", [SOURCE_PEOPLE, SOURCE_IMAGES, SIZE])
        if not identities.complete:
            synthetic.write_identity_set(identities.folder, range(SOURCE_PEOPLE), SOURCE_IMAGES, SIZE)
            identities.finish()
        self.progress.advance(bar)
        landmarks = Stage(self.out / "landmarks", [LANDMARK_PEOPLE, SIZE])
        for split, people in LANDMARK_PEOPLE.items():
            if not landmarks.complete:
                synthetic.write_landmark_set(landmarks.folder, people, 1, SIZE, split=split)
            self.progress.advance(bar)
        landmarks.finish()
        return identities, landmarks

    def _train_source(self, identities: Stage) -> Stage:
        model = read_config(_config_file("CTD-Com")).model
        bar = self.progress.add_task("source network", total=SOURCE_EPOCHS, state="")
        networks = [model.backbone.to_dict(), model.teacher.to_dict()]
        stage = Stage(self.out / "source", [networks, SOURCE_EPOCHS, identities.fingerprint])

        def report(loss: float) -> None:
            self.progress.update(bar, advance=1, state=f"loss {loss:.2f}")

        if not stage.complete:
            table, out = identities.folder / "identities.csv", stage.folder / "source.safetensors"
            stage.finish(train_source(table, out, model, held_out=5, epochs=SOURCE_EPOCHS, progress=report))
        self.progress.update(bar, completed=SOURCE_EPOCHS, state=f"recognizes {stage.result:.0%} of held-out images")
        return stage

    def _train(self, method: str, made_from: list[Stage]) -> Stage:
        bar = self.progress.add_task(f"{method}: tools/train.py", total=self.epochs, state="")
        config, options = _config_file(method), self._options(*made_from)
        facts = [self.epochs, read_config(config).pretty_text, options, *(stage.fingerprint for stage in made_from)]
        stage = Stage(self.out / method.lower(), facts)
        if not stage.complete:
            threads = max(1, (os.cpu_count() or 1) // self._at_once)

            def report(epoch: int) -> None:
                self.progress.update(bar, completed=epoch, state="tools/test.py" if epoch == self.epochs else "")

            stage.finish(train_and_test(config, stage.folder, options, self.epochs, report, threads))
        self.progress.update(bar, completed=self.epochs, state="")
        return stage

    def _options(self, source: Stage, landmarks: Stage) -> dict[str, Any]:
        """The options of each run besides its config."""
        weights = source.folder / "source.safetensors"
        data = {f"{split}_dataloader.dataset.data_root": landmarks.folder for split in LANDMARK_PEOPLE}
        return {**data, "model.backbone.init_cfg.checkpoint": weights}

    def _report(self, trained: dict[str, Stage], source_accuracy: float) -> str:
        predictions = {method: read_predictions(stage.folder / "predictions.json") for method, stage in trained.items()}
        facts = {"source_accuracy": source_accuracy, "epochs": self.epochs, "image_size": SIZE}
        facts |= {f"{split}_images": len(people) for split, people in LANDMARK_PEOPLE.items()}
        seconds = {method: stage.result for method, stage in trained.items()}
        text = write_report(self.out, predictions, seconds, facts)
        last = f"epoch_{self.epochs}.pth"
        models = {method: (_config_file(method), stage.folder / last) for method, stage in trained.items()}
        write_qualitative(self.out, models, predictions["FT"])
        return text


def _config_file(method: str) -> Path:
    return configs() / "demo" / f"td-hm_res18_{method.lower()}_synthetic-128x128.py"
