"""Checks of what measures: metrics, audio embedders and taggers, tables; and of what tells facts of itself."""

from __future__ import annotations

import json
import math
from typing import Any

import torch
from torch import Tensor

from melody.conformance.checks import (
    DIMENSION,
    RATE,
    BrokenPromiseError,
    Candidate,
    NotTriedError,
    above_zero,
    attempt,
    check,
    drawn,
    same_bits,
    tensor_of,
)
from melody.errors import MelodyError
from melody.plugins import told


@check("metrics", "it computes one finite number of a tiny update")
def _metric_computes(candidate: Candidate) -> None:
    value = torch.as_tensor(_filled(candidate, _updates(candidate)).compute())
    if value.numel() != 1:
        raise BrokenPromiseError(f"compute gives shape {tuple(value.shape)}: expected one number")
    if not torch.isfinite(value).all():
        raise BrokenPromiseError(f"compute gives {float(value)}: expected a finite number")


@check("metrics", "the same updates give the same number")
def _metric_repeats(candidate: Candidate) -> None:
    updates = _updates(candidate)
    first, second = (float(_filled(candidate, updates).compute()) for _ in range(2))
    if first != second:
        raise BrokenPromiseError(f"{first!r} at the first run, {second!r} at the second")


@check("metrics", "two halves merge to the whole")
def _metric_merges(candidate: Candidate) -> None:
    updates = _updates(candidate)
    whole = float(_filled(candidate, updates).compute())
    merged = _filled(candidate, updates[:2])
    merged.merge_state(_filled(candidate, updates[2:]))
    merged._computed = None
    summed = float(merged.compute())
    if not math.isclose(summed, whole, rel_tol=1e-6, abs_tol=1e-9):
        raise BrokenPromiseError(f"{summed!r} merged, {whole!r} in one: states must merge by sum or by concatenation")


@check("metrics", "it refuses NaN with MelodyError")
def _metric_refuses(candidate: Candidate) -> None:
    update = [torch.full_like(a, math.nan) if isinstance(a, Tensor) else a for a in _updates(candidate)[0]]
    try:
        metric = candidate.create()
        metric.update(*update)
        metric.compute()
    except MelodyError:
        return
    except Exception as error:
        raise BrokenPromiseError(f"{told(error)}: expected melody.errors.MelodyError") from None
    raise BrokenPromiseError("update and compute take it")


def _updates(candidate: Candidate) -> list[tuple[Any, ...]]:
    """Four made-up updates of what the metric takes."""
    input_kind, metric = candidate.entry.component.input_kind, candidate.built
    rate = getattr(metric, "sample_rate", None) or RATE
    width = candidate.arguments.get("dimension") or candidate.arguments.get("num_labels") or DIMENSION
    if input_kind == "other":
        raise NotTriedError("what it takes is held by no folder, so nothing is made up for it")
    if input_kind == "waveforms":
        channels = 2 if candidate.entry.component.hears == "file" else 1
        return [(0.1 * drawn(seed, 1, channels, 5 * rate),) for seed in range(4)]
    if input_kind == "waveform_pairs":
        return [(0.1 * drawn(seed, 1, 1, rate), 0.1 * drawn(seed + 9, 1, 1, rate)) for seed in range(4)]
    if input_kind == "text_audio_embeddings":
        return [(drawn(seed, 12, width), drawn(seed + 9, 12, width)) for seed in range(4)]
    if input_kind == "label_pairs":
        return [(drawn(seed, 2, width), drawn(seed + 9, 3, width)) for seed in range(4)]
    return [(drawn(seed, 24, width), seed % 2 == 0) for seed in range(8)]


def _filled(candidate: Candidate, updates: list[tuple[Any, ...]]) -> Any:
    metric = candidate.create()
    for update in updates:
        metric.update(*update)
    return metric


@check("audio_embedders", "its rate, width and windows are numbers above 0")
def _embedder_declares(candidate: Candidate) -> None:
    above_zero(candidate.built, "sample_rate", "dimension", "window_s", "hop_s")


@check("audio_embedders", "a clip gives finite vectors of its dimension, the same at each call")
def _embedder_embeds(candidate: Candidate) -> None:
    built = candidate.built
    first, second = (attempt(candidate, lambda: built.embed(candidate.waveform())) for _ in range(2))
    tensor_of("embed", first, (None, built.dimension))
    same_bits("embed", first, second)


@check("audio_embedders", "a clip of one sample gives a window")
def _embedder_pads(candidate: Candidate) -> None:
    built = candidate.built
    if len(tensor_of("embed", attempt(candidate, lambda: built.embed(torch.zeros(1))), (None, built.dimension))) < 1:
        raise BrokenPromiseError("embed gives no window: expected padding to at least one")


@check("audio_taggers", "its rate and windows are numbers above 0, its labels a tuple of texts")
def _tagger_declares(candidate: Candidate) -> None:
    above_zero(candidate.built, "sample_rate", "window_s", "hop_s")
    labels = candidate.built.labels
    if not isinstance(labels, tuple) or not labels or not all(isinstance(label, str) for label in labels):
        raise BrokenPromiseError(f"labels is {labels!r}: expected a tuple of texts")


@check("audio_taggers", "a clip gives finite logits, one a label, the same at each call")
def _tagger_tags(candidate: Candidate) -> None:
    built = candidate.built
    first, second = (attempt(candidate, lambda: built.tag(candidate.waveform())) for _ in range(2))
    tensor_of("tag", first, (None, len(built.labels)))
    same_bits("tag", first, second)


@check("audio_embedders", "its facts are plain values")
@check("audio_taggers", "its facts are plain values")
@check("systems", "its facts are plain values")
def _facts(candidate: Candidate) -> None:
    facts = candidate.built.identity()
    try:
        json.dumps(facts, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BrokenPromiseError(f"identity() cannot be JSON: {error}") from None


@check("tables", "its measures have a direction, and the version of a registered metric where they name one")
def _table_measures(candidate: Candidate) -> None:
    measures = candidate.built.measures
    if not measures:
        raise BrokenPromiseError("measures is empty: a table has no column that it can fill")
    for name, quantity in measures.items():
        version, direction, _ = quantity.facts
        if direction not in ("lower", "higher", "none") or not version:
            raise BrokenPromiseError(f"measure {name!r} is {quantity!r}: expected a direction")
