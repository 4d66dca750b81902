"""The delete-a-group jackknife of any metric over clips: a third party's gets an interval as ours do.

Each group of clips fills a metric of its own; the number without a group is that of all others' states, merged as
torchmetrics merges processes. So a metric needs states that merge (by sum, concatenation, least or largest) and nothing
else, an update costs what it always does, and memory is that of G + 1 metrics. States are merged and not subtracted:
nothing is lost to rounding, and it works for more than sums. What belongs to no clip, such as the reference, is fixed.
A metric that can leave groups out for less than a ``compute`` each may offer ``without_each(parts, fixed)``: the values
without each of ``parts``, given the metric of what is fixed; ``kad`` does.

Source: Efron and Tibshirani (1993), chapter 11; see ``statistics``. Version 1.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melody.errors import MelodyError
from melody.metrics.base import TorchMetric
from melody.metrics.statistics import Estimate, group_labels, jackknife_estimate


class GroupedJackknife:
    """A metric filled clip by clip, with its value without each group of clips.

    >>> import torch
    >>> from melody.metrics.text_correlation import TextCorrelation
    >>> scores = GroupedJackknife(TextCorrelation, count=4)
    >>> for clip in range(4):
    ...     pair = {"text_embeddings": torch.tensor([[1.0, 0.0]]), "audio_embeddings": torch.tensor([[1.0, clip]])}
    ...     scores.update(clip, **pair)
    >>> round(scores.value, 4), sorted(round(value, 4) for value in scores.replicates())
    (0.6176, [0.4902, 0.5878, 0.6744, 0.7181])

    Args:
        create: makes an empty metric.
        count: clips that will come; they go into groups at random, by ``seed``.
        groups: at most so many.
    Raises:
        MelodyError: fewer than two groups, or a metric whose states do not merge.
    """

    def __init__(self, create: Callable[[], Any], count: int, *, groups: int = 20, seed: int = 0) -> None:
        self._create = create
        # One clip has a value, though no interval.
        self.labels: NDArray[Any] = group_labels(count, groups, seed=seed) if count > 1 else np.zeros(count, np.int64)
        self._groups = [create() for _ in range(int(self.labels.max(initial=-1)) + 1)]
        self._given: set[int] = set()
        self._fixed = create()
        _check_merges(self._fixed)

    def part(self, clip: int) -> Any:
        """The metric of a clip's group, to be updated with the clip, or merged with what is stored of it."""
        if not 0 <= clip < len(self.labels):
            raise MelodyError(f"jackknife: clip {clip}; expected 0 to {len(self.labels) - 1}")
        group = int(self.labels[clip])
        self._given.add(group)
        return self._groups[group]

    def update(self, clip: int, **arguments: Any) -> None:
        """Add what belongs to a clip, given by its place from 0 to ``count`` − 1; several times if need be."""
        self.part(clip).update(**arguments)

    def fix(self, metric: Any) -> None:
        """Add a metric of what is never left out."""
        self._fixed.merge_state(metric)

    @property
    def metric(self) -> Any:
        """A metric of all that was given."""
        return self._merged(None)

    @property
    def value(self) -> float:
        """The metric over all clips."""
        return value_of(self.metric)

    def replicates(self) -> list[float]:
        """The metric without each group in turn."""
        self._check_given()
        own = getattr(self._fixed, "without_each", None)
        if own is not None:
            return [float(value) for value in own(self._groups, self._fixed)]
        return [value_of(self._merged(group)) for group in range(len(self._groups))]

    def estimate(self, *, over: str = "clips", confidence: float = 0.95) -> Estimate:
        """The value with its interval; raises ``MelodyError`` if one of the numbers is not finite."""
        return jackknife_estimate(self.value, self.replicates(), n=len(self.labels), over=over, confidence=confidence)

    def difference(self, other: GroupedJackknife, *, over: str = "clips", confidence: float = 0.95) -> Estimate:
        """This value minus another system's over the same clips in the same groups, the pairing made use of."""
        if len(self.labels) != len(other.labels) or (self.labels != other.labels).any():
            raise MelodyError("jackknife of a difference: the clips are grouped differently; expected the same groups")
        pairs = zip(self.replicates(), other.replicates(), strict=True)
        replicates = [ours - theirs for ours, theirs in pairs]
        value = self.value - other.value
        return jackknife_estimate(value, replicates, n=len(self.labels), over=f"{over}, paired", confidence=confidence)

    def _merged(self, without: int | None) -> Any:
        self._check_given()
        kept = [group for index, group in enumerate(self._groups) if index != without]
        return merged(self._create, [self._fixed, *kept])

    def _check_given(self) -> None:
        if len(self._given) < len(self._groups):
            raise MelodyError("jackknife: some clips were not given; expected an update of every clip")


def merged(create: Callable[[], Any], parts: Iterable[Any]) -> Any:
    """One metric from many."""
    whole = create()
    for part in parts:
        whole.merge_state(part)
    return whole


def add_states(metric: Any, states: Mapping[str, Tensor]) -> None:
    """Merge states by name into a metric of their kind; lists of tensors come concatenated."""
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


def _check_merges(metric: TorchMetric) -> None:
    try:
        metric.clone().merge_state(metric)
    except RuntimeError:
        name = type(metric).__name__
        raise MelodyError(
            f"jackknife: {name} cannot be merged; expected full_state_update = False and dist_sync_on_step = False"
        ) from None
