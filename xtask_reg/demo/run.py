"""The whole demonstration: data, source network, four ways to fine-tune, table and pictures."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import xtask_reg.integrations.mmpose.compat  # noqa: F401  (before any import of mmpose)
from xtask_reg.data import synthetic
from xtask_reg.demo.report import write_qualitative, write_report
from xtask_reg.demo.source import train_source
from xtask_reg.demo.training import run_tool
from xtask_reg.integrations.mmpose.paths import configs

METHODS = {"FT": "ft", "CTD-CD": "ctd-cd", "CTD-ED": "ctd-ed", "CTD-Com": "ctd-com"}
SIZE = 128
SOURCE_PEOPLE, SOURCE_IMAGES, SOURCE_EPOCHS = 40, 20, 8
LANDMARK_PEOPLE = {"train": range(1000, 1040), "val": range(2000, 2020), "test": range(3000, 3100)}


@dataclass
class Demo:
    """One folder with everything that the demonstration makes; what is there already and still fits is used again."""

    out: Path
    epochs: int
    console: Console

    def run(self) -> None:
        """Make all of it, and print the table."""
        start = time.monotonic()
        self.out.mkdir(parents=True, exist_ok=True)
        with Progress(
            TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("{task.fields[state]}"), console=self.console,
        ) as progress:  # fmt: skip
            self.progress = progress
            self._make_data()
            accuracy = self._train_source()
            seconds = {method: self._train(method) for method in METHODS}
        predictions = {method: self._folder(method) / "predictions.json" for method in METHODS}
        facts = {"source_accuracy": accuracy, "epochs": self.epochs, "image_size": SIZE}
        facts |= {f"{split}_images": len(people) for split, people in LANDMARK_PEOPLE.items()}
        text = write_report(self.out, predictions, seconds, facts)
        models = {method: (str(self._config(method)), self._checkpoint(method)) for method in METHODS}
        write_qualitative(self.out, models, predictions["FT"])
        self.console.print(Markdown(text))
        self.console.print(
            f"The source tells {SOURCE_PEOPLE} synthetic people apart in {accuracy:.0%} of held-out images.\n"
            f"Pictures: {self.out / 'ced.png'}, {self.out / 'qualitative.png'}; numbers: {self.out / 'results.json'}\n"
            f"{time.monotonic() - start:.0f} s in all."
        )

    def _make_data(self) -> None:
        bar = self.progress.add_task("synthetic faces", total=1 + len(LANDMARK_PEOPLE), state="")
        if self._start("identities", [SOURCE_PEOPLE, SOURCE_IMAGES, SIZE]):
            synthetic.write_identity_set(self.out / "identities", range(SOURCE_PEOPLE), SOURCE_IMAGES, SIZE)
            self._finish("identities")
        self.progress.advance(bar)
        facts = [*map(str, LANDMARK_PEOPLE.values()), SIZE]
        new = self._start("landmarks", facts)
        for split, people in LANDMARK_PEOPLE.items():
            if new:
                synthetic.write_landmark_set(self.out / "landmarks", people, 1, SIZE, split=split)
            self.progress.advance(bar)
        self._finish("landmarks")

    def _train_source(self) -> float:
        from mmengine.config import Config

        import xtask_reg.integrations.mmpose  # noqa: F401
        from mmengine.registry import init_default_scope

        bar = self.progress.add_task("source network", total=SOURCE_EPOCHS, state="")
        config = Config.fromfile(self._config("CTD-Com"))
        if self._start("source", [config.model.teacher.to_dict(), SOURCE_EPOCHS, self._fingerprint("identities")]):
            init_default_scope("mmpose")

            def report(loss: float) -> None:
                self.progress.update(bar, advance=1, state=f"loss {loss:.2f}")

            score = train_source(
                self.out / "identities" / "identities.csv", self.out / "source" / "source.safetensors", config.model,
                held_out=5, epochs=SOURCE_EPOCHS, progress=report,
            )  # fmt: skip
            self._finish("source", score)
        self.progress.update(bar, completed=SOURCE_EPOCHS)
        return self._result("source")

    def _train(self, method: str) -> float:
        from mmengine.config import Config

        bar = self.progress.add_task(f"{method}: tools/train.py", total=self.epochs, state="")
        folder = self._folder(method)
        options = self._options()
        facts = [Config.fromfile(self._config(method)).pretty_text, options, self._fingerprint("source")]
        if self._start(folder.name, [*facts, self._fingerprint("landmarks")]):
            start = time.monotonic()
            run_tool(
                "train", [str(self._config(method)), "--work-dir", str(folder), "--resume"], options,
                folder / "train.txt", lambda epoch: self.progress.update(bar, completed=epoch),
            )  # fmt: skip
            seconds = time.monotonic() - start
            self.progress.update(bar, state="tools/test.py")
            outfile = {"test_evaluator.outfile": folder / "predictions.json"}
            run_tool(
                "test", [str(self._config(method)), str(self._checkpoint(method)), "--work-dir", str(folder)],
                {**options, **outfile}, folder / "test.txt", lambda epoch: None,
            )  # fmt: skip
            self._finish(folder.name, seconds)
        self.progress.update(bar, completed=self.epochs, state="")
        return self._result(folder.name)

    def _options(self) -> dict[str, Any]:
        """What each run is told beyond its config."""
        source = self.out / "source" / "source.safetensors"
        data = {f"{split}_dataloader.dataset.data_root": self.out / "landmarks" for split in LANDMARK_PEOPLE}
        sources = {"model.backbone.init_cfg.checkpoint": source, "model.teacher.checkpoint": source}
        return {**data, **sources, "train_cfg.max_epochs": self.epochs}

    def _config(self, method: str) -> Path:
        return configs() / "demo" / f"td-hm_res18_{METHODS[method]}_synthetic-128x128.py"

    def _folder(self, method: str) -> Path:
        return self.out / METHODS[method]

    def _checkpoint(self, method: str) -> Path:
        return self._folder(method) / f"epoch_{self.epochs}.pth"

    # What a folder was made from, and its result once it is complete, stand beside it.

    def _start(self, name: str, facts: Any) -> bool:
        """Whether the folder has to be made; one that was made from other facts is deleted first."""
        made_from = hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()
        if made_from != self._fingerprint(name):
            shutil.rmtree(self.out / name, ignore_errors=True)
            (self.out / name).mkdir()
            (self.out / name / "made_from.json").write_text(json.dumps(made_from))
        return not (self.out / name / "result.json").exists()

    def _fingerprint(self, name: str) -> str | None:
        path = self.out / name / "made_from.json"
        return json.loads(path.read_text()) if path.exists() else None

    def _finish(self, name: str, result: Any = None) -> None:
        (self.out / name / "result.json").write_text(json.dumps(result))

    def _result(self, name: str) -> Any:
        return json.loads((self.out / name / "result.json").read_text())


def run_demo(out: Path, epochs: int = 30) -> None:
    """Run the demonstration into the folder ``out``."""
    Demo(out, epochs, Console()).run()
