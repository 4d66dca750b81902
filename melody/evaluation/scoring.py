"""From features to numbers: each metric's value over a set, with the interval that fits what it takes.

- Metrics of clips, pairs and texts that are means of their clips' values: bootstrap over clips (Student's t below 20).
- All others, those of sets first: delete-a-group jackknife over clips; the reference is taken as fixed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from melody.artifacts.files import finite
from melody.errors import MelodyError, StorageError, one_line
from melody.evaluation.extract import ClipRef, FeatureSet, Pair
from melody.evaluation.feature_store import Tensors
from melody.evaluation.plan import VALUE, MetricRun
from melody.metrics.grouped_jackknife import GroupedJackknife, add_states, merged, value_of
from melody.metrics.statistics import Estimate, bootstrap_mean, jackknife_estimate, mean_interval

FEW = 20
"""Below so many clips the percentile bootstrap is too narrow."""
SAME = 1e-6
NAMED = 3


@dataclass
class MetricValue:
    """A value with its interval, of how many clips; ``clips`` has each clip's own value by identifier."""

    value: float | None = None
    estimate: Estimate | None = None
    scored: int = 0
    warnings: list[str] = field(default_factory=list)
    reason: str = ""
    refused: bool = False
    """Whether the metric itself said that it cannot measure this, as of too few clips."""
    clips: dict[str, float] = field(default_factory=dict)
    replicates: list[float] = field(default_factory=list)
    """The value without each group, of metrics of sets."""
    members: list[str] = field(default_factory=list)
    """Identifiers of the clips of a metric of sets, in their order."""
    warns: bool = False
    """Whether the metric itself has a warning."""
    bias: float | None = None
    """By how much the value is too large, by the jackknife: (G − 1) · (mean without a group − value)."""


def valued(value: float, scored: int) -> MetricValue:
    """A value that has no interval."""
    return MetricValue(
        value=finite(value), scored=scored, reason="" if math.isfinite(value) else f"the value is {value}"
    )


def over_clips(run: MetricRun, count: int, states: Iterable[tuple[str, Tensors]], seed: int) -> MetricValue:
    """A metric of waveforms over so many clips (or pairs), from each one's states and value."""
    number = MetricValue()
    parts = GroupedJackknife(run.create, count, seed=seed)
    for row, (identifier, tensors) in enumerate(states):
        number.clips[identifier] = float(tensors[VALUE])
        add_states(parts.part(row), {name: t for name, t in tensors.items() if name != VALUE})
    return _estimated(number, parts, seed)


def over_texts(run: MetricRun, texts: Tensor, audio: Tensor, identifiers: Sequence[str], seed: int) -> MetricValue:
    """A metric of texts and sounds, from their joint embeddings ``(n, E)``."""
    number = MetricValue()
    run.create().update(texts, audio)  # so that what is wrong is told of all pairs, and not of the first
    parts = GroupedJackknife(run.create, len(identifiers), seed=seed)
    for row, identifier in enumerate(identifiers):
        alone = run.create()
        for metric in (alone, parts.part(row)):
            metric.update(texts[row : row + 1], audio[row : row + 1])
        number.clips[identifier] = value_of(alone)
    return _estimated(number, parts, seed)


def _estimated(number: MetricValue, parts: GroupedJackknife, seed: int) -> MetricValue:
    """Value and interval: of a mean by bootstrap, else by jackknife; clips without a finite value are told."""
    number.scored, number.members = len(number.clips), list(number.clips)
    if not number.scored:
        number.reason = "no clip could be scored"
        return number
    try:
        value = parts.value
    except StorageError:
        raise
    except Exception as error:  # a plug-in may fail in any way, and must spoil only its own row
        number.reason, number.refused = one_line(error), isinstance(error, MelodyError)
        return number
    values = [clip_value for clip_value in number.clips.values() if math.isfinite(clip_value)]
    number.value = finite(value)
    if lost := [name for name, clip_value in number.clips.items() if not math.isfinite(clip_value)]:
        number.warnings.append(f"{len(lost)} of {number.scored} clips have no finite value of their own: {some(lost)}")
    if number.value is None:
        number.reason = f"the value is {value}"
        return number
    number.warnings += own_warnings(parts.metric)
    is_mean = bool(values) and math.isclose(sum(values) / len(values), value, rel_tol=SAME, abs_tol=1e-9)
    is_mean = is_mean and not _keeps_vectors(parts.part(0))
    if not is_mean:  # a clip alone says nothing about such a metric
        number.clips = {}
    number.estimate = _interval(number, parts, values if is_mean else [], seed)
    return number


def some(names: Sequence[str]) -> str:
    """The first names of many.

    >>> some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _keeps_vectors(metric: Any) -> bool:
    """Whether states are lists: such is a ranking, which for a clip alone is perfect, and may equal that by chance."""
    return any(isinstance(state, list) for state in metric.metric_state.values())


def _interval(number: MetricValue, parts: GroupedJackknife, values: Sequence[float], seed: int) -> Estimate | None:
    if number.scored < 2 or len(values) == 1:
        number.warnings.append("one clip: no interval")
        return None
    try:
        if not values:
            number.replicates = parts.replicates()  # what a comparison of two sets is made of
            return jackknife_estimate(parts.value, number.replicates, n=len(parts.labels))
        if len(values) < FEW:
            return mean_interval(values, over="clips")
        return bootstrap_mean(values, seed=seed, over="clips")
    except StorageError:
        raise
    except MelodyError as error:
        number.warnings.append(f"no interval: {error}")
        return None


def filled(run: MetricRun, vectors: Iterable[Tensor], *, real: bool) -> Any:
    """One metric of sets that has seen these clips, each ``(windows, dimension)``."""
    metric = run.create()
    for clip in vectors:
        metric.update(clip, real)
    return metric


def grouped(
    run: MetricRun, vectors: Iterable[Tensor], count: int, seed: int, reference: Any | None
) -> GroupedJackknife:
    """So many clips of a generated set in groups, and a metric that has seen the reference."""
    groups = GroupedJackknife(run.create, count, seed=seed)
    if reference is not None:
        groups.fix(reference)
    for row, clip in enumerate(vectors):
        groups.part(row).update(clip, False)
    return groups


def over_sets(groups: GroupedJackknife) -> MetricValue:
    """A metric of two sets of vectors: value, jackknife interval and the metric's own warning."""
    number = MetricValue(scored=len(groups.labels))
    try:
        whole = groups.metric
        value = value_of(whole)
        number.value = finite(value)
        number.warnings += own_warnings(whole)
        number.warns = bool(number.warnings)
    except StorageError:
        raise
    except Exception as error:  # a plug-in may fail in any way, and must spoil only its own row
        number.reason, number.refused = one_line(error), isinstance(error, MelodyError)
        return number
    if number.value is None:
        number.reason = f"the value is {value}"
    elif number.scored < 2:
        number.warnings.append("one clip: no interval")
    else:
        _jackknife(number, groups)
    return number


def _jackknife(number: MetricValue, groups: GroupedJackknife) -> None:
    assert number.value is not None
    try:
        number.replicates = groups.replicates()
        number.estimate = jackknife_estimate(number.value, number.replicates, n=number.scored)
        mean = sum(number.replicates) / len(number.replicates)
        number.bias = finite((len(number.replicates) - 1) * (mean - number.value))
    except StorageError:
        raise
    except Exception as error:  # as above: too few clips are left, say
        number.warnings.append(f"no interval: {one_line(error)}")


def per_clip(
    run: MetricRun, number: MetricValue, sounds: Sequence[ClipRef], vectors: Iterable[Tensor], reference: Any | None
) -> None:
    """Add each clip's own value, of metrics of sets that have such (a method ``per_clip``, in the order of updates)."""
    if not hasattr(run.component, "per_clip") or number.value is None:
        return
    metric = filled(run, vectors, real=False)
    whole = metric if reference is None else merged(run.create, [reference, metric])
    try:
        values = whole.per_clip()
    except StorageError:
        raise
    except MelodyError as error:
        number.warnings.append(f"no values of single clips: {error}")
        return
    number.clips = {sound.identifier: float(value) for sound, value in zip(sounds, values, strict=True)}


def of_pairs(
    run: MetricRun, pairs: Sequence[Pair], heard: FeatureSet, failed: dict[str, str], seed: int
) -> MetricValue:
    """A metric of pairs of waveforms."""
    scored = [pair for pair in pairs if pair.sound.identifier not in failed]
    states = ((pair.sound.identifier, heard.feature(pair, run.key)) for pair in scored)
    return over_clips(run, len(scored), states, seed)


def of_clips(run: MetricRun, heard: FeatureSet, seed: int) -> MetricValue:
    """A metric of the waveforms of a set."""
    sounds: list[ClipRef] = heard.of(run.key)
    states = ((sound.identifier, heard.feature(sound, run.key)) for sound in sounds)
    return over_clips(run, len(sounds), states, seed)


def own_warnings(metric: Any) -> list[str]:
    """What a metric itself says of what it has seen."""
    warning = getattr(metric, "warning", None)
    return [str(warning)] if warning else []
