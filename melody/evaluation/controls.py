"""Controls: each metric where the answer is known, so that a number is seen beside noise, silence and music itself.

- *reference halves*: one half of the reference against the other, over many draws (see ``floor``); what music scores
  at best, at half the size. Distances of few clips are larger: beside it stands *generated, as many*, so many generated
  clips, drawn by the seed, against the same halves. For metrics of waveforms: *reference*, its own mean. For pairs:
  *reference itself*, every clip as its own target.
- *white noise* and *silence*: up to 16 clips as long as generated ones, 30 s at most; noise at −20 dB of full scale.
- *one clip repeated*: one clip, drawn by the seed, in the place of every other: a set without variety. Not each clip
  twice, which leaves every distribution as it is, and so tells nothing of a metric. Of metrics of sets and of texts.
- *texts shuffled*, *targets shuffled*: every clip with another one's text, or target.

A metric tells a control from music if the control lies outside of the music's interval, on the bad side where there is
one. Music is the reference where there is one, else the generated set. A control that scores no worse than the
generated set is told too. Of controls that a metric does not claim to hear (``Metric.tells``) nothing is asked. All
choices are ours.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from melody.artifacts.files import finite
from melody.data.listing import AudioFile
from melody.data.recordings import AudioInfo, Recording, read_recording
from melody.errors import MelodyError, StorageError, one_line
from melody.evaluation import floor
from melody.evaluation.control_sounds import (
    ALIKE,
    NOISE,
    NOISE_LEVEL,
    REPEATED,
    SILENCE,
    TARGETS_SHUFFLED,
    TEXTS_SHUFFLED,
    control_sound,
)
from melody.evaluation.extract import FeatureSet, aligned, complete
from melody.evaluation.feature_store import ClipFeatures, FeatureStore, Tensors
from melody.evaluation.features import Feature
from melody.evaluation.plan import MetricRun, states_of_one_pair
from melody.evaluation.result import Control, Measurement
from melody.evaluation.scoring import (
    MetricValue,
    filled,
    grouped,
    of_clips,
    over_clips,
    over_sets,
    over_texts,
    valued,
)
from melody.metrics.grouped_jackknife import merged, value_of
from melody.metrics.text_correlation import derangement
from melody.protocols import CONTROLS

HALVES, REFERENCE, ITSELF, AS_MANY = "reference halves", "reference", "reference itself", "generated, as many"
MUSIC = (HALVES, REFERENCE, ITSELF)
CLIPS = 16
LONGEST_S = 30.0
REPEATS = 64
INFINITE = tuple(f"the value is {value}" for value in (math.inf, -math.inf))


class Synthetic:
    """Clips of noise or of silence, their features on disk as those of files."""

    def __init__(self, name: str, durations_s: Sequence[float], sample_rate: int, seed: int) -> None:
        self.name = name
        self.seed = seed
        self.sample_rate = sample_rate
        self.durations_s = durations_s
        self.clips: list[ClipFeatures] = []
        self.failures: dict[str, str] = {}

    def extract(self, features: Sequence[Feature], feature_store: FeatureStore) -> None:
        """Compute what is not known of each."""
        for number, duration_s in enumerate(self.durations_s):
            drawn = number if self.name == NOISE else 0  # silence of one length is one sound
            facts = f"{self.name}:{NOISE_LEVEL}:{self.seed}:{drawn}:{duration_s}:{self.sample_rate}"
            key = hashlib.sha256(facts.encode()).hexdigest()
            record = feature_store.read(key)
            missing = [feature for feature in features if record.feature(feature.key) is None]
            if missing:
                self.failures |= complete(record, self.recording(number), missing)
                feature_store.write(key, record)
            self.clips.append(record)

    def recording(self, number: int) -> Recording:
        """The sound."""
        count = max(1, round(self.durations_s[number] * self.sample_rate))
        return control_sound(self.name, number, count, self.sample_rate, self.seed)

    def like(self, number: int, facts: AudioInfo) -> Recording:
        """The sound, with the length and rate of another."""
        return control_sound(self.name, number, facts.frames, facts.sample_rate, self.seed)

    def features(self, key: str) -> list[Tensors]:
        """A feature of every clip; raises ``MelodyError`` with the reason if it could not be computed."""
        if key in self.failures:
            raise MelodyError(self.failures[key])
        return [feature for record in self.clips if (feature := record.feature(key)) is not None]


def synthetic(heard: FeatureSet, seed: int) -> list[Synthetic]:
    """Noise and silence as long as some of the clips."""
    facts = [sound.facts for sound in heard.sounds]
    places = np.unique(np.linspace(0, len(facts) - 1, CLIPS).round().astype(int)) if facts else []
    durations = [round(min(facts[int(number)].duration_s, LONGEST_S), 3) for number in places]
    rate = int(np.median([clip_facts.sample_rate for clip_facts in facts])) if facts else 48_000
    return [Synthetic(NOISE, durations, rate, seed), Synthetic(SILENCE, durations, rate, 0)]


def of_waveforms(run: MetricRun, sounds: Sequence[Synthetic], reference: FeatureSet | None, seed: int) -> list[Control]:
    """Controls of a metric of clips."""

    def control_of(sound: Synthetic) -> Control:
        return _tried(sound.name, len(sound.durations_s), lambda: _of_states(run, sound.features(run.key), seed))

    music = [_control(REFERENCE, of_clips(run, reference, seed))] if reference and reference.sounds else []
    return [*music, *map(control_of, sounds)]


def of_sets(
    run: MetricRun,
    generated: FeatureSet,
    reference: FeatureSet | None,
    state: object,
    sounds: Sequence[Synthetic],
    seed: int,
) -> list[Control]:
    """Controls of a metric of sets of vectors; ``state`` is the metric that has seen the reference."""
    assert run.source is not None
    key = run.source.feature.key
    others = None if reference is None else len(reference.of(key))

    def against(name: str, count: int, vectors: Callable[[], list[Tensor]]) -> Control:
        return _tried(name, count, lambda: of_vectors(name, run, vectors(), count, state, seed), others)

    def control_of(sound: Synthetic) -> Control:
        return against(
            sound.name, len(sound.durations_s), lambda: [feature["vectors"] for feature in sound.features(key)]
        )

    controls = _halves(run, generated, reference, key, seed) if reference is not None else []
    controls += map(control_of, sounds)
    members = generated.of(key)
    if len(members) > 1:
        chosen = members[int(np.random.default_rng(seed).integers(len(members)))]
        repeats = min(len(members), REPEATS)
        controls.append(against(REPEATED, repeats, lambda: [generated.feature(chosen, key)["vectors"]] * repeats))
    return controls


def of_vectors(
    name: str, run: MetricRun, vectors: Iterable[Tensor], count: int, state: object, seed: int
) -> MetricValue:
    """A metric of sets of a control's clips, each ``(windows, dimension)``; clips that are all one have no interval."""
    if name not in ALIKE:
        return over_sets(grouped(run, vectors, count, seed, state))
    fixed = [] if state is None else [state]
    return valued(value_of(merged(run.create, [*fixed, filled(run, vectors, real=False)])), count)


def _halves(run: MetricRun, generated: FeatureSet, reference: FeatureSet, key: str, seed: int) -> list[Control]:
    """One half of the reference against the other, and as many generated clips, if there are so many."""
    music = [vectors for _, vectors in reference.vectors(key)]
    own = [vectors for _, vectors in generated.vectors(key)]
    controls = [_drawn(HALVES, len(music), lambda: floor.halves(run, music, seed))]
    if controls[0].value is not None and len(own) >= controls[0].n:
        controls.append(_drawn(AS_MANY, len(music), lambda: floor.as_many(run, own, music, seed)))
    return controls


def _drawn(name: str, clips: int, compute: Callable[[], Measurement]) -> Control:
    """A control over draws of so many reference clips."""
    try:
        measured = compute()
    except StorageError:
        raise
    except Exception as error:  # as of ``_tried``
        return Control(name=name, value=None, n=clips, reason=one_line(error))
    value, low, high, count = measured.value, measured.low, measured.high, measured.scored
    return Control(name=name, value=value, low=low, high=high, n=count, against=clips - count)


def of_texts(run: MetricRun, texts: Tensor, audio: Tensor, sounds: Sequence[Synthetic], seed: int) -> list[Control]:
    """Controls of a metric of texts and sounds, joint embeddings ``(n, E)``."""
    assert run.source is not None
    key, count = run.source.feature.key, len(texts)
    places = [str(number) for number in range(count)]

    def against(name: str, others: Tensor, heard: Callable[[], Tensor]) -> Control:
        return _tried(name, count, lambda: over_texts(run, others, heard(), places, seed))

    def control_of(sound: Synthetic) -> Control:
        return against(sound.name, texts, lambda: _cycled([row["vectors"][0] for row in sound.features(key)], count))

    if count < 2:
        return list(map(control_of, sounds))
    chosen = int(np.random.default_rng(seed).integers(count))
    return [
        against(TEXTS_SHUFFLED, texts[derangement(count, seed)], lambda: audio),
        *map(control_of, sounds),
        against(REPEATED, texts, lambda: audio[chosen].expand(count, -1)),
    ]


def of_pairs(
    run: MetricRun, pairs: Sequence[tuple[AudioFile, AudioFile]], sounds: Sequence[Synthetic], seed: int
) -> list[Control]:
    """Controls of a metric of pairs, on up to 16 of them."""
    chosen = [pairs[int(number)] for number in np.unique(np.linspace(0, len(pairs) - 1, CLIPS).round().astype(int))]

    def mean(name: str, preds: Callable[[int, Recording], Recording]) -> Control:
        def compute() -> MetricValue:
            states = []
            for number, (_, theirs) in enumerate(chosen):
                target = read_recording(theirs.path)
                states.append(states_of_one_pair(run, *aligned(preds(number, target), target, run.sample_rate)))
            return _of_states(run, states, seed)

        return _tried(name, len(chosen), compute)

    def control_of(sound: Synthetic) -> Control:
        return mean(sound.name, lambda number, target: sound.like(number, target.facts))

    controls = [mean(ITSELF, lambda number, target: target), *map(control_of, sounds)]
    if len(chosen) > 1:
        order = derangement(len(chosen), seed)
        controls.append(mean(TARGETS_SHUFFLED, lambda number, target: read_recording(chosen[order[number]][0].path)))
    return controls


def of_label_pairs(
    run: MetricRun, pairs: Sequence[tuple[Tensor, Tensor]], sounds: Sequence[Synthetic], seed: int
) -> list[Control]:
    """Controls of a metric of pairs of logits ``(windows, labels)``."""
    assert run.source is not None
    key, targets = run.source.feature.key, [target for _, target in pairs]

    def mean(name: str, preds: Callable[[int], Tensor]) -> Control:
        def compute() -> MetricValue:
            states = [states_of_one_pair(run, preds(number), target) for number, target in enumerate(targets)]
            return _of_states(run, states, seed)

        return _tried(name, len(targets), compute)

    def control_of(sound: Synthetic) -> Control:
        return mean(sound.name, lambda number: sound.features(key)[number % len(sound.durations_s)]["vectors"])

    controls = [mean(ITSELF, lambda number: targets[number]), *map(control_of, sounds)]
    if len(pairs) > 1:
        order = derangement(len(pairs), seed)
        controls.append(mean(TARGETS_SHUFFLED, lambda number: pairs[order[number]][0]))
    return controls


def judged(
    controls: Sequence[Control], score: MetricValue, direction: str, tells: frozenset[str] | None = None
) -> list[Control]:
    """The controls, each with whether it is told from music, and whether it scores no worse than the set.

    Args:
        tells: names of those that the metric claims to tell; ``None``: all. Of others nothing is asked.
    """
    music = next((control for control in controls if control.name in MUSIC and control.value is not None), None)
    if music is not None:
        bounds = _bounds(music.value, music.low, music.high)
    elif score.value is not None:
        estimate = score.estimate
        bounds = _bounds(score.value, estimate.low if estimate else None, estimate.high if estimate else None)
    else:
        return list(controls)
    asked = frozenset(CONTROLS) if tells is None else tells
    return [
        control.model_copy(
            update={
                "distinguished": _apart(control, *bounds, direction),
                "no_worse": _no_worse(control, score.value, direction),
            }
        )
        if control.name in asked
        else control
        for control in controls
    ]


def _bounds(value: float | None, low: float | None, high: float | None) -> tuple[float, float]:
    assert value is not None
    return (value if low is None else low), (value if high is None else high)


def _apart(control: Control, low: float, high: float, direction: str) -> bool | None:
    """An infinite value is told apart; one that was refused is nothing to tell."""
    if control.value is None:
        return True if control.reason in INFINITE else None
    worse_above, worse_below = control.value > high, control.value < low
    if direction == "lower":
        return worse_above
    if direction == "higher":
        return worse_below
    return worse_above or worse_below


def _no_worse(control: Control, value: float | None, direction: str) -> bool | None:
    """Whether a control scores at least as well as the set; nothing where a metric has no direction."""
    if control.value is None or value is None or direction == "none":
        return None
    return control.value <= value if direction == "lower" else control.value >= value


def _of_states(run: MetricRun, states: Sequence[Tensors], seed: int) -> MetricValue:
    """A metric of clips or pairs from the states of each."""
    return over_clips(run, len(states), ((str(number), state) for number, state in enumerate(states)), seed)


def _cycled(rows: Sequence[Tensor], count: int) -> Tensor:
    return torch.stack([rows[number % len(rows)] for number in range(count)])


def _control(name: str, number: MetricValue, against: int | None = None) -> Control:
    estimate = number.estimate
    low, high = (finite(estimate.low), finite(estimate.high)) if estimate else (None, None)
    reason = number.reason
    return Control(name=name, value=number.value, low=low, high=high, n=number.scored, against=against, reason=reason)


def _tried(name: str, count: int, compute: Callable[[], MetricValue], against: int | None = None) -> Control:
    try:
        return _control(name, compute(), against)
    except StorageError:
        raise
    except Exception as error:  # a metric may refuse silence, and a plug-in may fail in any way
        return Control(name=name, value=None, n=count, against=against, reason=one_line(error))
