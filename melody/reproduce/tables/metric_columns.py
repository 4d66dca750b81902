"""Columns of registered metrics: computed as ``melody evaluate`` does, with prompts and seeds as two levels.

A column names a metric, ``metric = "kad"``, with an ``embedder`` if it is one of embeddings, with a ``tagger`` if it
is one of labels; the measures ``fad``,
``mcc`` and ``cosine`` are metrics by a name of their own. Metrics of texts and sounds are fed by the preset's own joint
embedding, or by that which ``joint`` names. What a metric of waveforms hears are the clips as float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from melody.data.recordings import Recording
from melody.errors import MelodyError
from melody.evaluation import floor
from melody.evaluation.controls import of_vectors
from melody.evaluation.feature_store import Tensors
from melody.evaluation.levels import of_one_set, over_seeds
from melody.evaluation.plan import MetricRun, of_waveforms, run_on_vectors
from melody.evaluation.result import Measurement
from melody.evaluation.scoring import MetricValue, filled, grouped, over_clips, over_sets, over_texts
from melody.protocols import InputKind
from melody.registry import metrics
from melody.reproduce.context import Context
from melody.reproduce.jobs.embedded_clips import EmbeddedClips, recording
from melody.reproduce.suite import Column, Suite

SEED = 0
"""Of groups and draws: a suite's seeds are those of clips."""
FED_BY_CLIPS: frozenset[InputKind] = frozenset({"embeddings", "labels", "text_audio_embeddings", "waveforms"})
"""What the clips of a row can feed a metric, where they are clips of texts."""
OF_SETS = ("embeddings", "labels")
"""What is fed by rows of numbers of each clip, of whole sets."""
MEASURES = {"fad": "fad", "mcc": "mcc", "cosine": "mcc"}
"""Measures that are a registered metric."""


def metric_of(column: Column) -> str:
    """The registered metric that a column shows; empty for a measure of another kind."""
    return column.metric or MEASURES.get(column.measure, "")


def input_kind_of(column: Column) -> InputKind | None:
    """What a column's metric is fed; ``None`` for a column of no metric."""
    kind: InputKind | None = metrics.get(name).input_kind if (name := metric_of(column)) else None
    return kind


def needs_reference(column: Column) -> bool:
    """Whether a column's metric takes real clips beside the row's own."""
    return input_kind_of(column) in OF_SETS and bool(metrics.get(metric_of(column)).needs_reference)


def keeps_waveforms(suite: Suite) -> bool:
    """Whether a column's metric hears the clips themselves."""
    return any(input_kind_of(column) == "waveforms" for column in suite.columns)


@dataclass(frozen=True)
class MetricColumns:
    """A suite's columns of registered metrics, in one run."""

    suite: Suite
    context: Context
    _references: dict[tuple[Any, ...], Any] = field(default_factory=dict)
    """A metric that has seen a reference, by column and reference."""

    def of_generated(
        self, column: Column, generated: Mapping[int, EmbeddedClips], reference: EmbeddedClips | None, expected: int
    ) -> Measurement:
        """Mean over seeds, with the interval over prompts and seeds; raises ``MelodyError`` if there is no number."""
        values = {seed: self._value(column, clips, reference) for seed, clips in generated.items()}
        return over_seeds(values, expected, metrics.get(metric_of(column)))

    def of_clips(
        self, column: Column, clips: EmbeddedClips, reference: EmbeddedClips | None, expected: int
    ) -> Measurement:
        """The number of one set, with the interval over its clips; raises ``MelodyError`` if there is none."""
        return of_one_set(self._value(column, clips, reference), expected, metrics.get(metric_of(column)))

    def by_clip(self, column: Column, clips: EmbeddedClips) -> list[float]:
        """Each clip's own value; raises ``MelodyError`` for a metric whose clips have none."""
        value = self._value(column, clips, None)
        if not value.clips:
            raise MelodyError(value.reason or f"{metric_of(column)} is of sets: a clip alone has no number")
        return list(value.clips.values())

    def of_real(self, column: Column, real: EmbeddedClips) -> Measurement:
        """The held-out clips: of sets the mean over draws of as many as are generated against the others."""
        if input_kind_of(column) in OF_SETS:
            run, vectors = _vector_run(column, real)
            return floor.floor(run, vectors, self.suite.settings.prompts, SEED)
        value = self._value(column, real, None, self._held_out(column, real))
        measured = over_seeds({SEED: value}, self.suite.settings.reference_clips, metrics.get(metric_of(column)))
        return measured.model_copy(update={"by_seed": {}})

    def of_halves(self, column: Column, real: EmbeddedClips) -> Measurement:
        """One half of the held-out clips against the other."""
        run, vectors = _vector_run(column, real)
        return floor.halves(run, vectors, SEED)

    def of_control(self, column: Column, name: str, made: EmbeddedClips, real: EmbeddedClips) -> Measurement:
        """Clips of a control."""
        prompts = self.suite.settings.prompts
        if input_kind_of(column) not in OF_SETS:
            return self.of_clips(column, made, real, prompts)
        run, vectors = _vector_run(column, made)
        with metrics.around(run.metric):
            value = of_vectors(name, run, vectors, len(vectors), self._seen(column, run, real), SEED)
        return of_one_set(value, prompts, metrics.get(run.metric))

    def _value(
        self,
        column: Column,
        clips: EmbeddedClips,
        reference: EmbeddedClips | None,
        recordings: Sequence[Recording] | None = None,
    ) -> MetricValue:
        """A metric of one set of clips, as of ``melody evaluate``."""
        name, kind = metric_of(column), input_kind_of(column)
        with metrics.around(name):
            if kind in OF_SETS:
                run, vectors = _vector_run(column, clips)
                return over_sets(grouped(run, vectors, len(vectors), SEED, self._seen(column, run, reference)))
            if kind == "text_audio_embeddings":
                text, audio = clips.joint(column.hears if column.joint else "")
                return over_texts(run_on_vectors(name), text, audio, [str(place) for place in range(len(text))], SEED)
            run = of_waveforms(name, "waveforms", self.context.request.device)
            sounds = clips.recordings if recordings is None else recordings
            states = ((str(place), _states(run, sound)) for place, sound in enumerate(sounds))
            return over_clips(run, len(sounds), states, SEED)

    def _seen(self, column: Column, run: MetricRun, reference: EmbeddedClips | None) -> Any:
        """The metric, with a reference seen, once for each; raises ``MelodyError`` where a row lacks what it needs."""
        if reference is None:
            if metrics.get(run.metric).needs_reference:
                raise MelodyError(f"metric {run.metric!r} takes a set of reference sounds, which this row has not")
            return None
        key = (column.name, *map(id, reference.results))
        if key not in self._references:
            seen = filled(run, reference.vectors(column.hears), real=True)
            self._references[key] = (reference, seen)
        return self._references[key][1]

    def _held_out(self, column: Column, real: EmbeddedClips) -> list[Recording] | None:
        """The held-out clips as they are, which are the corpus's, and are not kept twice."""
        if input_kind_of(column) != "waveforms":
            return None
        corpus = self.context.loaded.corpus[: real.count]
        return [recording(clip.waveform(corpus.sample_rate), corpus.sample_rate) for clip in corpus]


def _vector_run(column: Column, clips: EmbeddedClips) -> tuple[MetricRun, list[Any]]:
    """A column's metric, and each clip's embeddings by the column's embedder."""
    vectors = clips.vectors(column.hears)
    return run_on_vectors(metric_of(column), column.tagger or column.embedder or "", vectors[0].shape[1]), vectors


def _states(run: MetricRun, sound: Recording) -> Tensors:
    """What ``over_clips`` adds up of one clip."""
    assert run.feature is not None
    hears_file = run.feature.hears == "file"
    waveform = sound.as_it_is if hears_file else sound.at(run.feature.sample_rate)
    return run.feature.compute(waveform, sound.facts)
