"""The paper's published samples: MeLoDy beside MusicLM on 64 prompts, and 12 samples of the angle schedules."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

from melody.data.corpus import Clip, Corpus
from melody.errors import MelodyError, did_you_mean
from melody.evaluation import levels
from melody.evaluation.result import Measurement
from melody.registry import tables
from melody.reproduce.context import texts_hash
from melody.reproduce.jobs.published_samples import PublishedSet, SamplesJob, published_corpus
from melody.reproduce.results import Cell
from melody.reproduce.suite import Column, Row
from melody.reproduce.tables.arguments import Uses
from melody.reproduce.tables.builder import CellValue, Quantity, embedders_of
from melody.reproduce.tables.metric_columns import (
    FED_BY_CLIPS,
    MetricColumns,
    input_kind_of,
    keeps_waveforms,
    metric_of,
)
from melody.reproduce.tables.table import RowJobs, RowResults, Table

MINUS = " minus "
SCHEDULES = "angle-schedules"
EXPECTED = {"melody": 64, "musiclm": 64, "linear 10": 3, "linear 20": 3, "uniform 10": 3, "uniform 20": 3}
"""Clips of each set, as published: 64 prompts by two systems, 3 instruments by 2 schedules by 2 numbers of steps."""
ABSENT = (
    "no published samples were given: git clone https://github.com/Efficient-MeLoDy/Efficient-MeLoDy.github.io, "
    "then --published-samples FOLDER (or MELODY_PUBLISHED_SAMPLES)"
)


@tables.register("published-samples")
class PublishedSamplesTable(Table):
    """The paper's published samples: every set, and every paired difference."""

    measures: ClassVar = {
        "duration_s": Quantity("duration", "none", "s"),
        "sample_rate": Quantity("sample-rate", "none", "Hz"),
        "loudness": Quantity("loudness"),
        "peak": Quantity("peak"),
        "clipping": Quantity("clipping-rate"),
        "silence": Quantity("silence-rate"),
        "cosine": Quantity("mcc"),
        "fad": Quantity("fad"),
    }
    uses = Uses(frozenset(), listed=frozenset({"set", "against"}), metrics=FED_BY_CLIPS)

    def check(self) -> None:
        """Raise ``MelodyError`` for an unknown set."""
        for listed in self.suite.rows:
            for name in _sets_of(listed.row):
                if name not in EXPECTED:
                    raise MelodyError(f"suite {self.suite.name}: unknown set {name!r}{did_you_mean(name, EXPECTED)}")

    @cached_property
    def _sets(self) -> dict[str, SamplesJob]:
        """One job a set, if the samples are there; raises ``MelodyError`` if the folder cannot be read."""
        if self.context.inputs.published_samples is None:
            return {}
        sets: dict[str, list[Clip]] = {name: [] for name in EXPECTED}
        for clip in published_corpus(self.context.inputs.published_samples):
            if (name := _set_of(clip)) is not None:
                sets[name].append(clip)
        embedders, kept = embedders_of(self.suite), keeps_waveforms(self.suite)
        return {
            name: SamplesJob.of(self.context, corpus=Corpus(name, clips), embedders=embedders, waveforms=kept)
            for name, clips in sets.items()
            if clips
        }

    def jobs(self, row: Row) -> RowJobs:
        return {name: [self._sets[name]] for name in _sets_of(row) if name in self._sets}

    def cell(self, row: Row, column: Column, results: RowResults) -> CellValue:
        if not self._sets:
            return CellValue(unavailable_reason=ABSENT)
        names = _sets_of(row)
        if lacking := [name for name in names if name not in self._sets]:
            return CellValue(unavailable_reason=f"the folder holds no samples of the set {lacking[0]!r}")
        jobs = results.planned_as(SamplesJob, *names)
        if reason := results.failure(*names):
            return CellValue(unavailable_reason=reason, jobs=jobs)
        measured = self._measured(row, column, names, results)
        if isinstance(measured, str):
            return CellValue(unavailable_reason=measured, jobs=jobs)
        inputs = texts_hash([facts["sound"] for job in jobs for facts in job.clips])
        config = {"sets": list(names), "clips": [len(job.clips) for job in jobs]}
        return CellValue(measured, jobs=jobs, inputs=inputs, config=config)

    def _measured(self, row: Row, column: Column, names: Sequence[str], results: RowResults) -> Measurement | str:
        """The number, or why there is none."""
        paired, expected = MINUS in str(row["set"]), EXPECTED[names[0]]
        sets = [PublishedSet((outcome,)) for outcome in results.computed(*names)]
        if paired and input_kind_of(column) == "embeddings":
            return f"{metric_of(column)} is of sets, not of pairs"
        if metric_of(column) and not paired:
            against = sets[1] if len(sets) > 1 else None
            return self._metrics.of_clips(column, sets[0], against, expected)
        values = [self._values(own, column) for own in sets]
        if not paired:
            known = [value for value in values[0] if value is not None]
            return levels.over_clips(known, expected) if known else "every clip is silent"
        pairs = _paired(self._sets[names[0]], values[0], self._sets[names[1]], values[1])
        if len(pairs) < 2:
            return f"{len(pairs)} pair gives no difference with an interval"
        return levels.difference([a for a, _ in pairs], [b for _, b in pairs], expected)

    @cached_property
    def _metrics(self) -> MetricColumns:
        return MetricColumns(self.suite, self.context)

    def _values(self, clips: PublishedSet, column: Column) -> Sequence[float | None]:
        """A number of each clip."""
        return self._metrics.by_clip(column, clips) if metric_of(column) else clips.levels(column.measure)

    def notes(self, cells: Sequence[Cell], results: Sequence[RowResults]) -> list[str]:
        """Clips scored and expected, by set: the fewest that any column scored."""
        counts: dict[str, tuple[int, int]] = {}
        for cell in cells:
            name = str(cell.row["set"])
            if cell.measured is not None and MINUS not in name:
                fewest = (cell.measured.scored, cell.measured.expected)
                counts[name] = min(fewest, counts.get(name, fewest))
        if not counts:
            return []
        return ["Clips scored of those expected: " + ", ".join(f"{n} {s} of {e}" for n, (s, e) in counts.items()) + "."]


def _paired(
    a: SamplesJob, values_a: Sequence[float | None], b: SamplesJob, values_b: Sequence[float | None]
) -> list[tuple[float, float]]:
    """Values of clips with the same text in both sets, in the order of the first."""
    other = {facts["text"]: value for facts, value in zip(b.clips, values_b, strict=True)}
    pairs = [(value, other.get(facts["text"])) for facts, value in zip(a.clips, values_a, strict=True)]
    return [(x, y) for x, y in pairs if x is not None and y is not None]


def _set_of(clip: Clip) -> str | None:
    facts = clip.attributes
    if facts.get("category") == SCHEDULES:
        name = f"{facts.get('angle_schedule')} {facts.get('num_steps')}"
    else:
        name = str(facts.get("system"))
    return name if name in EXPECTED else None


def _sets_of(row: Row) -> tuple[str, ...]:
    """The sets that a row is about: its own, and the one it is held against."""
    names = str(row["set"]).split(MINUS)
    if len(names) == 1 and "against" in row:
        names.append(str(row["against"]))
    return tuple(names)
