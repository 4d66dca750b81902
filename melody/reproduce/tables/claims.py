"""The abstract's claims of passes saved against MusicLM, by what is counted and by every formula that is printed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

from melody.errors import MelodyError, did_you_mean
from melody.evaluation.result import Measurement
from melody.metrics.passes import continued_passes, melody_passes, musiclm_passes, musiclm_serial_passes, saving
from melody.registry import tables
from melody.reproduce.jobs.job import Job
from melody.reproduce.results import Projection
from melody.reproduce.suite import Column, Row, Suite
from melody.reproduce.tables.arguments import SAMPLING, Uses
from melody.reproduce.tables.builder import PASSES, CellValue, Quantity
from melody.reproduce.tables.passes_and_preference import counted
from melody.reproduce.tables.shared_jobs import count
from melody.reproduce.tables.table import RowJobs, RowResults, Table

FORMULAS: dict[str, tuple[Callable[[float, int], float], Callable[[float], float], str]] = {
    "printed formula": (melody_passes, musiclm_passes, "Table 3: 25·T + steps against (25 + 200 + 400)·T"),
    "Algorithm 2 by formula": (
        continued_passes,
        musiclm_passes,
        "Algorithm 2: 10 s, then 2.5 s a continuation with all steps again",
    ),
    "sampler's passes twice, as guidance is": (
        lambda duration_s, steps: melody_passes(duration_s, steps, 2),
        musiclm_passes,
        "25·T + 2·steps: both halves of guidance counted, against Table 3's formula",
    ),
    "MusicLM's fine windows in one batch": (
        melody_passes,
        musiclm_serial_passes,
        "25·T + steps against (25 + 200)·T and one fine window: they do not wait for one another (derived)",
    ),
    "sampler's passes alone": (
        lambda duration_s, steps: continued_passes(duration_s, steps) - math.ceil(25 * duration_s),
        musiclm_passes,
        "Algorithm 2's sampler runs, MeLoDy's own tokens left out, against Table 3's formula",
    ),
}
COUNTED = "counted by hooks"
BOTH = "both counted by hooks"
"""MusicLM's passes too, where the run has such a system with weights, as ``[settings.counted]`` says."""
AT_BEST = "both counted by hooks, MusicLM as fast as it can"
"""By its own defaults: fine windows in one batch."""
THEIRS = "musiclm"


@tables.register("claims")
class ClaimsTable(Table):
    """The abstract's claims of passes saved: every claim by every basis."""

    measures: ClassVar = {
        "saving": Quantity("passes-saved", "higher", "%"),
        "passes": PASSES,
        "musiclm_passes": Quantity("passes-by-formula", "lower", "passes"),
    }
    uses = Uses(SAMPLING | {"prompts", "guidance_scale", "counted"}, listed=frozenset({"basis", "duration_s"}))

    @classmethod
    def compares(cls, suite: Suite, system: str) -> bool:
        """MusicLM's passes are counted."""
        return system == THEIRS

    def check(self) -> None:
        """Raise ``MelodyError`` for a row of no known basis, or of no duration."""
        for listed in self.suite.rows:
            _check_row(self.suite, listed.row)

    def jobs(self, row: Row) -> RowJobs:
        """One generation of each system that is counted."""
        basis, duration_s = row["basis"], float(row["duration_s"])
        jobs: dict[str, Sequence[Job]] = {}
        if basis in (COUNTED, BOTH, AT_BEST):
            jobs["ours"] = [count(self.suite, self.context, duration_s)]
        if basis in (BOTH, AT_BEST) and not self.context.unavailable_reason(THEIRS):
            jobs["theirs"] = [count(self.suite, self.context, duration_s, THEIRS, by_default=basis == AT_BEST)]
        return jobs

    def cell(self, row: Row, column: Column, results: RowResults) -> CellValue:
        basis, duration_s = str(row["basis"]), float(row["duration_s"])
        if basis in (BOTH, AT_BEST):
            return self._both(column, results, duration_s)
        if basis == COUNTED:
            return self._ours_counted(column, results, duration_s)
        ours, theirs, place = FORMULAS[basis]
        passes = {"passes": ours(duration_s, self.suite.settings.num_steps), "musiclm_passes": theirs(duration_s)}
        value = passes.get(column.measure, saving(*passes.values()))
        return CellValue(
            projected=Projection(value=float(value), method=place), unavailable_reason="this row is by formula only"
        )

    def _ours_counted(self, column: Column, results: RowResults, duration_s: float) -> CellValue:
        theirs = musiclm_passes(duration_s)
        if column.measure == "musiclm_passes":
            return CellValue(
                projected=Projection(value=theirs, method="Table 3: (25 + 200 + 400)·T"),
                unavailable_reason="MusicLM's passes are by formula here",
            )
        ours = counted(self, results, "ours", "passes", duration_s)
        if ours.measured is None or column.measure == "passes":
            return ours
        return replace(ours, measured=_with_value(ours.measured, saving(ours.measured.value, theirs)))

    def _both(self, column: Column, results: RowResults, duration_s: float) -> CellValue:
        ours = counted(self, results, "ours", "passes", duration_s)
        theirs = counted(self, results, "theirs", "passes", duration_s, THEIRS)
        if column.measure == "passes":
            return ours
        if column.measure == "musiclm_passes" or theirs.measured is None:
            return theirs
        if ours.measured is None:
            return ours
        measured = _with_value(theirs.measured, saving(ours.measured.value, theirs.measured.value))
        return replace(theirs, measured=measured, jobs=(*ours.jobs, *theirs.jobs))


def _with_value(measured: Measurement, value: float) -> Measurement:
    return measured.model_copy(update={"value": value})


def _check_row(suite: Suite, row: Row) -> None:
    where, bases = f"suite {suite.name}: row {row}", [COUNTED, BOTH, AT_BEST, *FORMULAS]
    if row.get("basis") not in bases:
        raise MelodyError(f"{where}: unknown basis {row.get('basis')!r}{did_you_mean(str(row.get('basis')), bases)}")
    duration_s = row.get("duration_s")
    if isinstance(duration_s, str) or duration_s is None or duration_s <= 0:
        raise MelodyError(f"{where}: duration_s: expected a number above 0, got {duration_s!r}")
