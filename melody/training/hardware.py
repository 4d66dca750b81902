"""What a run computes on, by Lightning's flags."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.strategies import StrategyRegistry

from melody.errors import MelodyError, did_you_mean
from melody.training.recipe import Recipe
from melody.training.sharding import Sharded

UNUSED = "ddp_find_unused_parameters_true"
"""Some parameters have no gradient in some steps: the discriminators before they begin, attention to dropped tokens."""


@dataclass(frozen=True)
class Hardware:
    """Lightning's flags of the same names. The batch of a step stays the preset's: processes share it."""

    accelerator: str = "cpu"
    devices: int | str = 1
    num_nodes: int = 1
    strategy: str = "auto"

    def __post_init__(self) -> None:
        _check_accelerator(self.accelerator)
        if self.devices != "auto" and not (str(self.devices).isdigit() and int(self.devices) > 0):
            raise MelodyError(f"devices is {self.devices!r}: expected a number from 1 on, or 'auto'")
        if self.num_nodes < 1:
            raise MelodyError(f"num_nodes is {self.num_nodes}: expected a number from 1 on")
        if self.strategy not in strategies():
            raise MelodyError(f"unknown strategy {self.strategy!r}{did_you_mean(self.strategy, strategies())}")

    @property
    def on_gpu(self) -> bool:
        return self.accelerator in ("gpu", "cuda") or (self.accelerator == "auto" and torch.cuda.is_available())

    @property
    def sharded(self) -> bool:
        """Whether the weights are spread over the processes."""
        return self.strategy.startswith("fsdp")

    @property
    def device(self) -> torch.device:
        """Where this process computes outside of Lightning's loop: features before it, figures after it."""
        if not self.on_gpu:
            return torch.device("cpu")
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", torch.cuda.current_device())))

    def flags(self, recipe: Recipe) -> dict[str, Any]:
        """Arguments of Lightning's ``Trainer`` for a recipe."""
        devices = self.devices if self.devices == "auto" else int(self.devices)
        several = devices != 1 or self.num_nodes > 1
        strategy: str | Sharded = self.strategy
        if strategy == "ddp" or (strategy == "auto" and several):
            strategy = UNUSED
        if self.sharded:
            if not recipe.automatic_optimization:
                raise MelodyError(
                    f"{type(recipe).__name__} has two optimisers, which FSDP cannot shard; train it with --strategy ddp"
                )
            strategy = Sharded(recipe.average, cpu_offload=self.strategy.endswith("cpu_offload"))
        return {
            "accelerator": self.accelerator,
            "devices": devices,
            "num_nodes": self.num_nodes,
            "strategy": strategy,
            "sync_batchnorm": several and self.on_gpu,  # torch has no synchronised batch norm on a CPU
        }


def strategies() -> list[str]:
    """Lightning's strategies whose weights are there, in this process, when training ends."""
    names = [name for name in StrategyRegistry.available_strategies() if name.startswith(("ddp", "fsdp"))]
    return ["auto", *(name for name in names if not any(word in name for word in ("spawn", "fork", "notebook")))]


def _check_accelerator(name: str) -> None:
    available = {"cpu": True, "auto": True, "gpu": torch.cuda.is_available(), "cuda": torch.cuda.is_available()}
    if name not in available:
        raise MelodyError(f"unknown accelerator {name!r}{did_you_mean(name, available)}")
    if not available[name]:
        raise MelodyError(f"accelerator {name!r} is not available: torch sees no CUDA device here")
