"""The paper's published samples: MeLoDy beside MusicLM on 64 prompts, and 12 samples of the angle schedules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from melody.data.corpus import Clip, Corpus
from melody.errors import MelodyError, did_you_mean
from melody.evaluation.result import Measurement
from melody.metrics.text_correlation import cosines
from melody.reproduce.context import Context, texts_hash
from melody.reproduce.jobs.job import Failure, Job, JobResult
from melody.reproduce.jobs.published_samples import published_corpus, samples_job
from melody.reproduce.results import Cell
from melody.reproduce.suite import Column, Row, Suite
from melody.reproduce.tables import estimates
from melody.reproduce.tables.builder import CellValue, FilledTable, Quantity, TableBuilder, embedders_of

MEASURES = {
    "duration_s": Quantity("duration", "none", "s"),
    "sample_rate": Quantity("sample-rate", "none", "Hz"),
    "loudness": Quantity("loudness"),
    "peak": Quantity("peak"),
    "clipping": Quantity("clipping-rate"),
    "silence": Quantity("silence-rate"),
    "cosine": Quantity("mcc"),
    "fad": Quantity("fad"),
}
MINUS = " minus "
SCHEDULES = "angle-schedules"
EXPECTED = {"melody": 64, "musiclm": 64, "linear 10": 3, "linear 20": 3, "uniform 10": 3, "uniform 20": 3}
"""Clips of each set, as published: 64 prompts by two systems, 3 instruments by 2 schedules by 2 numbers of steps."""
ABSENT = (
    "no published samples were given: git clone https://github.com/Efficient-MeLoDy/Efficient-MeLoDy.github.io, "
    "then --published-samples FOLDER (or MELODY_PUBLISHED_SAMPLES)"
)


def plan(suite: Suite, context: Context) -> list[Job]:
    """One unit a set, if the samples are there; raises ``MelodyError`` if the folder cannot be read."""
    for listed in suite.rows:
        for name in _sets_of(listed.row):
            if name not in EXPECTED:
                raise MelodyError(f"suite {suite.name}: unknown set {name!r}{did_you_mean(name, EXPECTED)}")
    if context.published_samples is None:
        return []
    return list(_jobs(suite, context).values())


def fill(builder: TableBuilder) -> FilledTable:
    """Every set, and every paired difference."""
    filled = FilledTable()
    units = {} if builder.context.published_samples is None else _jobs(builder.suite, builder.context)
    for listed in builder.suite.rows:
        for column in builder.suite.columns:
            finder = _Finder(builder, units, listed.row, column)
            finding = builder.attempt(finder.finding) if units else CellValue(unavailable_reason=ABSENT)
            filled.cells.append(builder.cell(listed.row, column, finding))
    filled.notes += _counts(filled.cells)
    return filled


def _counts(cells: Sequence[Cell]) -> list[str]:
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


@dataclass(frozen=True)
class _Finder:
    """One cell that is being measured."""

    builder: TableBuilder
    units: dict[str, Job]
    row: Row
    column: Column

    def finding(self) -> CellValue:
        names = _sets_of(self.row)
        lacking = [name for name in names if name not in self.units]
        if lacking:
            return CellValue(unavailable_reason=f"the folder holds no samples of the set {lacking[0]!r}")
        units = tuple(self.units[name] for name in names)
        outcomes = [self.builder.outcome(unit) for unit in units]
        for outcome in outcomes:
            if isinstance(outcome, Failure):
                return CellValue(unavailable_reason=outcome.reason, units=units)
        measured = self._measured(names, [o for o in outcomes if isinstance(o, JobResult)])
        if isinstance(measured, str):
            return CellValue(unavailable_reason=measured, units=units)
        inputs = texts_hash([facts["sound"] for unit in units for facts in unit.config["clips"]])
        config = {"sets": list(names), "clips": [len(unit.config["clips"]) for unit in units]}
        return CellValue(measured, units=units, inputs=inputs, config=config)

    def _measured(self, names: Sequence[str], outcomes: Sequence[JobResult]) -> Measurement | str:
        """The number, or why there is none."""
        paired = MINUS in str(self.row["set"])
        expected = EXPECTED[names[0]]
        if self.column.measure == "fad":
            if paired:
                return "a Fréchet distance is between sets, not between pairs"
            embedder = self.column.embedder or ""
            sets = [estimates.clip_statistics(outcome, embedder) for outcome in outcomes]
            return estimates.fad_between(sets[0], sets[1], expected)
        rows = [_values(outcome, self.column.measure) for outcome in outcomes]
        if not paired:
            known = [value for value in rows[0] if value is not None]
            return estimates.over_clips(known, expected) if known else "every clip is silent"
        pairs = _paired(self.units[names[0]], rows[0], self.units[names[1]], rows[1])
        if len(pairs) < 2:
            return f"{len(pairs)} pair gives no difference with an interval"
        return estimates.difference([a for a, _ in pairs], [b for _, b in pairs], expected)


def _values(outcome: JobResult, measure: str) -> list[float | None]:
    if measure == "cosine":
        return [float(value) for value in cosines(*estimates.joint(outcome))]
    return list(outcome.values["rows"][measure])


def _paired(
    a: Job, values_a: Sequence[float | None], b: Job, values_b: Sequence[float | None]
) -> list[tuple[float, float]]:
    """Values of clips with the same text in both sets, in the order of the first."""
    other = {facts["text"]: value for facts, value in zip(b.config["clips"], values_b, strict=True)}
    pairs = [(value, other.get(facts["text"])) for facts, value in zip(a.config["clips"], values_a, strict=True)]
    return [(x, y) for x, y in pairs if x is not None and y is not None]


def _jobs(suite: Suite, context: Context) -> dict[str, Job]:
    embedders, corpus = embedders_of(suite), published_corpus(context)
    sets: dict[str, list[Clip]] = {name: [] for name in EXPECTED}
    for clip in corpus:
        name = _set_of(clip)
        if name is not None:
            sets[name].append(clip)
    return {
        name: samples_job(context, corpus=Corpus(name, clips), embedders=embedders)
        for name, clips in sets.items()
        if clips
    }


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
