"""The runner: plan the jobs of all suites, compute those that the store lacks, fill the tables."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from melody.artifacts.store import Store
from melody.config import Preset, load_preset
from melody.errors import MelodyError, one_line
from melody.listening.schema import ListeningResult
from melody.plugins import contained
from melody.registry import Entry
from melody.registry import tables as kinds
from melody.reproduce.asked import Tell, check_options, missing_extras, options_of
from melody.reproduce.context import Context
from melody.reproduce.executor import Progress, RunSummary, compute_all
from melody.reproduce.jobs.job import Failure, Job, JobResult, JobResults
from melody.reproduce.jobs.speed import check_precision
from melody.reproduce.orderings import ordering_notes, orderings
from melody.reproduce.requested import RequestedRow, requested_rows
from melody.reproduce.results import RESULTS, Cell, Clip, Results, Share
from melody.reproduce.results import Table as FilledTable
from melody.reproduce.run_inputs import BUDGET_S, RunRequest
from melody.reproduce.statements import statements
from melody.reproduce.suite import Baseline, Column, Row, Suite, load_baselines
from melody.reproduce.tables.arguments import check_arguments
from melody.reproduce.tables.builder import CellValue, TableBuilder, check_measures
from melody.reproduce.tables.table import RowJobs, RowResults, Table, kind_of, table_of
from melody.reproduce.verdicts import target_notes, targets

logger = logging.getLogger(__name__)
T = TypeVar("T")


def reproduce(
    suites: Sequence[Suite],
    *,
    preset: str | Path | Preset = "demo",
    weights: str | Path | None = None,
    device: str = "cpu",
    samplers: Sequence[str] | None = None,
    grids: Sequence[str] | None = None,
    seed: int = 0,
    store: Store,
    output: Path,
    published_samples: Path | None = None,
    split: str = "test",
    systems: Sequence[str] = (),
    presets: Sequence[str] = (),
    components: Mapping[str, Sequence[str]] | None = None,
    ratings: ListeningResult | None = None,
    precision: str = "fp32",
    budget_s: float = BUDGET_S,
    progress: Progress | None = None,
    tell: Tell = logger.warning,
    command: str = "",
) -> Results:
    """Fill the tables of suites for a preset of ours, and write ``results.json`` and a few clips into ``output``.

    Args:
        samplers: exactly these, instead of each suite's and every plug-in's.
        grids: the same of grids.
        seed: added to every seed of a suite.
        split: the held-out split, ``test``, ``validation`` or ``test-2``.
        systems: others to compare with (``NAME``, ``NAME=WEIGHTS``, a TOML file), beside those of ours whose weights
            are shipped and every plug-in.
        presets: further presets of ours as rows, ``NAME_OR_FILE`` or ``NAME_OR_FILE=WEIGHTS``.
        components: by role of the preset, others in that role as rows, ``NAME`` or ``NAME=WEIGHTS``.
        ratings: what listeners said of systems of these names.
        precision: of the speed table's networks: fp32, bf16 or fp16.
        budget_s: seconds that the speed table may spend on each system.
        tell: takes what must be said before anything is computed, such as options that a suite has no use for.
    Raises:
        MelodyError: bad input, found before anything is computed; a store or an output that cannot be written.
    """
    check_timing(suites, precision, budget_s)
    rows = requested_rows(systems, presets, components or {})
    own = preset if isinstance(preset, Preset) else load_preset(preset)
    options = options_of(
        rows,
        samplers,
        grids,
        ratings=ratings is not None,
        published_samples=_is_asked(published_samples),
        budget=budget_s != BUDGET_S,
    )
    check_options(suites, list(options), tell)
    for line in missing_extras(suites):
        tell(line)
    sizes = {row.title(own): row.preset(own) for row in rows if row.is_of_ours}
    request = RunRequest(device, seed, _once(samplers), ratings, precision, budget_s, grids=_once(grids), sizes=sizes)
    given: dict[str, Any] = {"weights": weights, "published_samples": published_samples, "split": split}
    context = _context(suites, own, request, rows, given)
    return run(suites, context, store=store, output=output, progress=progress, command=command)


def _is_asked(published_samples: Path | None) -> bool:
    """What the environment gives is given to every run, and asked for in none."""
    from melody.reproduce.subject import PUBLISHED_SAMPLES

    return published_samples is not None and str(published_samples) != os.environ.get(PUBLISHED_SAMPLES)


def _once(names: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(dict.fromkeys(names))


def _context(
    suites: Sequence[Suite],
    own: Preset,
    request: RunRequest,
    rows: Sequence[RequestedRow],
    given: Mapping[str, Any],
) -> Context:
    """What there is to measure: the preset with random weights where no suite needs trained ones."""
    from melody.reproduce.subject import preset_context, random_context

    if given["weights"] is None and all(kind_of(suite).weightless for suite in suites):
        return random_context(own, request)
    needed = {each.title(own): each for suite in suites for each in kind_of(suite).requests(suite, own)}
    return preset_context(own, request, systems=[*rows, *needed.values()], **given)


def run(
    suites: Sequence[Suite],
    context: Context,
    *,
    store: Store,
    output: Path,
    progress: Progress | None = None,
    command: str = "",
) -> Results:
    """As ``reproduce``, for any context."""
    begin = time.perf_counter()
    context.progress = progress
    check_folder(output)
    baselines = load_baselines()
    planned = plan(suites, context)
    jobs = planned.jobs
    prepare = None if all(kind_of(suite).weightless for suite in suites) else context.loaded.load

    def compute(job: Job) -> JobResult:
        return replace(job.compute(context.loaded), origin=context.origin)

    computed = compute_all(jobs, store, compute, prepare=prepare, progress=progress)
    filled = [fill(table, computed.outcomes, baselines) for table in planned.tables]
    failed = [
        f"{job.label}: {outcome.reason}" for job in jobs if isinstance(outcome := computed.outcomes[job.key], Failure)
    ]
    results = Results(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        seconds=round(time.perf_counter() - begin, 3),
        cells_computed=computed.computed,
        cells_reused=computed.reused,
        split=split(jobs, computed),
        statements=statements([table.suite for table in planned.tables], [table for table, _ in filled]),
        failures=[*planned.broken, *failed],
        tables=[table for table, _ in filled],
    )
    write(results, [clip for _, clips in filled for clip in clips], output)
    return results


def split(jobs: Sequence[Job], computed: RunSummary) -> list[Share]:
    """Where the time went, by system and kind of work, the longest first."""
    taken: dict[str, list[float]] = {}
    for job in jobs:
        if job.key in computed.seconds:
            taken.setdefault(f"{job.system_name}: {job.kind}", []).append(computed.seconds[job.key])
    shares = [Share(work=work, units=len(each), seconds=round(sum(each), 3)) for work, each in taken.items()]
    return sorted(shares, key=lambda share: -share.seconds)


def check_timing(suites: Sequence[Suite], precision: str, budget_s: float) -> None:
    """Raise ``MelodyError`` for a precision that is unknown or that no suite of the run has, and for no budget."""
    if check_precision(precision) != "fp32" and all(suite.kind != "speed" for suite in suites):
        raise MelodyError(f"--precision {precision}: only the speed table has another precision than fp32")
    if not budget_s > 0:
        raise MelodyError(f"the budget is {budget_s} s: expected more than 0")


@dataclass(frozen=True)
class PlannedTable:
    """A suite's table with its rows, and what must be computed for each, planned once."""

    suite: Suite
    context: Context
    table: Table
    rows: list[tuple[Row, RowJobs]]

    @property
    def plugin(self) -> Entry | None:
        """Where the kind of table comes from, if it is not one of ours."""
        entry = kinds.entry(self.suite.kind)
        return None if entry.in_tree else entry

    def cell(self, row: Row, column: Column, results: RowResults) -> CellValue:
        """A cell's value; what cannot be estimated, as of one clip or of silence, spoils only its own cell."""
        try:
            if self.plugin is None:
                return self.table.cell(row, column, results)
            with contained(_whose(self.suite, self.plugin)):
                return self.table.cell(row, column, results)
        except MelodyError as error:
            return CellValue(unavailable_reason=one_line(error))

    def clips(self, row: Row, results: RowResults) -> list[tuple[Clip, bytes]]:
        """A row's sounds; a plug-in that fails has none."""
        if self.plugin is None:
            return list(self.table.clips(row, results))
        return _contained(self.table.clips, row, results)[0]

    def notes(self, cells: Sequence[Cell], results: Sequence[RowResults]) -> list[str]:
        """Lines for the head; of a plug-in that fails, why it has none."""
        if self.plugin is None:
            return list(self.table.notes(cells, results))
        lines, problem = _contained(self.table.notes, cells, results)
        return [*lines, *([f"{_whose(self.suite, self.plugin)}{problem}"] if problem else [])]


@dataclass(frozen=True)
class RunPlan:
    """Every suite's table, a line for each that a plug-in's kind of table cannot plan, and the jobs, each once."""

    tables: list[PlannedTable]
    broken: list[str]
    jobs: list[Job]


def plan(suites: Sequence[Suite], context: Context) -> RunPlan:
    """Plan all suites.

    Raises:
        MelodyError: what a suite or an option asks for in vain; no table can be planned.
    """
    planned: list[PlannedTable] = []
    broken: list[str] = []
    for suite in suites:
        kind, entry = kind_of(suite), kinds.entry(suite.kind)
        check_measures(suite, kind.measures)
        check_arguments(suite, kind.uses)
        context.tell(f"{suite.name}: planning")
        if entry.in_tree:
            planned.append(plan_table(suite, context))
            continue
        try:
            with contained(_whose(suite, entry)):
                planned.append(plan_table(suite, context))
        except MelodyError as error:
            broken.append(one_line(error))
    if not planned and broken:
        raise MelodyError(broken[0])
    return RunPlan(planned, broken, jobs_of(planned, context))


def plan_table(suite: Suite, context: Context) -> PlannedTable:
    """One suite's table; raises ``MelodyError`` for what the suite asks for in vain."""
    table = table_of(suite, context)
    table.check()
    return PlannedTable(suite, context, table, [(row, table.jobs(row)) for row in table.rows()])


def jobs_of(planned: Iterable[PlannedTable], context: Context) -> list[Job]:
    """All jobs of all tables, each once."""
    jobs = {job.key: job for table in planned for _, row in table.rows for each in row.values() for job in each}
    # One system at a time is in memory, so the jobs of each stand together; the preset's own come first.
    places = {name: place for place, name in enumerate(context.loaded.systems)}
    return sorted(jobs.values(), key=lambda job: places[job.system_name])


def fill(
    planned: PlannedTable, outcomes: JobResults, baselines: Sequence[Baseline]
) -> tuple[FilledTable, list[tuple[Clip, bytes]]]:
    """One table from the outcomes: the loop over its rows and columns."""
    suite, context = planned.suite, planned.context
    context.tell(f"{suite.name}: filling the table")
    builder = TableBuilder(suite, context, outcomes, baselines, planned.table.measures)
    cells: list[Cell] = []
    clips: list[tuple[Clip, bytes]] = []
    results = [RowResults(jobs, outcomes) for _, jobs in planned.rows]
    for (row, _), found in zip(planned.rows, results, strict=True):
        cells += [builder.cell(row, column, planned.cell(row, column, found)) for column in suite.columns]
        clips += planned.clips(row, found)
    tested, aimed_at = orderings(suite, cells), targets(suite, cells)
    notes = planned.notes(cells, results)
    table = FilledTable(
        suite=suite.name,
        title=suite.title,
        source=suite.source,
        notes=[*target_notes(aimed_at), *ordering_notes(tested), *notes, *suite.notes],
        cells=cells,
        orderings=tested,
        targets=aimed_at,
        clips=[clip for clip, _ in clips],
    )
    return table, clips


def _whose(suite: Suite, plugin: Entry) -> str:
    return f"{suite.name}: table {suite.kind!r} from {plugin.origin}: "


def _contained(make: Callable[..., Iterable[T]], *arguments: Any) -> tuple[list[T], str]:
    """What a plug-in gives, and why it gives nothing where it fails."""
    try:
        with contained():
            return list(make(*arguments)), ""
    except MelodyError as error:
        return [], one_line(error)


def check_folder(folder: Path) -> None:
    """Raise ``MelodyError`` now if results could not be written later."""
    from melody.artifacts.files import write_bytes

    if folder.exists() and not folder.is_dir():
        raise MelodyError(f"cannot write results to {folder}: it is not a folder")
    probe = folder / ".writable"
    write_bytes(probe, b"")
    probe.unlink(missing_ok=True)


def write(results: Results, clips: Sequence[tuple[Clip, bytes]], folder: Path) -> None:
    """Write the clips, and then the results that name them."""
    from melody.artifacts.files import write_bytes

    for clip, content in clips:
        write_bytes(folder / clip.path, content)
    results.save(folder / RESULTS)
