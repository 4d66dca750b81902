"""A metric of a set, and of the set without each group of its clips: for any metric whose states merge.

Each group of clips fills a metric of its own; the whole and the parts are merged from these, so every clip is seen
once. States that are sums stay as small as one metric's; a metric that keeps all vectors has them in memory once.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from melody.errors import MelodyError
from melody.metrics.statistics import Estimate, group_labels, jackknife_estimate

GROUPS = 20


def merged(create: Callable[[], Any], parts: Iterable[Any]) -> Any:
    """One metric from many (or from their states by name)."""
    whole = create()
    for part in parts:
        whole.merge_state(part)
    return whole


def add_states(metric: Any, states: Mapping[str, Tensor]) -> None:
    """Merge what ``states_of`` took from another metric of the kind."""
    own = metric.metric_state
    metric.merge_state({name: [s] if isinstance(own[name], list) else s for name, s in states.items()})


def value_of(metric: Any) -> float:
    """What a metric computes, as a number; raises ``MelodyError`` if it is none."""
    with warnings.catch_warnings():
        # It was filled by merging, which torchmetrics does not count as an update.
        warnings.filterwarnings("ignore", message="The ``compute`` method of metric")
        value = metric.compute()
    if torch.as_tensor(value).numel() != 1:
        raise MelodyError(f"{type(metric).__name__} computes {type(value).__name__}; expected one number")
    return float(value)


class Groups:
    """A set's clips in groups, each in a metric of its own.

    Args:
        labels: the group of each clip, in the order of the clips.
    """

    def __init__(self, create: Callable[[], Any], labels: Sequence[int]) -> None:
        self._create = create
        self._labels = labels
        self.parts = [create() for _ in range(max(labels) + 1)] if labels else []

    def part(self, place: int) -> Any:
        """The metric of the clip's group, to be updated with it."""
        return self.parts[self._labels[place]]

    def whole(self, fixed: Sequence[Any] = ()) -> Any:
        """All clips' metric; ``fixed`` is merged in, as a reference."""
        return merged(self._create, [*fixed, *self.parts])

    def without_each(self, fixed: Sequence[Any] = ()) -> list[float]:
        """The value without each group in turn."""
        count = len(self.parts)
        return [
            value_of(
                merged(self._create, [*fixed, *(self.parts[other] for other in range(count) if other != left_out)])
            )
            for left_out in range(count)
        ]

    def estimate(self, fixed: Sequence[Any] = ()) -> Estimate:
        """Value with the jackknife's interval; raises ``MelodyError`` for a value that is not there."""
        value = value_of(self.whole(fixed))
        return jackknife_estimate(value, self.without_each(fixed), n=len(self._labels))


def labels_for(count: int, seed: int) -> list[int]:
    """The group of each of so many clips, at random by seed; one group if there is one clip."""
    if count < 2:
        return [0] * count
    return [int(label) for label in group_labels(count, GROUPS, seed=seed)]


def finite(value: float) -> float | None:
    """A number for JSON."""
    return value if math.isfinite(value) else None
