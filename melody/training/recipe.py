"""What every stage shares: seeded batches, optimiser, schedule, moving average, history.

Batch and noise of a step are a pure function of (seed, step), so a run that was killed ends with the same weights as
one that was not.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from melody.config import Stage
from melody.errors import MelodyError

STEP_STRIDE = 1_000_003


class Recipe(L.LightningModule):
    """One stage: the part that it trains, its batches and its losses.

    A recipe implements ``batch(step)`` and ``losses(batch)``; the entry ``loss`` is what is minimised.
    """

    completed: Tensor

    def __init__(self, part: nn.Module, settings: Stage) -> None:
        super().__init__()
        self.part = part
        self.settings = settings
        self.average = copy.deepcopy(part).requires_grad_(False) if settings.ema_decay else None
        self.register_buffer("completed", torch.zeros((), dtype=torch.int64))
        self.history: list[dict[str, float]] = []

    def batch(self, step: int) -> Any:
        """The batch of a step, from ``self.generator(step)`` alone."""
        raise NotImplementedError

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Scalars by name; ``loss`` is minimised, the others are recorded."""
        raise NotImplementedError

    def validate(self) -> dict[str, float]:
        """Figures on held-out data with the weights that will be exported."""
        raise NotImplementedError

    def trained(self) -> nn.Module:
        """The part as exported: its moving average where there is one."""
        return self.average if self.average is not None else self.part

    def generator(self, step: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.settings.seed * STEP_STRIDE + step)

    def training_step(self, step: int, batch_index: int) -> Tensor:
        torch.manual_seed(self.settings.seed * STEP_STRIDE + step)
        losses = self.losses(self.batch(step))
        self.record(step, losses)
        return losses["loss"]

    def record(self, step: int, losses: dict[str, Tensor]) -> None:
        """Keep a step's losses; raises ``MelodyError`` when one is not finite."""
        values = {name: float(value.detach()) for name, value in losses.items()}
        for name, value in values.items():
            if not math.isfinite(value):
                raise MelodyError(
                    f"{type(self).__name__}: {name} is {value} at step {step}; "
                    "lower the learning rate or look at the data"
                )
        self.history.append({"step": step, **values})

    def on_train_batch_end(self, *_: Any) -> None:
        self.completed += 1
        if self.average is None:
            return
        # A warm-up of the decay keeps the random start out of the average.
        decay = min(self.settings.ema_decay, (1 + int(self.completed)) / (10 + int(self.completed)))
        with torch.no_grad():
            for average, weight in zip(self.average.parameters(), self.part.parameters(), strict=True):
                average.lerp_(weight, 1 - decay)
            for kept, buffer in zip(self.average.buffers(), self.part.buffers(), strict=True):
                kept.copy_(buffer)

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.part)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.learning_rate_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def optimizer(self, module: nn.Module, betas: tuple[float, float] = (0.9, 0.98)) -> torch.optim.Optimizer:
        """AdamW (section 5 of the paper's experiments) with weight decay on matrices only."""
        trainable = [p for p in module.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": self.settings.weight_decay},
            {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW([g for g in groups if g["params"]], lr=self.settings.learning_rate, betas=betas)

    def learning_rate_factor(self, step: int) -> float:
        """Linear warm-up, then half a cosine to zero."""
        settings = self.settings
        if step < settings.warmup_steps:
            return (step + 1) / settings.warmup_steps
        progress = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
