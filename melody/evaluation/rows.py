"""A row of the table from what was computed."""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Sequence
from typing import Any

from melody.artifacts.files import canonical, finite
from melody.evaluation.controls import judged
from melody.evaluation.extract import ClipRef
from melody.evaluation.levels import range_of
from melody.evaluation.plan import MetricRun
from melody.evaluation.result import ClipValue, Control, Groups, Score
from melody.evaluation.scoring import MetricValue

WORST = 5


def row(
    run: MetricRun,
    number: MetricValue,
    controls: Sequence[Control],
    sounds: Sequence[ClipRef],
    *,
    expected: int,
    seed: int,
) -> Score:
    """The score of a metric; ``sounds`` are the set's, for the names of the worst."""
    component = run.component
    estimate = number.estimate
    interval: dict[str, Any] = {}
    if estimate is not None:
        least, largest = range_of(component)
        interval = {
            "low": finite(max(estimate.low, least)),
            "high": finite(min(estimate.high, largest)),
            "standard_error": finite(estimate.standard_error),
            "interval": estimate.method,
        }
    return Score(
        name=run.name,
        metric=run.metric,
        version=str(component.version),
        input_kind=run.input_kind,
        direction=component.direction,
        unit=component.unit,
        value=number.value,
        bias=number.bias,
        expected=expected,
        scored=number.scored,
        warnings=[*number.warnings, *_biased(number)],
        reason=number.reason,
        source={} if run.source is None else run.source.facts,
        sample_rate=run.sample_rate,
        controls=judged(controls, number, component.direction, component.tells),
        clips={identifier: finite(value) for identifier, value in number.clips.items()},
        groups=_groups(number, seed),
        worst=_worst(number.clips, sounds, component.direction),
        **interval,
    )


def _groups(number: MetricValue, seed: int) -> Groups | None:
    if not number.replicates or not all(map(math.isfinite, number.replicates)):
        return None
    members = hashlib.sha256(canonical([seed, *number.members])).hexdigest()
    return Groups(clips=members, without=number.replicates)


def _biased(number: MetricValue) -> list[str]:
    """By how much a number that its metric warns of is too large."""
    if not number.warns or number.bias is None:
        return []
    return [f"bias by the jackknife over clips: about {number.bias:.3g}"]


def _worst(clips: dict[str, float], sounds: Sequence[ClipRef], direction: str) -> list[ClipValue]:
    """The clips farthest to the bad side, or from the median where there is none; none where all are equal."""
    values = {identifier: value for identifier, value in clips.items() if finite(value) is not None}
    if len(set(values.values())) < 2:
        return []
    middle = statistics.median(values.values())
    badness = {
        "lower": lambda value: value,
        "higher": lambda value: -value,
        "none": lambda value: abs(value - middle),
    }[direction]
    names = {sound.identifier: sound.name for sound in sounds}
    ranked = sorted(values, key=lambda identifier: (-badness(values[identifier]), identifier))[:WORST]
    return [
        ClipValue(identifier=identifier, file=names.get(identifier, identifier), value=values[identifier])
        for identifier in ranked
    ]
