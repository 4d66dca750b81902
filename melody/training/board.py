"""TensorBoard: losses and learning rate of every step; figures, sounds and spectrograms on held-out data now and then.

Nothing here changes what is trained: random states and modes are put back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from melody.data.corpus import SAMPLE_RATE
from melody.dsp.mel import LogMel
from melody.extras import need
from melody.training.shares import is_main

NUM_MELS = 80
N_FFT = 2048
HOP_LENGTH = 512


class TensorBoardCallback(L.Callback):
    """Writes ``folder`` for ``tensorboard --logdir``.

    Args:
        every: steps between figures on held-out data.
    """

    def __init__(self, folder: Path, every: int) -> None:
        need("tensorboard", "validation in TensorBoard")
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = None
        self.open = lambda step: SummaryWriter(str(folder), purge_step=step)
        self.every = every

    def on_train_start(self, trainer: L.Trainer, recipe: Any) -> None:
        if is_main():
            self.writer = self.open(int(recipe.completed))

    def on_train_batch_end(self, trainer: L.Trainer, recipe: Any, outputs: Any, position: int, *_: Any) -> None:
        if not is_main() or not recipe.ends_step(position):
            return
        row = recipe.history[-1]
        for name, value in row.items():
            if name != "step":
                self.writer.add_scalar(f"train/{name}", value, row["step"])
        self.writer.add_scalar("learning_rate", trainer.optimizers[0].param_groups[0]["lr"], row["step"])

    def on_train_batch_start(self, trainer: L.Trainer, recipe: Any, position: int, *_: Any) -> None:
        # At the start of a step the moving average of the step before is done.
        step = int(recipe.completed)
        if step and not step % self.every and not position % recipe.passes_per_step:
            self.validate(recipe, step)

    def on_train_end(self, trainer: L.Trainer, recipe: Any) -> None:
        self.validate(recipe, int(recipe.completed))

    def teardown(self, trainer: L.Trainer, recipe: L.LightningModule, stage: str) -> None:
        if self.writer is not None:
            self.writer.close()

    def validate(self, recipe: Any, step: int) -> None:
        """Figures and sounds after so many steps, by the main process; the others go on to the next step and wait."""
        if not is_main():
            return
        with _undisturbed(recipe.trained()):
            for name, value in recipe.interim().items():
                self.writer.add_scalar(f"held_out/{name}", value, step)
            for name, waveform in recipe.sounds().items():
                samples = waveform.detach().float().cpu().clamp(-1, 1)
                self.writer.add_audio(name, samples[None], step, sample_rate=SAMPLE_RATE)
                self.writer.add_image(f"{name}/spectrogram", picture(samples), step)
        self.writer.flush()


def picture(waveform: Tensor) -> Tensor:
    """Log-mel bands of ``(T,)`` as a grey picture ``(1, bands, frames)`` in [0, 1], low ones at the bottom."""
    whole = torch.nn.functional.pad(waveform, (0, -len(waveform) % HOP_LENGTH))
    bands = LogMel(SAMPLE_RATE, N_FFT, HOP_LENGTH, NUM_MELS)(whole[None])[0]  # (frames, bands)
    bands = bands - bands.min()
    scaled: Tensor = bands / bands.max().clamp_min(1e-6)
    return scaled.T.flip(0)[None]


@contextmanager
def _undisturbed(part: nn.Module) -> Iterator[None]:
    """Within it a part may be put into evaluation mode and random numbers may be drawn."""
    modes = [(module, module.training) for module in part.modules()]
    cuda = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=cuda):
        yield
    for module, mode in modes:
        module.training = mode
