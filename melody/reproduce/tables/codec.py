"""Tables on the codec by itself: held-out clips through it, against the original and, as a control, another clip."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from typing import ClassVar

from melody.errors import MelodyError, did_you_mean
from melody.evaluation import levels
from melody.evaluation.result import Measurement
from melody.metrics.statistics import jackknife
from melody.registry import tables
from melody.reproduce.jobs.components import CodecJob, rows_of
from melody.reproduce.jobs.job import Failure, JobResult
from melody.reproduce.results import Clip
from melody.reproduce.suite import Column, Row
from melody.reproduce.tables.arguments import Uses
from melody.reproduce.tables.builder import CellValue, Quantity
from melody.reproduce.tables.table import RowJobs, RowResults, Table

TARGETS = {"itself": "the original", "another": "another clip"}
OF_LATENTS = frozenset({"latent_mean", "latent_spread", "latent_clipped"})


@tables.register("codec")
class CodecTable(Table):
    """The codec by itself, on held-out clips."""

    measures: ClassVar = {
        "si_sdr": Quantity("si-sdr", "higher", "dB"),
        "mr_stft": Quantity("mr-stft", "lower"),
        "log_mel": Quantity("log-mel", "lower", "dB"),
        "latent_mean": Quantity("latent-mean"),
        "latent_spread": Quantity("latent-spread"),
        "latent_clipped": Quantity("latent-clipped", "lower", "%"),
    }
    uses = Uses(frozenset({"clips"}), listed=frozenset({"against"}))

    def check(self) -> None:
        """Raise ``MelodyError`` for a row that is held against something else."""
        for listed in self.suite.rows:
            if (name := str(listed.row.get("against"))) not in TARGETS.values():
                hint = did_you_mean(name, TARGETS.values())
                raise MelodyError(f"suite {self.suite.name}: unknown row {name!r}{hint}")

    @cached_property
    def _batches(self) -> list[CodecJob]:
        return CodecJob.batches(self.context, clips=self.suite.settings.clips, label="codec")

    def jobs(self, row: Row) -> RowJobs:
        return {"batches": self._batches}

    def cell(self, row: Row, column: Column, results: RowResults) -> CellValue:
        target = next(key for key, name in TARGETS.items() if name == row["against"])
        if column.measure in OF_LATENTS and target != "itself":
            return CellValue(unavailable_reason="the latents are the same whatever the sound is held against")
        outcomes, jobs = results.computed("batches"), results.planned_as(CodecJob, "batches")
        return CellValue(
            _measured(outcomes, target, column.measure, self.suite.settings.clips),
            jobs=jobs,
            inputs=jobs[0].corpus,
            config={"clips": jobs[0].clips, "against": row["against"]},
        )

    def clips(self, row: Row, results: RowResults) -> Iterator[tuple[Clip, bytes]]:
        """Each original with what the codec makes of it, once."""
        (job, *_), (outcome, *_) = results.planned("batches"), results.of("batches")
        if row != self.suite.rows[0].row or isinstance(outcome, Failure):
            return
        for name, content in sorted(outcome.clips.items(), key=lambda item: (item[0][:2], item[0].endswith("decoded"))):
            place, kind = name.split("-")
            title = f"{'through the codec' if kind == 'decoded' else 'original'}, {int(place) + 1}"
            path = f"audio/card-codec-{job.key[:8]}-{name}.flac"
            beside = f"audio/card-codec-{job.key[:8]}-{place}-original.flac" if kind == "decoded" else ""
            yield Clip(title=title, text=self.context.loaded.corpus[int(place)].text, path=path, beside=beside), content


def _measured(outcomes: Sequence[JobResult], target: str, measure: str, expected: int) -> Measurement:
    rows = partial(rows_of, outcomes)
    if measure == "latent_spread":
        moments = list(zip(rows("latent_mean"), rows("latent_square"), strict=True))
        return levels.measurement(jackknife(moments, _spread), expected=expected, scored=len(moments))
    if measure == "latent_clipped":
        return levels.over_clips([100 * share for share in rows(measure)], expected)
    return levels.over_clips(rows(measure if measure in OF_LATENTS else f"{target}.{measure}"), expected)


def _spread(moments: Sequence[tuple[float, float]]) -> float:
    """Standard deviation over all clips from each clip's mean and mean square."""
    mean, square = (sum(values) / len(moments) for values in zip(*moments, strict=True))
    return math.sqrt(max(0.0, square - mean * mean))
