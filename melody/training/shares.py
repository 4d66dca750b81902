"""Processes that train together: who this one is, its share of a batch, and waiting for each other.

The batch of a step is one, whatever the number of processes: each draws the same rows from (seed, step), and computes
its share of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from lightning.fabric.utilities.rank_zero import rank_zero_only
from torch import Tensor


@dataclass(frozen=True)
class Share:
    """Part ``index`` of ``count`` equal parts of a batch."""

    index: int = 0
    count: int = 1

    def rows(self, size: int) -> slice:
        """Its rows of a batch of ``size``, a multiple of ``count``.

        >>> Share(1, 4).rows(8)
        slice(2, 4, None)
        """
        each = size // self.count
        return slice(self.index * each, (self.index + 1) * each)


WHOLE = Share()


def is_distributed() -> bool:
    """Whether a group of processes trains."""
    return dist.is_available() and dist.is_initialized()


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if is_distributed() else 1


def rank() -> int:
    """Number of this process; before the group is formed, as Lightning's, torchrun's or Slurm's variables say."""
    return dist.get_rank() if is_distributed() else int(getattr(rank_zero_only, "rank", 0) or 0)


def is_main() -> bool:
    """Whether this process is the one that writes and speaks."""
    return rank() == 0


def barrier() -> None:
    """Go on when all processes have come here."""
    if is_distributed():
        dist.barrier()


def mean_over_processes(values: Tensor) -> Tensor:
    """The mean of each value over all processes, the same in each of them."""
    if world_size() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / world_size()


def gathered(rows: Tensor) -> Tensor:
    """Rows of all processes ``(B, ...) -> (world_size * B, ...)``, in their order; gradients flow back to each."""
    from torch.distributed.nn.functional import all_gather

    if not is_distributed():
        return rows
    return torch.cat(all_gather(rows)) if rows.requires_grad else torch.cat(_all_gather(rows))


def _all_gather(rows: Tensor) -> list[Tensor]:
    parts = [torch.empty_like(rows) for _ in range(world_size())]
    dist.all_gather(parts, rows.contiguous())
    return parts
