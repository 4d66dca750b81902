"""``evaluate``: a folder of sounds, measured, with intervals and controls."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from melody.artifacts.files import canonical
from melody.artifacts.provenance import commit, device_name, versions
from melody.artifacts.store import Store
from melody.evaluation.extract import Progress, inputs_of
from melody.evaluation.feature_store import FeatureStore
from melody.evaluation.result import Circumstances, Evaluation, Score
from melody.evaluation.session import Session, extract_all, prepare, score_all
from melody.evaluation.skipped import SkipList

EMBEDDERS = ("mel-stats",)


def evaluate(
    generated: str | Path,
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
) -> Evaluation:
    """Measure a folder of sounds: any rate, any number of channels, any container that libsndfile decodes.

    >>> evaluate("generated", reference="reference")["fad"].value  # doctest: +SKIP

    Args:
        generated: the folder, and all in it.
        reference: a folder to measure against: as a set, or pair by pair of one identifier.
        captions: a CSV file with columns ``file_name`` and ``text``, for metrics of texts.
        metrics: names; without them, all that can be had from what is given.
        embedders, taggers: names, or ``NAME:argument=value,…``; a row for each metric and each of them.
        joint: the joint model of metrics of texts: a preset with weights, a folder of model files, or a hub id.
        skip_bad: leave out what cannot be scored, and list it in the result.
        allow_overlap: measure though generated clips are files of the reference, links resolved; it is told.
        seed: of groups, bootstraps and controls.
        store: folder for what is known of each sound, by its content; the user's cache by default.
        progress: ``progress(done, total, what is next)``.
    Raises:
        BadInputError: files that cannot be scored, each with its reason.
        MelodyError: other bad input, as folders that share clips.
    """
    begin = time.perf_counter()
    skip_list = SkipList(skip_bad)
    session = prepare(
        generated,
        reference,
        captions,
        metrics=metrics,
        embedders=embedders,
        taggers=taggers,
        joint=joint,
        skip_list=skip_list,
        feature_store=FeatureStore(Store(store)),
        seed=seed,
        device=device,
        progress=progress,
        allow_overlap=allow_overlap,
    )
    skip_list.raise_if_any()
    extract_all(session)
    skip_list.raise_if_any()
    scores = score_all(session)
    skip_list.raise_if_any()
    return result_of(session, scores, device=device, seconds=time.perf_counter() - begin, command=command)


def result_of(session: Session, scores: list[Score], *, device: str, seconds: float, command: str = "") -> Evaluation:
    """What was measured, with all that decides it."""
    reference = session.reference
    return Evaluation(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        seconds=round(seconds, 3),
        sounds_computed=session.generated.computed + (reference.computed if reference else 0),
        sounds_reused=session.generated.reused + (reference.reused if reference else 0),
        generated=inputs_of(session.generated),
        reference=None if reference is None else inputs_of(reference),
        captions=None if session.texts is None else hashlib.sha256(canonical(session.texts)).hexdigest(),
        scores=scores,
        skipped=session.skip_list.skipped,
        notes=session.notes,
        circumstances=Circumstances(
            seed=session.seed, device=device_name(device), versions=versions(), commit=commit()
        ),
    )
