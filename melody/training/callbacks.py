"""What happens beside the steps: checkpoints, history, progress."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from melody.artifacts.files import write_bytes
from melody.errors import MelodyError
from melody.progress import PlainProgress
from melody.training.shares import is_main


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all: the one before stays until the new one is on the disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        try:
            write_bytes(Path(path), buffer.getbuffer())
        except MelodyError as error:
            raise MelodyError(f"{error}; the last good checkpoint stays") from None


class CheckpointCallback(L.Callback):
    """Keeps the last checkpoint, every so many seconds of the main process and at the end."""

    def __init__(self, path: Path, every_s: float) -> None:
        self.path, self.every_s = path, every_s
        self.last = time.monotonic()

    def on_train_batch_start(self, trainer: L.Trainer, recipe: Any, position: int, *_: Any) -> None:
        # At the start of a step all of the step before is done, its count and its moving average too.
        if position % recipe.passes_per_step:
            return
        due = time.monotonic() - self.last >= self.every_s
        if trainer.world_size > 1:  # a checkpoint is an act of all processes
            due = trainer.strategy.broadcast(due)
        if due:
            self.save(trainer)

    def on_train_end(self, trainer: L.Trainer, recipe: L.LightningModule) -> None:
        self.save(trainer)

    def save(self, trainer: L.Trainer) -> None:
        """Write it; where the main process cannot, ``MelodyError`` in all of them."""
        failure = ""
        try:
            trainer.save_checkpoint(self.path, weights_only=False)  # with the optimiser's state
        except MelodyError as error:
            failure = str(error)
            trainer.strategy.barrier()  # where the others wait after a checkpoint
        failure = trainer.strategy.broadcast(failure)
        if failure:
            raise MelodyError(failure)
        self.last = time.monotonic()


class StopAfterPass(L.Callback):
    """Ends after one pass over the steps that are left, however many passes a resumed run has behind it."""

    def on_train_epoch_end(self, trainer: L.Trainer, recipe: L.LightningModule) -> None:
        trainer.should_stop = True


class ProgressCallback(L.Callback):
    """Progress with an ETA, and the losses of the last step."""

    def __init__(self, title: str, total: int) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
        )
        bar = Progress(*columns, refresh_per_second=2)
        self.progress = bar if bar.console.is_terminal else PlainProgress(Console(stderr=True))
        self.task = self.progress.add_task(title, total=total, losses="")

    def on_train_start(self, trainer: L.Trainer, recipe: L.LightningModule) -> None:
        if is_main():
            self.progress.start()

    def on_train_batch_end(self, trainer: L.Trainer, recipe: Any, outputs: Any, position: int, *_: Any) -> None:
        if not recipe.ends_step(position):
            return
        losses = "  ".join(f"{name} {value:.4g}" for name, value in recipe.history[-1].items() if name != "step")
        self.progress.update(self.task, completed=int(recipe.completed) + 1, losses=losses)

    def teardown(self, trainer: L.Trainer, recipe: L.LightningModule, stage: str) -> None:
        self.progress.stop()


class History(L.Callback):
    """Appends each step's losses and seconds to a JSON-lines file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = time.perf_counter()

    def on_train_start(self, trainer: L.Trainer, recipe: L.LightningModule) -> None:
        self.last = time.perf_counter()
        if is_main() and self.path.is_file():  # a full disk, or a fall of the machine, may have torn the last line
            os.truncate(self.path, self.path.read_bytes().rfind(b"\n") + 1)

    def on_train_batch_end(self, trainer: L.Trainer, recipe: Any, outputs: Any, position: int, *_: Any) -> None:
        if not is_main() or not recipe.ends_step(position):
            return
        now = time.perf_counter()
        row = {**recipe.history[-1], "seconds": round(now - self.last, 4)}
        self.last = now
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
