"""Lightning around a recipe: its trainer, and going on from a checkpoint."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader, IterableDataset

from melody.errors import MelodyError
from melody.training.board import TensorBoardCallback
from melody.training.callbacks import CheckpointCallback, History, ProgressCallback, StopAfterPass, WholeCheckpoints
from melody.training.hardware import Hardware
from melody.training.recipe import Recipe

CHECKPOINT_EVERY_S = 60.0


class _Positions(IterableDataset[int]):
    """Numbers of the passes that are left, ``passes_per_step`` a step: a recipe draws its batch from the number."""

    def __init__(self, first: int, total: int) -> None:
        self.first, self.total = first, total

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.total))


def fit(
    recipe: Recipe, folder: Path, *, title: str, hardware: Hardware | None = None, stop_after: int | None = None
) -> None:
    """Run a recipe to its end, from its last checkpoint in ``folder`` if there is one.

    Args:
        stop_after: end early, after so many steps in all, as a killed run would; a second call goes on.

    Raises:
        MelodyError: a batch that the processes cannot share evenly, 16-mixed without a GPU, losses or gradients that
            are not finite, an unreadable checkpoint, a full disk.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # not its tips
    hardware = hardware or Hardware()
    if recipe.settings.precision == "16-mixed" and not hardware.on_gpu:  # Lightning would take bfloat16 in silence
        raise MelodyError("precision '16-mixed' needs a GPU; expected 32-true or bf16-mixed on CPUs")
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "last.ckpt"
    first = _completed(checkpoint) if checkpoint.is_file() else 0
    settings, passes = recipe.settings, recipe.passes_per_step
    total = settings.steps if stop_after is None else min(settings.steps, stop_after)
    callbacks: list[L.Callback] = [
        CheckpointCallback(checkpoint, CHECKPOINT_EVERY_S),
        StopAfterPass(),
        History(folder / "history.jsonl"),
        ProgressCallback(title, settings.steps),
    ]
    if settings.validate_every:
        callbacks.append(_board(recipe, folder, hardware))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning warns that an iterable loader has no length and few workers
        trainer = _trainer(recipe, folder, hardware, callbacks)
        _check_shares(settings.batch_size, trainer.world_size, settings.accumulate)
        whole = copy.deepcopy((recipe.part, recipe.average)) if hardware.sharded else None  # FSDP takes them apart
        loader = DataLoader(_Positions(first * passes, total * passes), batch_size=None)
        try:
            # weights_only: a checkpoint is tensors and plain values, so nothing in it is executed.
            trainer.fit(recipe, loader, ckpt_path=str(checkpoint) if first else None, weights_only=True)
        except SystemExit:  # Lightning's own end after Ctrl-C
            raise KeyboardInterrupt from None
    if whole is not None:
        recipe.part, recipe.average = whole
        recipe.load_state_dict(torch.load(checkpoint, weights_only=True, map_location="cpu")["state_dict"])
    recipe.to(hardware.device)  # Lightning leaves it on the CPU


def _board(recipe: Recipe, folder: Path, hardware: Hardware) -> TensorBoardCallback:
    if hardware.sharded and recipe.average is None:
        raise MelodyError(
            "validation while FSDP trains looks at the moving average: set ema_decay, or validate_every 0"
        )
    return TensorBoardCallback(folder / "tensorboard", recipe.settings.validate_every)


def _trainer(recipe: Recipe, folder: Path, hardware: Hardware, callbacks: list[L.Callback]) -> L.Trainer:
    flags = hardware.flags(recipe)
    try:
        trainer = _built(recipe, folder, flags, callbacks)
        for environment in (TorchElasticEnvironment(), SLURMEnvironment()):
            if environment.detect():  # else each of its processes would train alone, into the same folder
                environment.validate_settings(trainer.num_devices, trainer.num_nodes)
    except (MisconfigurationException, ValueError) as error:
        raise MelodyError(f"devices, nodes and strategy do not fit what is here: {error}") from None
    return trainer


def _built(recipe: Recipe, folder: Path, flags: dict[str, Any], callbacks: list[L.Callback]) -> L.Trainer:
    return L.Trainer(
        **flags,
        precision=recipe.settings.precision,
        accumulate_grad_batches=recipe.passes_per_step,
        max_epochs=-1,
        gradient_clip_val=recipe.settings.gradient_clip if recipe.automatic_optimization else None,
        callbacks=callbacks,
        plugins=[WholeCheckpoints()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,  # a recipe draws its own share
        default_root_dir=folder,
    )


def _check_shares(batch_size: int, processes: int, accumulate: int) -> None:
    if batch_size % (processes * accumulate):
        raise MelodyError(
            f"batch_size {batch_size} cannot be shared evenly by {processes} processes in {accumulate} parts each; "
            f"expected a multiple of {processes * accumulate}"
        )


def _completed(checkpoint: Path) -> int:
    try:
        return int(torch.load(checkpoint, weights_only=True, map_location="cpu")["state_dict"]["completed"])
    except Exception as error:  # a damaged archive fails in many ways; all mean the same to the user
        raise MelodyError(
            f"checkpoint {checkpoint} cannot be read ({type(error).__name__}); delete it to begin again"
        ) from None
