"""Columns of registered metrics: computed as ``melody evaluate`` does, with prompts and seeds as two levels.

A column names a metric, ``metric = "kad"``, with an ``embedder`` if it is one of embeddings. Those of texts and sounds
are fed by the preset's own joint embedding. What a metric of waveforms hears are the clips as float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from melody.data.recordings import AudioInfo, Recording
from melody.errors import MelodyError
from melody.evaluation.feature_store import Tensors
from melody.evaluation.plan import MetricRun, of_waveforms
from melody.evaluation.result import Measurement, Sample
from melody.evaluation.scoring import MetricValue, filled, grouped, over_clips, over_sets, over_texts
from melody.metrics.grouped_jackknife import merged, value_of
from melody.protocols import InputKind
from melody.registry import metrics
from melody.reproduce.context import Context
from melody.reproduce.jobs.job import Failure, JobResult
from melody.reproduce.suite import Column, Suite
from melody.reproduce.tables import estimates
from melody.reproduce.tables.builder import takes_embedder


def input_kind_of(column: Column) -> InputKind | None:
    """What a column's metric is fed; ``None`` for a column of a measure."""
    kind: InputKind | None = metrics.get(column.metric).input_kind if column.metric else None
    return kind


def keeps_waveforms(suite: Suite) -> bool:
    """Whether a column's metric hears the clips themselves."""
    return any(input_kind_of(column) == "waveforms" for column in suite.columns)


@dataclass(frozen=True)
class MetricColumns:
    """A suite's columns of registered metrics, in one run."""

    suite: Suite
    context: Context
    _references: dict[str, Any] = field(default_factory=dict)
    """A metric that has seen the reference, by column."""

    def of_generated(
        self,
        column: Column,
        generated: Mapping[int, JobResult],
        reference: Sequence[JobResult | Failure],
        expected: int,
    ) -> Measurement:
        """Mean over seeds, with the interval over prompts and seeds; raises ``MelodyError`` if there is no number."""
        values = {seed: self._value(column, clips, reference) for seed, clips in generated.items()}
        return two_levels(values, expected)

    def of_real(self, column: Column, real: JobResult) -> Measurement:
        """The held-out clips: of sets the mean over draws of as many as are generated against the others."""
        if takes_embedder(column):
            return self._floor(column, real)
        value = self._value(column, real, [], self._held_out(real))
        return two_levels({0: value}, self.suite.settings.reference_clips).model_copy(update={"by_seed": {}})

    def of_control(self, column: Column, made: JobResult, real: JobResult, *, alike: bool) -> Measurement:
        """Clips of a control; clips that are all one have no interval."""
        measured = two_levels({0: self._value(column, made, [real])}, self.suite.settings.prompts)
        update: dict[str, Any] = {"by_seed": {}}
        if alike:
            update |= {"low": None, "high": None, "interval": None, "standard_error": None, "sample": None}
        return measured.model_copy(update=update)

    def of_halves(self, column: Column, one: JobResult, places: Sequence[Sequence[int]]) -> Measurement:
        """One part of the held-out clips against another."""
        vectors = _vectors(column, one)
        run = _vector_run(column, vectors)
        with metrics.around(run.metric):
            other = filled(run, [vectors[place] for place in places[1]], real=True)
            groups = grouped(run, [vectors[place] for place in places[0]], len(places[0]), 0, other)
            value = over_sets(groups)
        return two_levels({0: value}, len(places[0])).model_copy(update={"by_seed": {}})

    def _value(
        self,
        column: Column,
        clips: JobResult,
        reference: Sequence[JobResult | Failure],
        recordings: Sequence[Recording] | None = None,
    ) -> MetricValue:
        """A metric of one set of clips, as of ``melody evaluate``."""
        name, kind = str(column.metric), input_kind_of(column)
        with metrics.around(name):
            if kind == "embeddings":
                vectors = _vectors(column, clips)
                run = _vector_run(column, vectors)
                return over_sets(grouped(run, vectors, len(vectors), 0, self._seen(column, run, reference)))
            if kind == "text_audio_embeddings":
                text, audio = estimates.joint(clips)
                identifiers = [str(place) for place in range(len(text))]
                return over_texts(MetricRun(name, name, {}, None, None, ""), text, audio, identifiers, 0)
            run = of_waveforms(name, "waveforms", self.context.device)
            sounds = _recordings(clips) if recordings is None else recordings
            states = ((str(place), _states(run, sound)) for place, sound in enumerate(sounds))
            return over_clips(run, len(sounds), states, 0)

    def _seen(self, column: Column, run: MetricRun, reference: Sequence[JobResult | Failure]) -> Any:
        """The metric, with the reference seen; once a column."""
        if column.name not in self._references:
            clips = [
                vector for found in reference if isinstance(found, JobResult) for vector in _vectors(column, found)
            ]
            self._references[column.name] = filled(run, clips, real=True)
        return self._references[column.name]

    def _floor(self, column: Column, real: JobResult) -> Measurement:
        """As ``estimates.fad_floor``, of any metric of sets."""
        vectors, count, draws = _vectors(column, real), self.suite.settings.prompts, estimates.FLOOR_DRAWS
        if count >= len(vectors):
            raise MelodyError(f"the floor needs more real clips than the {count} that are generated: {len(vectors)}")
        run, generator = _vector_run(column, vectors), torch.Generator().manual_seed(0)
        values = []
        with metrics.around(run.metric):
            for _ in range(draws):
                order = torch.randperm(len(vectors), generator=generator).tolist()
                drawn = filled(run, [vectors[place] for place in order[:count]], real=False)
                others = filled(run, [vectors[place] for place in order[count:]], real=True)
                values.append(value_of(merged(run.create, [drawn, others])))
        return estimates.over_draws(values, count)

    def _held_out(self, real: JobResult) -> list[Recording] | None:
        """The held-out clips as they are: these are the corpus's, and are not kept twice."""
        if not keeps_waveforms(self.suite):
            return None
        corpus = self.context.corpus[: real.values["clips"]]
        return [_recording(clip.waveform(corpus.sample_rate), corpus.sample_rate) for clip in corpus]


def two_levels(values: Mapping[int, MetricValue], expected: int) -> Measurement:
    """The mean over seeds: of a mean over clips, or of a number of the whole set, with prompts and seeds as two levels.

    Raises:
        MelodyError: a seed's clips have no number.
    """
    for value in values.values():
        if value.value is None:
            raise MelodyError(value.reason or "no clip could be scored")
    said = "; ".join(dict.fromkeys(warning for value in values.values() for warning in value.warnings))
    if all(value.clips for value in values.values()):
        measured = estimates.over_prompts(
            {seed: list(value.clips.values()) for seed, value in values.items()}, expected
        )
        return measured.model_copy(update={"warning": said or None})
    by_seed = {str(seed): float(value.value or 0.0) for seed, value in values.items()}
    scored, without = sum(value.scored for value in values.values()), [value.replicates for value in values.values()]
    if not all(without):
        mean = sum(by_seed.values()) / len(by_seed)
        return Measurement(value=mean, by_seed=by_seed, expected=expected, scored=scored, warning=said or None)
    prompts = next(iter(values.values())).scored
    estimate = estimates.Distances(by_seed, np.array(without), prompts).estimate
    measured = estimates.measurement(estimate, expected=expected, scored=scored, by_seed=by_seed)
    return measured.model_copy(update={"warning": said or None, "sample": Sample(of="set", rows=without)})


def _vectors(column: Column, clips: JobResult) -> list[Tensor]:
    """Each clip's embeddings by the column's embedder."""
    return estimates.clip_windows(clips, column.embedder or "")


def _vector_run(column: Column, vectors: Sequence[Tensor]) -> MetricRun:
    name = str(column.metric)
    takes = {parameter.name for parameter in metrics.parameters(name)}
    arguments = {"dimension": vectors[0].shape[1]} if "dimension" in takes else {}
    return MetricRun(f"{name}[{column.embedder}]", name, arguments, None, None, "")


def _recordings(clips: JobResult) -> list[Recording]:
    rate = int(clips.values["sample_rate"])
    return [_recording(row, rate) for row in torch.from_numpy(clips.arrays["waveform"])]


def _recording(waveform: Tensor, sample_rate: int) -> Recording:
    facts = AudioInfo(sample_rate, 1, len(waveform), float(waveform.abs().max()), "float32")
    return Recording(waveform, facts)


def _states(run: MetricRun, recording: Recording) -> Tensors:
    """What ``over_clips`` adds up of one clip."""
    assert run.feature is not None
    hears_file = run.feature.hears == "file"
    waveform = recording.as_it_is if hears_file else recording.at(run.feature.sample_rate)
    return run.feature.compute(waveform, recording.facts)
