"""Lightning around a recipe: checkpoints, resume, progress."""

from __future__ import annotations

import json
import logging
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.data import DataLoader, IterableDataset

from melody.errors import MelodyError
from melody.training.recipe import Recipe

CHECKPOINT_EVERY_S = 60.0


class _Steps(IterableDataset[int]):
    """The numbers of the steps that are left: a recipe draws its batch from the number."""

    def __init__(self, first: int, total: int) -> None:
        self.first, self.total = first, total

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.total))


class _Keeper(L.Callback):
    """Keeps the last good checkpoint: a new one replaces it only when it is whole."""

    def __init__(self, path: Path, every_s: float) -> None:
        self.path, self.every_s = path, every_s
        self.last = time.monotonic()

    def on_train_batch_start(self, trainer: L.Trainer, recipe: L.LightningModule, *_: Any) -> None:
        # At the start of a step all of the step before is done, its count and its moving average too.
        if time.monotonic() - self.last >= self.every_s:
            self.save(trainer)

    def on_train_end(self, trainer: L.Trainer, recipe: L.LightningModule) -> None:
        self.save(trainer)

    def save(self, trainer: L.Trainer) -> None:
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            trainer.save_checkpoint(temporary, weights_only=False)  # with the optimiser's state
            os.replace(temporary, self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise MelodyError(
                f"cannot write checkpoint {self.path}: {error.strerror}; the last good one stays"
            ) from None
        self.last = time.monotonic()


class _OnePass(L.Callback):
    """Ends after one pass over the steps that are left, however many passes a resumed run has behind it."""

    def on_train_epoch_end(self, trainer: L.Trainer, recipe: L.LightningModule) -> None:
        trainer.should_stop = True


class _Bar(L.Callback):
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
        self.progress = Progress(*columns, refresh_per_second=2)
        self.task = self.progress.add_task(title, total=total, losses="")

    def on_train_start(self, trainer: L.Trainer, recipe: L.LightningModule) -> None:
        self.progress.start()

    def on_train_batch_end(self, trainer: L.Trainer, recipe: Any, *_: Any) -> None:
        losses = "  ".join(f"{name} {value:.4g}" for name, value in recipe.history[-1].items() if name != "step")
        self.progress.update(self.task, completed=int(recipe.completed) + 1, losses=losses)

    def teardown(self, trainer: L.Trainer, recipe: L.LightningModule, stage: str) -> None:
        self.progress.stop()


class _History(L.Callback):
    """Appends each step's losses and seconds to a JSON-lines file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = time.perf_counter()

    def on_train_start(self, trainer: L.Trainer, recipe: L.LightningModule) -> None:
        self.last = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, recipe: Any, *_: Any) -> None:
        now = time.perf_counter()
        row = {**recipe.history[-1], "seconds": round(now - self.last, 4)}
        self.last = now
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def fit(recipe: Recipe, folder: Path, *, title: str, accelerator: str = "cpu", stop_after: int | None = None) -> None:
    """Run a recipe to its end, from its last checkpoint in ``folder`` if there is one.

    Args:
        stop_after: end early, after so many steps in all, as a killed run would; a second call goes on.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # not its tips
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "last.ckpt"
    first = _completed(checkpoint) if checkpoint.is_file() else 0
    total = recipe.settings.steps if stop_after is None else min(recipe.settings.steps, stop_after)
    callbacks = [
        _Keeper(checkpoint, CHECKPOINT_EVERY_S),
        _OnePass(),
        _History(folder / "history.jsonl"),
        _Bar(title, recipe.settings.steps),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning warns that an iterable loader has no length and few workers
        trainer = L.Trainer(
            accelerator=accelerator,
            devices=1,
            max_epochs=-1,
            gradient_clip_val=recipe.settings.gradient_clip if recipe.automatic_optimization else None,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        loader = DataLoader(_Steps(first, total), batch_size=None)
        try:
            # weights_only: a checkpoint is tensors and plain values, so nothing in it is executed.
            trainer.fit(recipe, loader, ckpt_path=str(checkpoint) if first else None, weights_only=True)
        except SystemExit:  # Lightning's own end after Ctrl-C
            raise KeyboardInterrupt from None


def _completed(checkpoint: Path) -> int:
    try:
        return int(torch.load(checkpoint, weights_only=True, map_location="cpu")["state_dict"]["completed"])
    except Exception as error:  # a damaged archive fails in many ways; all mean the same to the user
        raise MelodyError(
            f"checkpoint {checkpoint} cannot be read ({type(error).__name__}); delete it to begin again"
        ) from None
