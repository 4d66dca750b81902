"""FSDP: weights, gradients and AdamW's moments spread over the processes (arXiv 2304.11277), by Lightning's strategy.

A part is gathered whole for a step: any component works, whichever of its methods a recipe calls, and 300M parameters
are 1.2 GB. The moving average, of which nothing is trained, stays whole in each process.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel, MixedPrecision

MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's, by torch's names."""


class Sharded(FSDPStrategy):
    """Lightning's strategy with all but ``kept_whole`` in shards; it also runs on CPUs over gloo, for tests."""

    def __init__(self, kept_whole: nn.Module | None, cpu_offload: bool) -> None:
        super().__init__(
            cpu_offload=cpu_offload,
            # Passes are autocast; tables of the front ends (windows, filters) must keep their precision.
            mixed_precision=MixedPrecision(),
            ignored_modules=[kept_whole] if kept_whole is not None else None,
            use_orig_params=True,  # AdamW's groups are of single parameters
            state_dict_type="full",
        )

    def _setup_model(self, model: nn.Module) -> FullyShardedDataParallel:
        # As Lightning does, but with the device by name: by index alone torch looks for an accelerator.
        return FullyShardedDataParallel(
            model,
            cpu_offload=self.cpu_offload,
            mixed_precision=self.mixed_precision_config,
            device_id=self.root_device,
            **self.kwargs,
        )

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        if self.root_device.type != "cpu":
            return super().optimizer_state(optimizer)
        # torch gathers all moments into one buffer, of which a CPU gets views: so one moment at a time, and copied.
        optimizer = getattr(optimizer, "_optimizer", optimizer)
        moments, whole, state = optimizer.state, dict[int, dict[str, Tensor]](), dict[str, Any]()
        try:
            for name in MOMENTS:
                optimizer.state = {p: {key: s[key] for key in ("step", name)} for p, s in moments.items()}
                state = copy.deepcopy(super().optimizer_state(optimizer))
                for number, values in state.get("state", {}).items():
                    whole.setdefault(number, {}).update(values)
        finally:
            optimizer.state = moments
        return {**state, "state": whole} if state else {}

    def lightning_module_state_dict(self) -> dict[str, Any]:
        # torch's own way to the whole state reads freed memory where the shards are on a CPU.
        assert self.lightning_module is not None
        with whole_weights(self):
            if self.global_rank:
                return {}
            return {name: value.detach().cpu().clone() for name, value in self.lightning_module.state_dict().items()}


def clip(strategy: Sharded, limit: float) -> Tensor:
    """Clip the gradients' norm over all processes; returns it as it was."""
    assert isinstance(strategy.model, FullyShardedDataParallel)
    norm: Tensor = strategy.model.clip_grad_norm_(limit)
    return norm


@contextmanager
def whole_weights(strategy: object) -> Iterator[None]:
    """Within it, every process sees the weights whole; to be entered by all of them."""
    model = getattr(strategy, "model", None)
    if not isinstance(model, FullyShardedDataParallel):
        yield
        return
    with FullyShardedDataParallel.summon_full_params(model, writeback=False):
        yield
