"""Tables on the codec by itself: held-out clips through it, against the original and, as a control, another clip."""

from __future__ import annotations

import math
from collections.abc import Sequence

from melody.errors import MelodyError, did_you_mean
from melody.evaluation.result import Measurement
from melody.metrics.statistics import jackknife
from melody.reproduce.context import Context
from melody.reproduce.jobs.components import codec_jobs
from melody.reproduce.jobs.job import Failure, Job, JobResult
from melody.reproduce.results import Clip
from melody.reproduce.suite import Column, Row, Suite
from melody.reproduce.tables import estimates
from melody.reproduce.tables.builder import CellValue, FilledTable, Quantity, TableBuilder

MEASURES = {
    "si_sdr": Quantity("si-sdr", "higher", "dB"),
    "mr_stft": Quantity("mr-stft", "lower"),
    "log_mel": Quantity("log-mel", "lower", "dB"),
    "latent_mean": Quantity("latent-mean"),
    "latent_spread": Quantity("latent-spread"),
    "latent_clipped": Quantity("latent-clipped", "lower", "%"),
}
TARGETS = {"itself": "the original", "another": "another clip"}
OF_LATENTS = frozenset({"latent_mean", "latent_spread", "latent_clipped"})


def plan(suite: Suite, context: Context) -> list[Job]:
    """The clips in batches; raises ``MelodyError`` for a row that is held against something else."""
    for listed in suite.rows:
        if (name := str(listed.row.get("against"))) not in TARGETS.values():
            raise MelodyError(f"suite {suite.name}: unknown row {name!r}{did_you_mean(name, TARGETS.values())}")
    return codec_jobs(context, clips=suite.settings.clips)


def fill(builder: TableBuilder) -> FilledTable:
    """Every row by every measure, and a few pairs of sounds."""
    filled = FilledTable()
    units = codec_jobs(builder.context, clips=builder.suite.settings.clips)
    for listed in builder.suite.rows:
        filled.cells += [
            builder.cell(listed.row, column, builder.attempt(_finding, builder, units, listed.row, column))
            for column in builder.suite.columns
        ]
    filled.clips += _pairs(builder, units[0])
    return filled


def _finding(builder: TableBuilder, units: Sequence[Job], row: Row, column: Column) -> CellValue:
    target = next(key for key, name in TARGETS.items() if name == row["against"])
    if column.measure in OF_LATENTS and target != "itself":
        return CellValue(unavailable_reason="the latents are the same whatever the sound is held against")
    outcomes = builder.computed(units)
    clips = units[0].config["clips"]
    return CellValue(
        _measured(outcomes, target, column.measure, builder.suite.settings.clips),
        units=tuple(units),
        inputs=units[0].config["corpus"],
        config={"clips": clips, "against": row["against"]},
    )


def _measured(outcomes: Sequence[JobResult], target: str, measure: str, expected: int) -> Measurement:
    def rows(name: str) -> list[float]:
        return [value for outcome in outcomes for value in outcome.values["rows"][name]]

    if measure == "latent_spread":
        moments = list(zip(rows("latent_mean"), rows("latent_square"), strict=True))
        return estimates.measurement(jackknife(moments, _spread), expected=expected, scored=len(moments))
    if measure == "latent_clipped":
        return estimates.over_clips([100 * share for share in rows(measure)], expected)
    return estimates.over_clips(rows(measure if measure in OF_LATENTS else f"{target}.{measure}"), expected)


def _spread(moments: Sequence[tuple[float, float]]) -> float:
    """Standard deviation over all clips from each clip's mean and mean square."""
    mean, square = (sum(values) / len(moments) for values in zip(*moments, strict=True))
    return math.sqrt(max(0.0, square - mean * mean))


def _pairs(builder: TableBuilder, unit: Job) -> list[tuple[Clip, bytes]]:
    """Each original with what the codec makes of it."""
    outcome = builder.outcome(unit)
    if isinstance(outcome, Failure):
        return []
    clips = []
    for name, content in sorted(outcome.clips.items(), key=lambda item: (item[0][:2], item[0].endswith("decoded"))):
        row, kind = name.split("-")
        title = f"{'through the codec' if kind == 'decoded' else 'original'}, {int(row) + 1}"
        path = f"audio/card-codec-{unit.key[:8]}-{name}.flac"
        beside = f"audio/card-codec-{unit.key[:8]}-{row}-original.flac" if kind == "decoded" else ""
        text = builder.context.corpus[int(row)].text
        clips.append((Clip(title=title, text=text, path=path, beside=beside), content))
    return clips
