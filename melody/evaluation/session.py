"""One evaluation, step by step: list, hear, score. ``evaluate`` takes the steps for one folder, ``compare`` for two."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from melody.bounds import MAX_RUN_SEED, shown
from melody.data.corpus import InvalidFile
from melody.data.listing import AudioFile, AudioFolder, doubled_stems, identifier_of, list_clips, pair, read_captions
from melody.devices import device_of
from melody.errors import MelodyError, StorageError
from melody.evaluation import controls
from melody.evaluation.extract import ClipRef, FeatureSet, Pair, Progress, extract_features, extract_pairs
from melody.evaluation.feature_store import FeatureStore
from melody.evaluation.features import FeatureExtractor
from melody.evaluation.plan import AvailableInputs, MetricPlan, MetricRun, make_plan, states_of_one_pair
from melody.evaluation.result import Control, Score
from melody.evaluation.rows import row
from melody.evaluation.scoring import (
    MetricValue,
    filled,
    grouped,
    of_clips,
    of_pairs,
    over_clips,
    over_sets,
    over_texts,
    per_clip,
    some,
)
from melody.evaluation.shared_clips import check_apart, copies
from melody.evaluation.skipped import SkipList
from melody.registry import metrics as registered

TEXTS_AT_ONCE = 64


@dataclass
class Session:
    """What is measured of what, and what was heard so far."""

    plan: MetricPlan
    feature_store: FeatureStore
    skip_list: SkipList
    seed: int
    listing: AudioFolder
    reference_listing: AudioFolder | None = None
    pairs: list[tuple[AudioFile, AudioFile]] = field(default_factory=list)
    texts: dict[str, str] | None = None
    explicit_metrics: bool = True
    """Whether the metrics were named."""
    progress: Progress | None = None
    done: int = 0
    notes: list[str] = field(default_factory=list)
    heard: FeatureSet | None = None
    reference: FeatureSet | None = None
    paired: list[Pair] = field(default_factory=list)
    pair_failures: dict[str, dict[str, str]] = field(default_factory=dict)
    synthetic: list[controls.Synthetic] = field(default_factory=list)
    replicates: dict[str, list[float]] = field(default_factory=dict)
    """By row: the value without each group, of metrics of sets."""

    @property
    def generated(self) -> FeatureSet:
        assert self.heard is not None
        return self.heard

    @property
    def total(self) -> int:
        reference = len(self.reference_listing.clips) if self.reference_listing else 0
        pairs = len(self.pairs) if self.plan.of("waveform_pairs") else 0
        return len(self.listing.clips) + reference + pairs + len(self.plan.runs)

    def tick(self, label: str) -> None:
        if self.progress is not None:
            self.progress(self.done, self.total, label)
        self.done += 1


def prepare(
    generated: str | Path,
    reference: str | Path | None,
    captions: str | Path | None,
    *,
    metrics: Sequence[str] | None,
    embedders: Sequence[str],
    taggers: Sequence[str],
    joint: str,
    skip_list: SkipList,
    feature_store: FeatureStore,
    seed: int,
    device: str,
    progress: Progress | None,
    allow_overlap: bool = False,
    beside: str | Path | None = None,
) -> Session:
    """List the folders and choose the rows; what is seen to be bad without decoding goes on the skip list.

    Args:
        metrics: names; clips without a partner are faults if one of pairs is among them. Without names, all that can be
            had from what is given; then such metrics are left out where a clip has no partner.
        allow_overlap: whether generated clips may be clips of the reference; then it is told.
        beside: another folder whose clips are paired with the generated ones.
    """
    torch_device, explicit_metrics = str(device_of(device)), bool(metrics)
    if not 0 <= seed <= MAX_RUN_SEED:
        raise MelodyError(f"the seed is {shown(seed)}; expected 0 or more, and below 2^32")
    folders = [Path(folder) for folder in (generated, reference, beside) if folder is not None]
    doubled = set[str]().union(*map(doubled_stems, folders))
    listing = list_clips(Path(generated), doubled)
    other = None if reference is None else list_clips(Path(reference), doubled)
    skip_list.add(listing.folder, listing.faults)
    notes = _named_alike(listing)
    if other is not None:
        skip_list.add(other.folder, other.faults)
        notes += check_apart(listing, other, allowed=allow_overlap)
    texts = None
    if captions is not None:
        texts, faults = read_captions(Path(captions), listing)
        skip_list.add(None, faults, ("texts",))
    pairs, lonely = pair(listing, other) if other is not None else ([], [])
    given = AvailableInputs(other is not None, texts is not None, bool(pairs) and (explicit_metrics or not lonely))
    plan = make_plan(metrics, given, embedders=embedders, taggers=taggers, joint=joint, device=torch_device)
    if paired := [run.name for run in plan.of("waveform_pairs", "label_pairs")]:
        skip_list.add(None, lonely, paired)
    elif lonely and pairs:
        notes.append(
            f"{len(pairs)} of {len(listing.clips)} clips have a partner in {reference}: pairs are not measured"
        )
    notes += plan.notes
    return Session(
        plan, feature_store, skip_list, seed, listing, other, pairs, texts, explicit_metrics, progress, notes=notes
    )


def _named_alike(listing: AudioFolder) -> list[str]:
    """What is to be told of clips whose names differ by the extension alone: they may be one sound, twice."""
    stems = Counter(identifier_of(clip.name) for clip in listing.clips)
    alike = [clip.name for clip in listing.clips if stems[identifier_of(clip.name)] > 1]
    return [f"{some(alike)}: named alike but for the extension, each is a clip of its own"] if alike else []


def extract_all(session: Session) -> None:
    """Read every sound, once; what cannot be read or computed goes on the skip list."""
    session.heard = extract_features(session.listing, session.plan.features(), session.feature_store, session.tick)
    if not session.explicit_metrics:
        _leave_out_refused(session)
    _report_failures(session, session.heard)
    if session.reference_listing is not None:
        session.reference = extract_features(
            session.reference_listing, session.plan.features(reference=True), session.feature_store, session.tick
        )
        _report_failures(session, session.reference)
        session.notes += copies(session.generated.sounds, session.reference.sounds)
        _note_controls(session, session.reference)
    if runs := session.plan.of("waveform_pairs"):
        session.paired, session.pair_failures = extract_pairs(session.pairs, runs, session.generated, session.tick)
        names = {ours.identifier: ours.name for ours, _ in session.pairs}
        for run in runs:
            failed = session.pair_failures.get(run.key, {})
            if failed and run.from_elsewhere and not session.explicit_metrics:
                session.notes.append(f"{run.name} is not measured: it fails ({next(iter(failed.values()))})")
                session.plan = session.plan.without(run)
                continue
            faults = [InvalidFile(names[identifier], reason) for identifier, reason in failed.items()]
            session.skip_list.add(session.listing.folder, faults, (run.name,))


def _leave_out_refused(session: Session) -> None:
    """Leave out metrics that nobody named and that refuse every clip, as one does that takes longer ones, and plug-ins
    that nobody named and that fail at all.
    """
    for run in session.plan.of("waveforms"):
        failed = session.generated.failures.get(run.key, {})
        if failed and (run.from_elsewhere or not session.generated.of(run.key)):
            count = "every clip" if not session.generated.of(run.key) else f"{len(failed)} clips"
            session.notes.append(f"{run.name} is not measured: it refuses {count} ({next(iter(failed.values()))})")
            del session.generated.failures[run.key]
            session.plan = session.plan.without(run)


def _note_controls(session: Session, reference: FeatureSet) -> None:
    """Of a metric of waveforms the reference is a control only: what it refuses there is no fault."""
    for run in session.plan.of("waveforms"):
        if failed := reference.failures.get(run.key):
            reason = next(iter(failed.values()))
            session.notes.append(f"{run.name} refuses {len(failed)} clips of the reference, its control ({reason})")


def _report_failures(session: Session, heard: FeatureSet) -> None:
    session.skip_list.add(heard.listing.folder, heard.faults)
    if not heard.sounds:
        session.skip_list.raise_if_any()
        raise MelodyError(f"no clip of {heard.listing.folder} could be read")
    names = {sound.identifier: sound.name for sound in heard.sounds}
    labels = {feature.key: feature.label for feature in session.plan.features()}
    for key, failed in heard.failures.items():
        if heard is session.reference and key in {run.key for run in session.plan.of("waveforms")}:
            continue
        faults = [InvalidFile(names[identifier], reason) for identifier, reason in failed.items()]
        session.skip_list.add(heard.listing.folder, faults, (labels[key],))


def score_all(session: Session) -> list[Score]:
    """Every row of the table."""
    session.synthetic = controls.synthetic(session.generated, session.seed)
    for sound in session.synthetic:
        sound.extract(session.plan.features(), session.feature_store)
    scores = []
    for run in session.plan.runs:
        session.tick(run.name)
        number, groups = _scored(session, run)
        if (number.refused or (number.reason and run.from_elsewhere)) and not session.explicit_metrics:
            session.notes.append(f"{run.name} is not measured: it refuses these clips ({number.reason})")
            continue
        number.warnings += _silent(session, run)
        expected = (
            len(session.pairs) if run.input_kind in ("waveform_pairs", "label_pairs") else session.listing.expected
        )
        scores.append(row(run, number, groups, session.generated.sounds, expected=expected, seed=session.seed))
        session.replicates[run.name] = number.replicates
        if number.value is None and not number.reason.startswith("the value is"):
            session.skip_list.add(None, [InvalidFile(run.name, number.reason)], (run.name,))
    session.tick("")
    return scores


def _silent(session: Session, run: MetricRun) -> list[str]:
    """What is to be said of silent clips that are in a number: a mean over them may look better, or worse, for it."""
    failed = set(session.pair_failures.get(run.key, {}))
    key = run.source.feature.key if run.source else run.key
    if run.input_kind != "waveform_pairs":
        failed |= set(session.generated.failures.get(key, {}))
    silent = [clip.identifier for clip in session.generated.sounds if clip.is_silent and clip.identifier not in failed]
    if run.input_kind in ("waveform_pairs", "label_pairs"):
        silent = [identifier for identifier in silent if identifier in {ours.identifier for ours, _ in session.pairs}]
    return [f"{len(silent)} of the clips are silent: {some(silent)}"] if silent else []


Scored = tuple[MetricValue, list[Control]]


def _scored(session: Session, run: MetricRun) -> Scored:
    """A row's number and controls; of a plug-in that fails, and was named, one line that ends the run."""
    try:
        with registered.around(run.metric):
            return SCORED[run.input_kind](session, run)
    except StorageError:
        raise
    except MelodyError as error:
        if session.explicit_metrics or not run.from_elsewhere:
            raise
        return MetricValue(reason=str(error), refused=True), []


def _waveforms(session: Session, run: MetricRun) -> Scored:
    number = of_clips(run, session.generated, session.seed)
    return number, controls.of_waveforms(run, session.synthetic, session.reference, session.seed)


def _pairs(session: Session, run: MetricRun) -> Scored:
    failed = session.pair_failures.get(run.key, {})
    number = of_pairs(run, session.paired, session.generated, failed, session.seed)
    cut = [cut_pair.cut_s for cut_pair in session.paired if cut_pair.cut_s > 0]
    if cut:
        number.warnings.append(f"{len(cut)} pairs were cut to the shorter, by {max(cut):g} s at most")
    usable = [both for both in session.pairs if both[0].identifier in number.clips]
    return number, controls.of_pairs(run, usable, session.synthetic, session.seed) if usable else []


def _label_pairs(session: Session, run: MetricRun) -> Scored:
    assert run.source is not None
    key = run.source.feature.key
    heard, reference = session.generated, session.reference
    assert reference is not None
    targets = {sound.identifier: sound for sound in reference.of(key)}
    members = [sound for sound in heard.of(key) if sound.identifier in targets]

    def both(sound: ClipRef) -> tuple[Tensor, Tensor]:
        target = reference.feature(targets[sound.identifier], key)["vectors"]
        return heard.feature(sound, key)["vectors"], target

    states = ((sound.identifier, states_of_one_pair(run, *both(sound))) for sound in members)
    number = over_clips(run, len(members), states, session.seed)
    return number, controls.of_label_pairs(run, [both(sound) for sound in members], session.synthetic, session.seed)


def _sets(session: Session, run: MetricRun) -> Scored:
    assert run.source is not None
    key = run.source.feature.key
    heard, reference = session.generated, session.reference
    members = heard.of(key)
    state = None
    if reference is not None:
        state = filled(run, (vectors for _, vectors in reference.vectors(key)), real=True)
    groups = grouped(run, (vectors for _, vectors in heard.vectors(key)), len(members), session.seed, state)
    number = over_sets(groups)
    number.members = [sound.identifier for sound in members]
    per_clip(run, number, members, (vectors for _, vectors in heard.vectors(key)), state)
    if reference is not None:
        _check_reference(session, run, number, reference)
    return number, controls.of_sets(run, heard, reference, state, session.synthetic, session.seed)


def _check_reference(session: Session, run: MetricRun, number: MetricValue, reference: FeatureSet) -> None:
    """A reference smaller than its embedding is refused where the metric itself warns of it."""
    assert run.source is not None
    windows = sum(len(vectors) for _, vectors in reference.vectors(run.source.feature.key))
    if run.input_kind == "embeddings" and number.warns and windows <= run.source.dimension:
        reason = f"{windows} windows for {run.source.dimension} dimensions of {run.source.name}: give more clips"
        session.skip_list.add(
            None, [InvalidFile(str(reference.listing.folder), f"the reference is too small: {reason}")], (run.name,)
        )


def _texts(session: Session, run: MetricRun) -> Scored:
    assert run.source is not None
    assert session.texts is not None
    key = run.source.feature.key
    members = [sound for sound in session.generated.of(key) if sound.identifier in session.texts]
    if not members:
        return MetricValue(reason="no clip has a text"), []
    audio = torch.stack([session.generated.feature(sound, key)["vectors"][0] for sound in members])
    texts = embedded_texts(run.source, [session.texts[sound.identifier] for sound in members], session.feature_store)
    number = over_texts(run, texts, audio, [sound.identifier for sound in members], session.seed)
    return number, controls.of_texts(run, texts, audio, session.synthetic, session.seed)


def embedded_texts(source: FeatureExtractor, texts: Sequence[str], feature_store: FeatureStore) -> Tensor:
    """Joint embeddings ``(n, E)``; what is known is read."""
    keys = {text: hashlib.sha256(f"text:{text}".encode()).hexdigest() for text in dict.fromkeys(texts)}
    features = {text: feature_store.read(key).feature(source.feature.key) for text, key in keys.items()}
    missing = [text for text, known in features.items() if known is None]
    for begin in range(0, len(missing), TEXTS_AT_ONCE):
        batch = missing[begin : begin + TEXTS_AT_ONCE]
        with torch.inference_mode():
            vectors = source.model.embed_text(batch).float().cpu()
        for text, vector in zip(batch, vectors, strict=True):
            record = feature_store.read(keys[text])
            record.add(source.feature.key, {"vectors": vector[None]})
            feature_store.write(keys[text], record)
            features[text] = record.feature(source.feature.key)
    return torch.cat([known["vectors"] for text in texts if (known := features[text]) is not None])


SCORED: dict[str, Callable[[Session, MetricRun], Scored]] = {
    "embeddings": _sets,
    "labels": _sets,
    "waveforms": _waveforms,
    "waveform_pairs": _pairs,
    "label_pairs": _label_pairs,
    "text_audio_embeddings": _texts,
}
