"""The pass over a set of sounds: each is read once, and what is not known of it yet is computed and kept at once.

So a run that was killed goes on where it was, with the same numbers, and memory holds one sound at a time.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from melody.artifacts.files import canonical, file_hash
from melody.data.corpus import InvalidFile
from melody.data.listing import AudioFile, AudioFolder
from melody.data.recordings import AudioInfo, Recording, read_recording
from melody.errors import MelodyError, StorageError, one_line
from melody.evaluation.feature_store import ClipFeatures, FeatureStore, Tensors
from melody.evaluation.features import Feature, reading_hash
from melody.evaluation.plan import MetricRun, states_of_one_pair
from melody.evaluation.result import Inputs
from melody.metrics.levels import SILENCE_DB

Progress = Callable[[int, int, str], None]
"""``progress(done, total, what is next)``."""


@dataclass(frozen=True)
class ClipRef:
    """One clip that was read: identifier, name below its folder, hash of its content, facts about the file."""

    identifier: str
    name: str
    key: str
    facts: AudioInfo

    @property
    def is_silent(self) -> bool:
        """Whether no sample is above −60 dB of full scale."""
        return self.facts.peak < 10 ** (SILENCE_DB / 20)


@dataclass
class FeatureSet:
    """The sounds of a set, with their features on disk; ``failures`` by feature and identifier, with the reason."""

    listing: AudioFolder
    feature_store: FeatureStore
    sounds: list[ClipRef] = field(default_factory=list)
    faults: list[InvalidFile] = field(default_factory=list)
    failures: dict[str, dict[str, str]] = field(default_factory=dict)
    computed: int = 0
    reused: int = 0

    def of(self, key: str) -> list[ClipRef]:
        """The sounds that have a feature, in the order of their identifiers."""
        failed = self.failures.get(key, {})
        return [sound for sound in self.sounds if sound.identifier not in failed]

    def feature(self, sound: ClipRef | Pair, key: str) -> Tensors:
        """A feature of a sound (or of a pair), from the disk."""
        found = self.feature_store.read(sound.key).feature(key)
        if found is None:
            raise MelodyError(
                f"the store {self.feature_store.store.folder} changed during the evaluation: run it again"
            )
        return found

    def vectors(self, key: str) -> Iterator[tuple[ClipRef, Tensor]]:
        """Every sound's vectors ``(windows, dimension)``, one after the other."""
        for sound in self.of(key):
            yield sound, self.feature(sound, key)["vectors"]


def extract_features(
    listing: AudioFolder, features: Sequence[Feature], feature_store: FeatureStore, progress: Callable[[str], None]
) -> FeatureSet:
    """Compute what is not known of every clip of a listing; a clip that cannot be read is a fault."""
    heard = FeatureSet(listing, feature_store)
    for clip in listing.clips:
        progress(clip.name)
        try:
            sound, failed, fresh = _extract_file(clip, features, feature_store)
        except StorageError:
            raise
        except MelodyError as error:
            heard.faults.append(InvalidFile(clip.name, str(error)))
            continue
        heard.sounds.append(sound)
        heard.computed += fresh
        heard.reused += not fresh
        for key, reason in failed.items():
            heard.failures.setdefault(key, {})[clip.identifier] = reason
    return heard


def _extract_file(
    clip: AudioFile, features: Sequence[Feature], feature_store: FeatureStore
) -> tuple[ClipRef, dict[str, str], bool]:
    """A clip's sound, its failures by feature, and whether anything was computed now."""
    key = _content_key(clip)
    record = feature_store.read(key)
    missing = [feature for feature in features if not _known(record, feature.key)]
    if missing or record.facts.get("reading") != reading_hash():
        recording = read_recording(clip.path, keep_channels=any(one.hears == "file" for one in missing))
        record.facts |= {**asdict(recording.facts), "reading": reading_hash()}
        failed = complete(record, recording, missing)
        feature_store.write(key, record)
    else:
        failed = {}
    facts = AudioInfo(**{name: record.facts[name] for name in AudioInfo.__dataclass_fields__})
    return ClipRef(clip.identifier, clip.name, key, facts), failed, len(failed) < len(missing)


def _content_key(clip: AudioFile) -> str:
    """Raise ``MelodyError`` if the file went away since it was listed."""
    try:
        return file_hash(clip.path)
    except OSError as error:
        raise MelodyError(f"it cannot be read: {error.strerror or error}") from None


def complete(record: ClipFeatures, recording: Recording, missing: Sequence[Feature]) -> dict[str, str]:
    """Add features to a record, each rate resampled once; failures by feature. A failure is not kept: code may mend."""
    waveforms: dict[int | None, Tensor] = {}
    failed: dict[str, str] = {}
    for feature in missing:
        rate = feature.sample_rate
        try:
            if feature.hears == "file":
                record.add(feature.key, feature.compute(recording.as_it_is.clone(), recording.facts))
                continue
            if rate not in waveforms:
                waveforms[rate] = recording.at(rate)
            # A copy: what changes the sound that it is given must not change what others hear.
            record.add(feature.key, feature.compute(waveforms[rate].clone(), recording.facts))
        except StorageError:
            raise
        except Exception as error:  # a plug-in may fail in any way, and must spoil only its own numbers
            failed[feature.key] = one_line(error)
    return failed


def _known(record: ClipFeatures, key: str) -> bool:
    return any(name.startswith(f"{key}/") for name in record.tensors)


@dataclass(frozen=True)
class Pair:
    """Two sounds of one identifier and the key of what was measured of them; ``cut_s`` says by how much one was cut."""

    sound: ClipRef
    key: str
    cut_s: float


def extract_pairs(
    pairs: Sequence[tuple[AudioFile, AudioFile]],
    runs: Sequence[MetricRun],
    heard: FeatureSet,
    progress: Callable[[str], None],
) -> tuple[list[Pair], dict[str, dict[str, str]]]:
    """Measure every pair of waveforms once; failures by metric and identifier."""
    sounds = {sound.identifier: sound for sound in heard.sounds}
    found: list[Pair] = []
    failures: dict[str, dict[str, str]] = {}
    for ours, theirs in pairs:
        progress(ours.name)
        if ours.identifier not in sounds:
            continue
        sound = sounds[ours.identifier]
        try:
            pair, failed = _extract_pair(sound, ours, theirs, runs, heard.feature_store)
        except StorageError:
            raise
        except MelodyError as error:
            failed = {run.key: f"{theirs.path}: {error}" for run in runs}
        else:
            found.append(pair)
        for key, reason in failed.items():
            failures.setdefault(key, {})[ours.identifier] = reason
    return found, failures


def _extract_pair(
    sound: ClipRef, ours: AudioFile, theirs: AudioFile, runs: Sequence[MetricRun], feature_store: FeatureStore
) -> tuple[Pair, dict[str, str]]:
    key = hashlib.sha256(f"pair:{sound.key}:{_content_key(theirs)}".encode()).hexdigest()
    record = feature_store.read(key)
    missing = [run for run in runs if not _known(record, run.key)]
    failed: dict[str, str] = {}
    if missing or "cut_s" not in record.facts:
        preds, target = read_recording(ours.path), read_recording(theirs.path)
        record.facts["cut_s"] = round(abs(preds.facts.duration_s - target.facts.duration_s), 6)
        for run in missing:
            try:
                record.add(run.key, states_of_one_pair(run, *aligned(preds, target, run.sample_rate)))
            except StorageError:
                raise
            except Exception as error:  # as above
                failed[run.key] = one_line(error)
        feature_store.write(key, record)
    return Pair(sound, key, float(record.facts["cut_s"])), failed


def aligned(preds: Recording, target: Recording, sample_rate: int | None) -> tuple[Tensor, Tensor]:
    """Both at one rate (the lower of theirs if the metric has none), cut to the shorter."""
    rate = sample_rate or min(preds.facts.sample_rate, target.facts.sample_rate)
    a, b = preds.at(rate), target.at(rate)
    length = min(len(a), len(b))
    return a[:length].clone(), b[:length].clone()


def inputs_of(heard: FeatureSet) -> Inputs:
    """What came in."""
    facts = [sound.facts for sound in heard.sounds]
    formats = Counter(f"{one.format}, {one.sample_rate:,} Hz, {one.channels} ch" for one in facts)
    content: Any = [[sound.identifier, sound.key] for sound in heard.sounds]
    return Inputs(
        folder=str(heard.listing.folder),
        expected=heard.listing.expected,
        read=len(heard.sounds),
        others=sum(heard.listing.others.values()),
        passed_over=dict(sorted(heard.listing.others.items())),
        seconds=round(sum(one.duration_s for one in facts), 3),
        formats=dict(sorted(formats.items())),
        beyond_full_scale=sum(one.peak > 1 for one in facts),
        highest_peak=max((one.peak for one in facts), default=0.0),
        silent=[sound.name for sound in heard.sounds if sound.is_silent],
        content=hashlib.sha256(canonical(content)).hexdigest(),
    )
