"""Tables over kinds of sound: attribute agreement, Fréchet distance to real clips, and fit to the text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from melody.data.corpus import Corpus
from melody.errors import MelodyError, did_you_mean
from melody.evaluation.result import Measurement
from melody.metrics.attributes import ATTRIBUTES, TEMPO_TOLERANCE, AttributePrediction
from melody.metrics.statistics import mean_interval
from melody.metrics.text_correlation import cosines, derangement, permutation_p_value
from melody.reproduce.context import Context, texts_hash
from melody.reproduce.jobs.attribute_classifiers import classifiers_job
from melody.reproduce.jobs.clip_variants import SOUNDS, chosen_clips, heard_in, sound_jobs
from melody.reproduce.jobs.job import Failure, Job, JobResult
from melody.reproduce.jobs.overlap import overlap_jobs, overlap_note
from melody.reproduce.results import Clip
from melody.reproduce.suite import Column, Row, Suite
from melody.reproduce.tables import estimates
from melody.reproduce.tables.builder import CellValue, FilledTable, Quantity, TableBuilder
from melody.reproduce.tables.shared_jobs import setting_of, settings_row

MEASURES = {
    **{name: Quantity(f"{name}-agreement", "higher", "%") for name in ATTRIBUTES},
    "fad": Quantity("fad"),
    "mcc": Quantity("mcc"),
    "mcc_gain": Quantity("mcc-over-shuffled", "higher"),
}
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


def plan(suite: Suite, context: Context) -> list[Job]:
    """The judges, every row's sounds, and the real clips that distances are taken to.

    Raises:
        MelodyError: an unknown row, or a corpus with too few clips of distinct attributes.
    """
    known = [*SOUNDS, UNGUIDED, *DERIVED]
    for listed in suite.rows:
        if (name := str(listed.row.get("sound"))) not in known:
            raise MelodyError(f"suite {suite.name}: unknown sound {name!r}{did_you_mean(name, known)}")
        if not 1 <= _window(listed.row) <= _windows(listed.row):
            raise MelodyError(f"suite {suite.name}: {listed.row}: expected a window from 1 to {_windows(listed.row)}")
    sets = _Sets(suite, context)
    units = [
        classifiers_job(context, training_clips=suite.settings.training_clips),
        *overlap_jobs(context, sets.chosen),
    ]
    for listed in suite.rows:
        units += [*sets.of(listed.row), *sets.reference(listed.row)]
    return units


def fill(builder: TableBuilder) -> FilledTable:
    """Every sound by every measure."""
    filled, sets = FilledTable(), _Sets(builder.suite, builder.context)
    for listed in builder.suite.rows:
        filled.cells += [
            builder.cell(listed.row, column, builder.attempt(_finding, builder, sets, listed.row, column))
            for column in builder.suite.columns
        ]
        filled.clips += _clips(builder, sets, listed.row)
    filled.notes += overlap_note(builder.context, sets.chosen, builder.outcomes)
    return filled


def _windows(row: Row) -> int:
    """Into how many parts a row's sounds are cut, each as long as the suite's ``duration_s``."""
    return int(row.get("windows", 1))


def _window(row: Row) -> int:
    """Which of them is heard, counted from 1."""
    return int(row.get("window", 1))


@dataclass(frozen=True)
class _Sets:
    """Which units make which row."""

    suite: Suite
    context: Context

    @cached_property
    def chosen(self) -> list[int]:
        return chosen_clips(self.context, self.suite.settings.prompts)

    @property
    def held_out(self) -> int:
        return min(self.suite.settings.reference_clips, len(self.context.corpus))

    def reference(self, row: Row) -> list[Job]:
        """Of a row's length, the held-out clips whose captions are no prompts."""
        return self._units("real clips", [p for p in range(self.held_out) if p not in set(self.chosen)], _windows(row))

    def of(self, row: Row) -> list[Job]:
        sound, windows = str(row["sound"]), _windows(row)
        if sound == UNGUIDED:
            return self._units(TEXT, self.chosen, windows, guidance_scale=1.0)
        kind = {SHUFFLED: TEXT, CONSTANT: "real clips"}.get(sound, sound)
        return self._units(kind, self.chosen, windows)

    def _units(self, kind: str, places: Sequence[int], windows: int, guidance_scale: float | None = None) -> list[Job]:
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
            held_out=self.held_out,
            windows=windows,
        )


def _finding(builder: TableBuilder, sets: _Sets, row: Row, column: Column) -> CellValue:
    sound, settings = str(row["sound"]), builder.suite.settings
    reference = sets.reference(row) if column.measure == "fad" else []
    units = sets.of(row) + reference
    if column.measure not in ATTRIBUTES and sound in DERIVED:
        return CellValue(unavailable_reason=DERIVED[sound])
    if column.measure == "fad" and not reference:
        return CellValue(unavailable_reason="every held-out clip is a prompt's: none is left to take the distance to")
    outcomes = [heard_in(outcome, _window(row) - 1) for outcome in builder.computed(units)]
    own = outcomes[: len(sets.of(row))]
    measured = _measured(builder, sound, column, own, outcomes[len(own) :])
    config = {"sound": sound, "clips": settings.prompts, "duration_s": units[0].config["duration_s"]}
    if _windows(row) > 1:
        config |= {"windows": _windows(row), "window": _window(row)}
    if sound.startswith(TEXT) or sound == "own tokens":
        facts = units[0].config["options"]
        names = {"sampler": facts["sampler"]["name"], "grid": facts["grid"]["name"], "num_steps": facts["num_steps"]}
        config |= {**names, "guidance_scale": facts["guidance_scale"]}
    return CellValue(
        measured,
        units=tuple(units),
        inputs=texts_hash([text for outcome in own for text in outcome.values["texts"]]),
        config=config,
        seeds=(units[0].config["seed"],),
    )


def _measured(
    builder: TableBuilder, sound: str, column: Column, own: Sequence[JobResult], reference: Sequence[JobResult]
) -> Measurement:
    expected = builder.suite.settings.prompts
    if column.measure in ATTRIBUTES:
        training = builder.context.training(builder.suite.settings.training_clips)
        agrees = agreements(own, sound, training)[column.measure]
        return estimates.percentage(sum(agrees), len(agrees), expected)
    if column.measure == "fad":
        sets = [
            [s for outcome in some for s in estimates.clip_statistics(outcome, EMBEDDER)] for some in (own, reference)
        ]
        return estimates.fad_between(sets[0], sets[1], expected)
    text, audio = (torch.cat([estimates.joint(outcome)[side] for outcome in own]) for side in (0, 1))
    if column.measure == "mcc":
        return estimates.over_clips(cosines(text, audio).tolist(), expected)
    return _gain(text, audio, expected)


def agreements(outcomes: Sequence[JobResult], sound: str, training: Corpus) -> dict[str, list[bool]]:
    """By attribute, whether each clip agrees with its text, with another's (``SHUFFLED``), or a guess with its text."""
    facts = [facts for outcome in outcomes for facts in outcome.values["facts"]]
    heard = [AttributePrediction(**judged) for outcome in outcomes for judged in outcome.values["heard"]]
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
    measured = estimates.measurement(mean_interval(gains.numpy(), over="clips"), expected=expected, scored=len(gains))
    interval = f"{measured.interval}; p by permutation of the texts, one-sided"
    return measured.model_copy(update={"p_value": permutation_p_value(text, audio), "interval": interval})


def _clips(builder: TableBuilder, sets: _Sets, row: Row) -> list[tuple[Clip, bytes]]:
    """The first sounds of a row, unless they are another row's."""
    sound = str(row["sound"])
    if sound in DERIVED or _window(row) > 1:
        return []
    unit = sets.of(row)[0]
    outcome = builder.outcome(unit)
    if isinstance(outcome, Failure):
        return []
    stem = "".join(c if c.isalnum() else "-" for c in sound)
    return [
        (
            Clip(
                title=sound if _windows(row) == 1 else f"{sound}, {unit.config['duration_s']:g} s",
                text=outcome.values["parts"][0]["texts"][int(name)],
                path=f"audio/card-{stem}-{unit.key[:8]}-{name}.flac",
            ),
            content,
        )
        for name, content in sorted(outcome.clips.items())[:EXPORTED_CLIPS]
    ]
