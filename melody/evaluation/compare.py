"""``compare``: two folders of sounds, paired by identifier, and what their differences are worth.

Metrics that are means of their clips' values: the mean of the paired differences, Student's t interval, sign-flip
permutation test. Metrics of sets: the difference with a paired delete-a-group jackknife (the same clips are left out of
both), and the p-value of its t statistic. Holm's correction over the table.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtr

from melody.artifacts.files import finite
from melody.artifacts.store import Store
from melody.data.listing import pair
from melody.errors import MelodyError, StorageError
from melody.evaluation.evaluate import EMBEDDERS, result_of
from melody.evaluation.extract import Progress
from melody.evaluation.feature_store import FeatureStore
from melody.evaluation.result import Better, Comparison, Difference, Score
from melody.evaluation.session import Session, extract_all, prepare, score_all
from melody.evaluation.shared_clips import check_apart
from melody.evaluation.skipped import SkipList
from melody.metrics.statistics import holm, jackknife_estimate, paired_difference

LEVEL = 0.05


def compare(
    a: str | Path,
    b: str | Path,
    *,
    reference: str | Path | None = None,
    captions: str | Path | None = None,
    metrics: Sequence[str] | None = None,
    embedders: Sequence[str] = EMBEDDERS,
    taggers: Sequence[str] = (),
    joint: str = "demo",
    skip_bad: bool = False,
    allow_overlap: bool = False,
    seed: int = 0,
    store: str | Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    command: str = "",
) -> Comparison:
    """Measure two folders of sounds for the same prompts, and their differences a − b; arguments as ``evaluate``'s.

    Raises:
        BadInputError: files that cannot be scored, or have no partner in the other folder, each with its reason.
        MelodyError: other bad input, or no pairs.
    """
    begin = time.perf_counter()
    skip_list, feature_store = SkipList(skip_bad), FeatureStore(Store(store))
    session_of = partial(
        prepare,
        reference=reference,
        captions=captions,
        metrics=metrics,
        embedders=embedders,
        taggers=taggers,
        joint=joint,
        skip_list=skip_list,
        feature_store=feature_store,
        seed=seed,
        device=device,
        progress=progress,
        allow_overlap=allow_overlap,
    )
    sessions = [session_of(a, beside=b), session_of(b, beside=a)]
    shared = check_apart(sessions[0].listing, sessions[1].listing, allowed=allow_overlap)
    _extract_pairs(sessions, skip_list)
    scores = [score_all(session) for session in sessions]
    skip_list.raise_if_any()
    seconds = time.perf_counter() - begin
    first, second = (result_of(*both, device=device, seconds=seconds) for both in zip(sessions, scores, strict=True))
    return Comparison(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        seconds=round(seconds, 3),
        a=first,
        b=second,
        pairs=len(sessions[0].generated.sounds),
        differences=_differences(sessions, scores, seed),
        skipped=skip_list.skipped,
        notes=list(dict.fromkeys([*shared, *(note for session in sessions for note in session.notes)])),
    )


def _extract_pairs(sessions: Sequence[Session], skip_list: SkipList) -> None:
    """Extract the features of every clip that has a partner, and keep the pairs of which both could be read."""
    _pair_up(sessions, skip_list)
    skip_list.raise_if_any()
    for session in sessions:
        extract_all(session)
    skip_list.raise_if_any()
    _keep_common(sessions)


def _pair_up(sessions: Sequence[Session], skip_list: SkipList) -> None:
    """Leave in both listings the clips that have a partner; those without one are faults."""
    pairs, lonely = pair(sessions[0].listing, sessions[1].listing)
    if not pairs:
        raise MelodyError(
            f"no clip of {sessions[0].listing.folder} has the name of one of {sessions[1].listing.folder}: "
            f"two systems are compared on clips of one name"
        )
    skip_list.add(None, lonely)
    kept = {ours.identifier for ours, _ in pairs}
    for session in sessions:
        clips = tuple(clip for clip in session.listing.clips if clip.identifier in kept)
        session.listing = replace(session.listing, clips=clips)
        session.pairs = [both for both in session.pairs if both[0].identifier in kept]


def _keep_common(sessions: Sequence[Session]) -> None:
    """Leave pairs of which both clips could be read; a feature that failed of one counts as failed of both."""
    kept = set.intersection(*({sound.identifier for sound in session.generated.sounds} for session in sessions))
    failures: dict[str, dict[str, str]] = {}
    pair_failures: dict[str, dict[str, str]] = {}
    for session in sessions:
        session.generated.sounds = [sound for sound in session.generated.sounds if sound.identifier in kept]
        session.paired = [measured for measured in session.paired if measured.sound.identifier in kept]
        for joint, own in ((failures, session.generated.failures), (pair_failures, session.pair_failures)):
            for key, failed in own.items():
                joint.setdefault(key, {}).update(failed)
    for session in sessions:
        session.generated.failures, session.pair_failures = failures, pair_failures


def _differences(sessions: Sequence[Session], scores: Sequence[list[Score]], seed: int) -> list[Difference]:
    """A row for each metric; p-values corrected over all of them."""
    by_name = [{score.name: score for score in of_side} for of_side in scores]
    rows = []
    for name in (name for name in by_name[0] if name in by_name[1]):
        a, b = by_name[0][name], by_name[1][name]
        replicates = [session.replicates[name] for session in sessions]
        try:
            rows.append(_of_sets(a, b, replicates) if replicates[0] else _of_clips(a, b, seed))
        except StorageError:
            raise
        except MelodyError as error:
            rows.append(_row(a, b, reason=str(error)))
    tested = [row for row in rows if row.p_value is not None]
    p_values = [row.p_value for row in rows if row.p_value is not None]
    for row, adjusted in zip(tested, holm(p_values) if p_values else [], strict=True):
        row.p_holm = adjusted
        row.better = _better(row)
    return rows


def _of_clips(a: Score, b: Score, seed: int) -> Difference:
    both = [
        (ours, theirs)
        for identifier, ours in a.clips.items()
        if ours is not None and (theirs := b.clips.get(identifier)) is not None
    ]
    if len(both) < 2:
        return _row(a, b, reason=f"{len(both)} pairs with values of their own")
    paired = paired_difference([ours for ours, _ in both], [theirs for _, theirs in both], seed=seed)
    lost = a.scored - len(both)
    return _row(
        a,
        b,
        value=paired.estimate.value,
        low=paired.estimate.low,
        high=paired.estimate.high,
        interval=paired.estimate.method,
        pairs=len(both),
        p_value=paired.p_value,
        p_method="sign-flip permutation",
        effect_size=finite(paired.effect_size),
        reason=f"{lost} pairs without finite values are left out" if lost else "",
    )


def _of_sets(a: Score, b: Score, replicates: Sequence[list[float]]) -> Difference:
    if a.value is None or b.value is None or len(replicates[0]) != len(replicates[1]):
        return _row(a, b, reason="not measured of both")
    without = np.subtract(replicates[0], replicates[1])
    estimate = jackknife_estimate(a.value - b.value, without, n=a.scored, over="clips, paired")
    t = estimate.value / estimate.standard_error if estimate.standard_error > 0 else math.inf
    p_value = float(2 * stdtr(len(without) - 1, -abs(t))) if estimate.value else 1.0
    return _row(
        a,
        b,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        interval=estimate.method,
        pairs=a.scored,
        p_value=p_value,
        p_method="t of the paired jackknife",
        effect_size=finite(t / math.sqrt(a.scored)) if estimate.value else 0.0,
    )


def _row(a: Score, b: Score, **fields: Any) -> Difference:
    return Difference(
        name=a.name,
        metric=a.metric,
        version=a.version,
        direction=a.direction,
        unit=a.unit,
        a=a.value,
        b=b.value,
        better="no direction" if a.direction == "none" else "undecided",
        indistinguishable_from=sorted({*a.indistinguishable_from, *b.indistinguishable_from}),
        beaten_by=sorted({*a.beaten_by, *b.beaten_by}),
        **{"pairs": min(a.scored, b.scored), **fields},
    )


def _better(row: Difference) -> Better:
    if row.direction == "none":
        return "no direction"
    if row.p_holm is None or row.p_holm >= LEVEL or row.value is None:
        return "undecided"
    return "a" if (row.value < 0) == (row.direction == "lower") else "b"
