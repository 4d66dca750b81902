"""What a kind of table is: one class, registered in ``melody.tables``, that the runner fills row by row.

A suite names its kind; the kind says which rows the table has, which jobs each row needs, and what a cell is by what
came of them. The loop over rows and columns, the paper's values, verdicts and provenance are the runner's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self, TypeVar

from melody.config import Preset
from melody.declared import Declaration
from melody.errors import MelodyError
from melody.protocols import Registered
from melody.registry import tables
from melody.reproduce.context import Context
from melody.reproduce.jobs.job import Failure, Job, JobResult, JobResults
from melody.reproduce.requested import RequestedRow, rows_of_axes
from melody.reproduce.results import Cell, Clip
from melody.reproduce.suite import Column, Row, Suite
from melody.reproduce.tables.arguments import Uses
from melody.reproduce.tables.builder import CellValue, Quantity

J = TypeVar("J", bound=Job)
RowJobs = Mapping[str, Sequence[Job]]
"""A row's jobs by what they are for, as in ``{"clips": [one a seed], "timing": [job]}``."""


@dataclass(frozen=True)
class RowResults:
    """A row's jobs, planned once, and what came of each; of what was not planned there is none."""

    jobs: RowJobs
    outcomes: JobResults

    def planned(self, *purposes: str) -> tuple[Job, ...]:
        """The jobs for some purposes, in order."""
        return tuple(job for purpose in purposes for job in self.jobs.get(purpose, ()))

    def planned_as(self, kind: type[J], *purposes: str) -> tuple[J, ...]:
        """The same, as the jobs of one kind that they are; raises ``TypeError`` for another."""
        jobs = self.planned(*purposes)
        for job in jobs:
            if not isinstance(job, kind):
                raise TypeError(f"{', '.join(purposes)}: a job of kind {job.kind!r}; expected {kind.kind!r}")
        return tuple(job for job in jobs if isinstance(job, kind))

    def of(self, *purposes: str) -> list[JobResult | Failure]:
        """What came of them."""
        return [self.outcomes[job.key] for job in self.planned(*purposes)]

    def failure(self, *purposes: str) -> str:
        """The reason of the first that failed; empty if none did."""
        return next((found.reason for found in self.of(*purposes) if isinstance(found, Failure)), "")

    def computed(self, *purposes: str) -> list[JobResult]:
        """Their results; raises ``MelodyError`` with the reason of the first that failed."""
        if reason := self.failure(*purposes):
            raise MelodyError(reason)
        return [found for found in self.of(*purposes) if isinstance(found, JobResult)]


class Table(Registered, ABC):
    """One kind of table; an object of it is the table of one suite in one run."""

    measures: ClassVar[Mapping[str, Quantity]]
    """What its columns may measure."""
    uses: ClassVar[Uses]
    """What of a suite it reads; all else is refused."""
    weightless: ClassVar[bool] = False
    """Whether it needs no trained weights, so that any preset can be named."""
    samples: ClassVar[bool] = False
    """Whether samplers that the run asks for are its rows."""

    suite: Suite
    context: Context

    _sized = False
    _declares = (
        Declaration("measures", "a dictionary of Quantity by name", lambda value: _are_quantities(value)),
        Declaration("uses", "a Uses", lambda value: isinstance(value, Uses)),
    )

    @classmethod
    def compares(cls, suite: Suite, system: str) -> bool:
        """Whether a system that the run asks for is a row of a suite, or is counted in one."""
        return False

    @classmethod
    def takes(cls, suite: Suite, row: RequestedRow) -> bool:
        """Whether what an option asks for is a row of a suite."""
        return cls.compares(suite, row.system)

    @classmethod
    def requests(cls, suite: Suite, preset: Preset) -> Iterable[RequestedRow]:
        """Systems that a suite needs beside those asked for, in a run of a preset: those that its axes make."""
        return rows_of_axes(suite, preset)

    def bound(self, suite: Suite, context: Context) -> Self:
        """The table, of a suite in a run."""
        self.suite, self.context = suite, context
        return self

    def check(self) -> None:
        """Raise ``MelodyError`` for what the suite asks for in vain, before anything is computed."""

    def rows(self) -> Sequence[Row]:
        """The rows in order: those that the suite lists, unless a kind has others."""
        return [listed.row for listed in self.suite.rows]

    @abstractmethod
    def jobs(self, row: Row) -> RowJobs:
        """What must be computed for a row; asked for once. Tables that plan the same job share it."""

    @abstractmethod
    def cell(self, row: Row, column: Column, results: RowResults) -> CellValue:
        """A column's value in a row; a ``MelodyError`` is the reason why there is none."""

    def notes(self, cells: Sequence[Cell], results: Sequence[RowResults]) -> Iterable[str]:
        """Lines for the table's head, from all its cells and the results of each row."""
        return ()

    def clips(self, row: Row, results: RowResults) -> Iterable[tuple[Clip, bytes]]:
        """Sounds of a row to listen to, as FLAC files."""
        return ()


def _are_quantities(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(quantity, Quantity) for quantity in value.values())


def kind_of(suite: Suite) -> type[Table]:
    """The suite's kind of table; raises ``MelodyError`` with the nearest valid one."""
    try:
        kind: type[Table] = tables.get(suite.kind)
    except MelodyError as error:
        raise MelodyError(f"suite {suite.name}: {error}") from None
    return kind


def table_of(suite: Suite, context: Context) -> Table:
    """The table of a suite in a run."""
    table: Table = tables.create(suite.kind)
    return table.bound(suite, context)
