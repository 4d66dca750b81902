"""Metrics that keep every vector, because no sum holds what their mathematics needs; they merge by concatenation.

Memory grows with what is kept: 4 bytes a number, so 10,000 clips of 10 windows in 512 dimensions take 205 MB.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from melody.bounds import Width
from melody.checks import check_finite
from melody.embedders.mel_stats import DIMENSION
from melody.errors import MelodyError
from melody.metrics.base import TorchMetric, gather_all_tensors
from melody.metrics.frechet import Statistics
from melody.protocols import InputKind, Metric

SIDES = ("generated", "reference")


class CatStateMetric(TorchMetric, Metric):
    """States that are lists of tensors, joined over processes even where a process was given nothing."""

    full_state_update: bool | None = False

    def __init__(self) -> None:
        super().__init__()
        self._empty: dict[str, Tensor] = {}

    def keep(self, name: str, empty: Tensor) -> None:
        """Add a state; ``empty`` has no rows, and the number of axes and the type of what will be appended."""
        self.add_state(name, [], dist_reduce_fx="cat")
        self._empty[name] = empty

    def append(self, name: str, rows: Tensor) -> None:
        """Add rows to a state, in the state's type."""
        getattr(self, name).append(rows.detach().to(self._empty[name].dtype))

    def kept(self, name: str) -> Tensor:
        """All rows of a state; ``empty`` where there are none."""
        state: list[Tensor] | Tensor = getattr(self, name)  # a tensor while it is joined over processes
        if isinstance(state, Tensor):
            return state
        return torch.cat(self._rows(name))

    def sync(self, dist_sync_fn: Callable[..., list[Tensor]] | None = None, *args: Any, **kwargs: Any) -> None:
        """As torchmetrics does, which cannot join an empty list with rows of two axes."""
        for name in self._empty:
            setattr(self, name, self._rows(name))
        super().sync(dist_sync_fn or _gather_rows, *args, **kwargs)

    def _rows(self, name: str) -> list[Tensor]:
        return [part for part in getattr(self, name) if part.numel()] or [self._empty[name].to(self.device)]


class EmbeddingSets(CatStateMetric):
    """Embeddings of generated and of reference clips; every ``update`` adds one clip."""

    input_kind: ClassVar[InputKind] = "embeddings"
    unit: ClassVar[str] = ""

    def __init__(self, dimension: Width = DIMENSION) -> None:
        super().__init__()
        self.dimension = dimension
        for side in SIDES:
            self.keep(side, torch.zeros(0, dimension))
            self.keep(f"{side}_sizes", torch.zeros(0, dtype=torch.int64))

    def update(self, embeddings: Tensor, real: bool) -> None:
        """Add one clip's ``(windows, dimension)`` embeddings, of the reference if ``real``; kept in float32."""
        name = type(self).__name__
        if embeddings.ndim != 2 or embeddings.shape[1] != self.dimension or len(embeddings) == 0:
            shape = tuple(embeddings.shape)
            raise MelodyError(f"{name}: embeddings have shape {shape}; expected (windows, {self.dimension})")
        check_finite(embeddings, f"{name}: embeddings")
        side = SIDES[int(real)]
        self.append(side, embeddings)
        self.append(f"{side}_sizes", torch.tensor([len(embeddings)], device=embeddings.device))

    def clips(self, side: str) -> list[Tensor]:
        """Embeddings of each clip of the ``generated`` or the ``reference`` side, ``(windows, dimension)`` each."""
        return list(self.kept(side).split(self.kept(f"{side}_sizes").tolist()))

    def statistics(self, side: str) -> Statistics:
        """Sums of all windows of a side; raises ``MelodyError`` if there are none."""
        return Statistics.of(self.kept(side))

    @property
    def scored(self) -> int:
        """Windows of generated audio."""
        return int(self.kept("generated_sizes").sum())


def _gather_rows(rows: Tensor, group: Any = None) -> list[Tensor]:
    gathered = gather_all_tensors(rows, group)
    return [part for part in gathered if part.numel()] or [rows]
