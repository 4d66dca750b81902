"""What every stage shares: seeded batches, optimiser, schedule, moving average, history.

Batch and noise of a step are a pure function of (seed, step), so a run that was killed ends with the same weights as
one that was not. Where several processes train, or a batch is accumulated from parts, each part is a share of that
same batch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from melody.config import Stage
from melody.errors import MelodyError
from melody.tensor_names import installed_names, own_names
from melody.training.nonfinite import keep_batch
from melody.training.sharding import Sharded, clip, whole_weights
from melody.training.shares import WHOLE, Share, mean_over_processes, rank, world_size

STEP_STRIDE = 1_000_003
SHARE_STRIDE = 1 << 40
"""Keeps the random streams of shares apart from those of all steps."""


def mean_over_rows(means: Sequence[Tensor], batches: Sequence[Tensor]) -> float:
    """The mean over all rows from each batch's mean: the last batch may have fewer rows."""
    rows = torch.tensor([len(batch) for batch in batches], dtype=torch.float64)
    values = torch.stack([mean.detach().double().cpu() for mean in means])
    return float((values * rows).sum() / rows.sum())


class Recipe(L.LightningModule):
    """One stage: the part that it trains, its batches and its losses.

    A recipe implements ``batch(step, share)`` and ``losses(batch)``; the entry ``loss`` is what is minimised.
    """

    completed: Tensor

    def __init__(self, part: nn.Module, settings: Stage) -> None:
        super().__init__()
        self.part = part
        self.settings = settings
        installed_names(part)  # raises now where a checkpoint could not be written
        self.average = copy.deepcopy(part).requires_grad_(False) if settings.ema_decay else None
        self.register_buffer("completed", torch.zeros((), dtype=torch.int64))
        self.history: list[dict[str, float]] = []
        self._parts: list[dict[str, float]] = []
        # Told by name, for in shards every parameter is flat.
        self.matrices = {name for name, p in part.named_parameters() if p.ndim >= 2}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Give the tensors our names, so that another release of the library that holds them can go on."""
        checkpoint["state_dict"] = own_names(self, checkpoint["state_dict"])

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        mine = {name: state_dict.pop(name) for name in [*state_dict] if name.startswith(prefix)}
        named = own_names(self, {name.removeprefix(prefix): tensor for name, tensor in mine.items()})
        installed = installed_names(self)
        state_dict.update({prefix + installed.get(name, name): tensor for name, tensor in named.items()})
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def batch(self, step: int, share: Share = WHOLE) -> Any:
        """The share of a step's batch, from ``self.generator(step)`` alone."""
        raise NotImplementedError

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Scalars by name; ``loss`` is minimised, the others are recorded."""
        raise NotImplementedError

    def validate(self) -> dict[str, float]:
        """Figures on held-out data with the weights that will be exported."""
        raise NotImplementedError

    def interim(self) -> dict[str, float]:
        """Figures on held-out data while training goes on: ``validate``'s, unless some need a finished part."""
        return self.validate()

    def sounds(self) -> dict[str, Tensor]:
        """Held-out sounds by name, mono ``(T,)``, for the eye and the ear while training goes on."""
        return {}

    def trained(self) -> nn.Module:
        """The part as exported: its moving average where there is one."""
        return self.average if self.average is not None else self.part

    def generator(self, step: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.settings.seed * STEP_STRIDE + step)

    @property
    def passes_per_step(self) -> int:
        """How many times the loader is asked in a step; by hand, a recipe runs through the parts of a batch itself."""
        return self.settings.accumulate if self.automatic_optimization else 1

    def ends_step(self, position: int) -> bool:
        """Whether the weights have moved after this pass, of all that the loader counts."""
        return (position + 1) % self.passes_per_step == 0

    def share(self, part: int) -> Share:
        """This process's share, for one part of an accumulated batch."""
        accumulate = self.settings.accumulate
        return Share(rank() * accumulate + part, world_size() * accumulate)

    def whole_share(self) -> Share:
        """This process's share of a step's batch, all its parts."""
        return Share(rank(), world_size())

    def training_step(self, position: int, batch_index: int) -> Tensor:
        step, part = divmod(position, self.passes_per_step)
        share = self.share(part)
        torch.manual_seed(self.settings.seed * STEP_STRIDE + step + SHARE_STRIDE * share.index)
        batch = self.batch(step, share)
        losses = self.losses(batch)
        self.check(step, losses, batch)
        if self.ends_step(position):
            self.record(step)
        return losses["loss"]

    def check(self, step: int, losses: dict[str, Tensor], batch: Any, part: int | None = None) -> None:
        """Note losses; where one is not finite, keep the batch and raise ``MelodyError`` in all processes.

        Args:
            part: of the batch, whose losses these complete; a further part if not given.
        """
        means = mean_over_processes(torch.stack([value.detach().float() for value in losses.values()]))
        values = dict(zip(losses, means.tolist(), strict=True))
        if part is None:
            self._parts.append(values)
        else:
            self._parts[part].update(values)
        for name, value in values.items():
            if not math.isfinite(value):
                self._stop(step, name, values, batch)

    def check_norm(self, norm: Tensor) -> None:
        """Raise as ``check`` does if a step's gradients are not finite, though its losses are: before it is made.

        With 16-mixed they are now and then, and the scaler of the losses leaves such a step out.
        """
        if self.settings.precision != "16-mixed" and not torch.isfinite(norm):
            step = int(self.completed)
            self._stop(step, "gradient norm", {"gradient norm": float(norm)}, self.batch(step, self.whole_share()))

    def _stop(self, step: int, name: str, values: dict[str, float], batch: Any) -> NoReturn:
        path = keep_batch(self._folder(), batch, step=step, seed=self.settings.seed, losses=values)
        raise MelodyError(
            f"{type(self).__name__}: {name} is {values[name]} at step {step}; its batch is kept in {path}, the last "
            "good checkpoint stays; lower the learning rate or look at the data"
        )

    def record(self, step: int) -> None:
        """Enter the step's losses, the mean over its parts, into the history."""
        names = self._parts[-1]
        means = {name: sum(part[name] for part in self._parts) / len(self._parts) for name in names}
        self._parts.clear()
        self.history.append({"step": step, **means})

    def _folder(self) -> Path:
        return Path(self.trainer.default_root_dir)

    def on_train_batch_end(self, outputs: Any, position: int, batch_index: int) -> None:
        if not self.ends_step(position):
            return
        self.completed += 1
        if self.average is None:
            return
        # A warm-up of the decay keeps the random start out of the average.
        decay = min(self.settings.ema_decay, (1 + int(self.completed)) / (10 + int(self.completed)))
        with torch.no_grad(), whole_weights(self.trainer.strategy):
            for average, weight in zip(self.average.parameters(), self.part.parameters(), strict=True):
                average.lerp_(weight, 1 - decay)
            for kept, buffer in zip(self.average.buffers(), self.part.buffers(), strict=True):
                kept.copy_(buffer)

    def configure_gradient_clipping(self, optimizer: Any, *values: Any, **named: Any) -> None:
        strategy, limit = self.trainer.strategy, self.settings.gradient_clip
        if isinstance(strategy, Sharded):
            norm = clip(strategy, limit)
        else:
            norm = clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], limit)
        self.check_norm(norm)

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.part)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.learning_rate_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def optimizer(self, module: nn.Module, betas: tuple[float, float] = (0.9, 0.98)) -> torch.optim.Optimizer:
        """AdamW (Table 5 and appendix E) with weight decay on matrices only."""
        trainable = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        groups = [
            {
                "params": [p for name, p in trainable if name in self.matrices or p.ndim >= 2],
                "weight_decay": self.settings.weight_decay,
            },
            {
                "params": [p for name, p in trainable if not (name in self.matrices or p.ndim >= 2)],
                "weight_decay": 0.0,
            },
        ]
        return torch.optim.AdamW([g for g in groups if g["params"]], lr=self.settings.learning_rate, betas=betas)

    def learning_rate_factor(self, step: int) -> float:
        """Linear warm-up, then half a cosine to zero; the same again after ``restart_at``."""
        settings = self.settings
        begin, end, restart = 0, settings.steps, settings.restart_at
        if restart is not None and restart < end:
            begin, end = (restart, end) if step > restart else (0, restart)
        step, steps = step - begin, end - begin
        if step < settings.warmup_steps:
            return (step + 1) / settings.warmup_steps
        progress = (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
