"""Tables over kinds of sound: attribute agreement, Fréchet distance to real clips, and fit to the text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

import torch

from melody.data.corpus import Corpus
from melody.errors import MelodyError, did_you_mean
from melody.evaluation import levels
from melody.evaluation.result import Measurement
from melody.metrics.attributes import ATTRIBUTES, TEMPO_TOLERANCE, AttributePrediction
from melody.metrics.statistics import mean_interval
from melody.metrics.text_correlation import cosines, derangement, permutation_p_value
from melody.registry import tables
from melody.reproduce.context import texts_hash
from melody.reproduce.jobs.attribute_classifiers import ClassifiersJob
from melody.reproduce.jobs.clip_variants import SOUNDS, HeardSounds, SoundsJob, chosen_clips, sound_jobs
from melody.reproduce.jobs.job import Failure
from melody.reproduce.jobs.overlap import OverlapJob, overlap_notes
from melody.reproduce.results import Cell, Clip
from melody.reproduce.suite import Column, Row
from melody.reproduce.tables.arguments import CLIPS, SAMPLING, Uses
from melody.reproduce.tables.builder import CellValue, Quantity
from melody.reproduce.tables.metric_columns import (
    FED_BY_CLIPS,
    MetricColumns,
    keeps_waveforms,
    metric_of,
    needs_reference,
)
from melody.reproduce.tables.shared_jobs import setting_of, settings_row
from melody.reproduce.tables.table import RowJobs, RowResults, Table

TEXT = "text"
UNGUIDED = "text, no guidance"
SHUFFLED = "text, prompts shuffled"
CONSTANT = "constant guess"
DERIVED = {
    SHUFFLED: "these are the sounds of another row",
    CONSTANT: "a guess has no sound",
}
EXPORTED_CLIPS = 2
EMBEDDER = "mel-stats"


@tables.register("attribute-agreement")
class AttributeAgreementTable(Table):
    """Kinds of sound: what classifiers hear in them, their distance to real clips, and how they fit their texts."""

    measures: ClassVar = {
        **{name: Quantity(f"{name}-agreement", "higher", "%") for name in ATTRIBUTES},
        "fad": Quantity("fad"),
        "mcc": Quantity("mcc"),
        "mcc_gain": Quantity("mcc-over-shuffled", "higher"),
    }
    uses = Uses(
        CLIPS | SAMPLING | {"reference_clips", "training_clips"},
        listed=frozenset({"sound", "windows", "window"}),
        embedders=frozenset({EMBEDDER}),
        judged=False,
        metrics=FED_BY_CLIPS,
    )

    def check(self) -> None:
        """Raise ``MelodyError`` for an unknown row."""
        known = [*SOUNDS, UNGUIDED, *DERIVED]
        for row in self.rows():
            where = f"suite {self.suite.name}"
            if (name := str(row.get("sound"))) not in known:
                raise MelodyError(f"{where}: unknown sound {name!r}{did_you_mean(name, known)}")
            if not 1 <= _window(row) <= _windows(row):
                raise MelodyError(f"{where}: {row}: expected a window from 1 to {_windows(row)}")

    def jobs(self, row: Row) -> RowJobs:
        """The classifiers, the row's sounds, and the real clips that distances are taken to.

        Raises:
            MelodyError: a corpus with too few clips of distinct attributes.
        """
        sounds, reference = self._sounds(row), self._reference(row)
        return {**self._shared, "sounds": sounds, "reference": reference}

    @cached_property
    def _shared(self) -> RowJobs:
        classifiers = ClassifiersJob.of(self.context, training_clips=self.suite.settings.training_clips)
        return {"classifiers": [classifiers], "overlap": [OverlapJob.of(self.context, self._chosen)]}

    @cached_property
    def _chosen(self) -> list[int]:
        return chosen_clips(self.context, self.suite.settings.prompts)

    @property
    def _held_out(self) -> int:
        return min(self.suite.settings.reference_clips, len(self.context.loaded.corpus))

    def _reference(self, row: Row) -> list[SoundsJob]:
        """Of a row's length, the held-out clips whose captions are no prompts."""
        others = [place for place in range(self._held_out) if place not in set(self._chosen)]
        return self._jobs_of("real clips", others, _windows(row))

    def _sounds(self, row: Row) -> list[SoundsJob]:
        sound, windows = str(row["sound"]), _windows(row)
        if sound == UNGUIDED:
            return self._jobs_of(TEXT, self._chosen, windows, guidance_scale=1.0)
        kind = {SHUFFLED: TEXT, CONSTANT: "real clips"}.get(sound, sound)
        return self._jobs_of(kind, self._chosen, windows)

    def _jobs_of(
        self, kind: str, places: Sequence[int], windows: int, guidance_scale: float | None = None
    ) -> list[SoundsJob]:
        settings = self.suite.settings
        duration_s = windows * settings.duration_s
        setting = setting_of(self.suite, self.context, settings_row(self.suite), duration_s=duration_s)
        if guidance_scale is not None:
            setting = replace(setting, options={**setting.options, "guidance_scale": guidance_scale})
        return sound_jobs(
            self.context,
            kind,
            places,
            setting=setting,
            embedder=EMBEDDER,
            training_clips=settings.training_clips,
            seed=self.context.seeds(settings.seeds)[0],
            held_out=self._held_out,
            windows=windows,
            waveforms=keeps_waveforms(self.suite),
        )

    @cached_property
    def _metrics(self) -> MetricColumns:
        return MetricColumns(self.suite, self.context)

    def cell(self, row: Row, column: Column, results: RowResults) -> CellValue:
        sound, settings = str(row["sound"]), self.suite.settings
        if column.measure not in ATTRIBUTES and sound in DERIVED:
            return CellValue(unavailable_reason=DERIVED[sound])
        purposes = ["sounds", *(["reference"] if needs_reference(column) else [])]
        if needs_reference(column) and not results.planned("reference"):
            return CellValue(
                unavailable_reason="every held-out clip is a prompt's: none is left to take the distance to"
            )
        results.computed(*purposes)
        jobs, heard = results.planned_as(SoundsJob, *purposes), _heard(row, results, "sounds")
        config = {"sound": sound, "clips": settings.prompts, "duration_s": jobs[0].duration_s}
        if _windows(row) > 1:
            config |= {"windows": _windows(row), "window": _window(row)}
        if sound.startswith(TEXT) or sound == "own tokens":
            facts = jobs[0].options
            names = {"sampler": facts["sampler"]["name"], "grid": facts["grid"]["name"]}
            config |= {**names, "num_steps": facts["num_steps"], "guidance_scale": facts["guidance_scale"]}
        return CellValue(
            self._measured(row, column, results),
            jobs=jobs,
            inputs=texts_hash(heard.texts),
            config=config,
            seeds=(jobs[0].seed,),
        )

    def _measured(self, row: Row, column: Column, results: RowResults) -> Measurement:
        own, settings = _heard(row, results, "sounds"), self.suite.settings
        if column.measure in ATTRIBUTES:
            training = self.context.loaded.training(settings.training_clips)
            agrees = agreements(own, str(row["sound"]), training)[column.measure]
            return levels.percentage(sum(agrees), len(agrees), settings.prompts)
        if metric_of(column):
            real = _heard(row, results, "reference") if needs_reference(column) else None
            return self._metrics.of_clips(column, own, real, settings.prompts)
        return _gain(own.text, own.audio, settings.prompts)

    def notes(self, cells: Sequence[Cell], results: Sequence[RowResults]) -> list[str]:
        """What training has met of the prompts."""
        return overlap_notes(results[0].of("overlap")) if results else []

    def clips(self, row: Row, results: RowResults) -> Iterator[tuple[Clip, bytes]]:
        """The first sounds of a row, unless they are another row's."""
        sound = str(row["sound"])
        if sound in DERIVED or _window(row) > 1:
            return
        job, outcome = results.planned_as(SoundsJob, "sounds")[0], results.of("sounds")[0]
        if isinstance(outcome, Failure):
            return
        stem = "".join(c if c.isalnum() else "-" for c in sound)
        texts = HeardSounds.of([outcome], window=0).texts
        for name, content in sorted(outcome.clips.items())[:EXPORTED_CLIPS]:
            clip = Clip(
                title=sound if _windows(row) == 1 else f"{sound}, {job.duration_s:g} s",
                text=texts[int(name)],
                path=f"audio/card-{stem}-{job.key[:8]}-{name}.flac",
            )
            yield clip, content


def _windows(row: Row) -> int:
    """Into how many parts a row's sounds are cut, each as long as the suite's ``duration_s``."""
    return int(row.get("windows", 1))


def _window(row: Row) -> int:
    """Which of them is heard, counted from 1."""
    return int(row.get("window", 1))


def _heard(row: Row, results: RowResults, purpose: str) -> HeardSounds:
    return HeardSounds.of(results.computed(purpose), window=_window(row) - 1)


def agreements(sounds: HeardSounds, sound: str, training: Corpus) -> dict[str, list[bool]]:
    """By attribute, whether each clip agrees with its text, with another's (``SHUFFLED``), or a guess with its text."""
    facts, heard = sounds.attributes, sounds.predictions
    if sound == CONSTANT:
        heard = [constant_guess(training)] * len(facts)
    if sound == SHUFFLED:
        facts = [facts[place] for place in derangement(len(facts), seed=0)]
    rows = [judged.agreement(true) for judged, true in zip(heard, facts, strict=True)]
    return {name: [row[name] for row in rows] for name in ATTRIBUTES}


def constant_guess(training: Corpus) -> AttributePrediction:
    """The one answer that would agree most often with the training clips: what chance is."""
    facts = [clip.attributes for clip in training]
    bpm = torch.tensor([float(f["bpm"]) for f in facts])
    guesses = bpm.unique()
    agreeing = ((guesses[:, None] / bpm - 1).abs() <= TEMPO_TOLERANCE).sum(dim=1)

    def most_common(name: str) -> str:
        return str(Counter(f[name] for f in facts).most_common(1)[0][0])

    return AttributePrediction(
        most_common("instrument"), float(guesses[agreeing.argmax()]), most_common("mode"), most_common("drums") == "yes"
    )


def _gain(text: torch.Tensor, audio: torch.Tensor, expected: int) -> Measurement:
    """Each sound's cosine with its own text, less the mean of those with all others' texts."""
    right = cosines(text, audio)
    normalised = [torch.nn.functional.normalize(x.double(), dim=1) for x in (text, audio)]
    every = (normalised[1] @ normalised[0].T).sum(dim=1)
    gains = right - (every - right) / (len(right) - 1)
    measured = levels.measurement(mean_interval(gains.numpy(), over="clips"), expected=expected, scored=len(gains))
    interval = f"{measured.interval}; p by permutation of the texts, one-sided"
    return measured.model_copy(update={"p_value": permutation_p_value(text, audio), "interval": interval})
