"""What a result is: the schema that the runner writes, the gate checks and the report reads. No torch here.

The paper's values, values published elsewhere, measured values, values composed of measured parts and projected values
are five fields that never mix.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from melody.bounds import problem, shown
from melody.documents import read_json
from melody.errors import MelodyError, did_you_mean
from melody.evaluation.entries import ResultEntry
from melody.evaluation.result import SCHEMA_VERSION, Comparison, Direction, Evaluation, Measurement, SavedResult, Schema
from melody.listening.schema import NUMBERS, ListeningResult

Verdict = Literal["reproduced", "off", "not comparable", "not attempted", "not counted"]
"""Of a cell; *not counted* is what is no statement of the paper's: another basis, a number of our own derivation, a
fact of a file, one measurement in a second unit."""
TargetVerdict = Literal["holds", "falls short", "not attempted"]
OrderingVerdict = Literal["holds", "contradicted", "undecided", "not attempted"]
StatementVerdict = Literal["comes out", "does not come out", "undecided", "not comparable", "not attempted"]


class Reference(Schema):
    """A number that somebody printed, and where."""

    value: float
    place: str
    """As in ``Table 2, T = 5``."""
    grade: Literal["P", "S", "D", "M"] = "P"
    """Printed in the paper, from a public summary, derived by us, recalled (never shown without its grade)."""


class Projection(Schema):
    """A number that follows from a formula or from a model of the machine, not from a run."""

    value: float
    method: str


class Composition(Measurement):
    """Seconds, or a speed, put together from parts that were measured each alone: no run of the whole."""


class Provenance(Schema):
    """Everything that decides a measured number."""

    preset: str
    device: str
    precision: str
    seeds: list[int]
    sample_count: int
    embedder: str | None = None
    versions: dict[str, str]
    commit: str | None
    weights: str | None = None
    """SHA-256 over the weights of all parts."""
    inputs: str | None = None
    """SHA-256 over the reference audio and prompts."""
    config: dict[str, Any] = Field(default_factory=dict)
    cells: list[str] = Field(default_factory=list)
    """Keys of the stored cells that the number was computed from."""


class Cell(Schema):
    """One place of a table."""

    row: dict[str, str | int | float]
    column: str
    label: str
    metric: str
    metric_version: str
    direction: Direction
    unit: str = ""
    verdict: Verdict
    reason: str
    paper: Reference | None = None
    published: Reference | None = None
    measured: Measurement | None = None
    composed: Composition | None = None
    projected: Projection | None = None
    no_rank: str | None = None
    """Why the number takes no part in any ordering, though it was measured."""
    statement: str | None = None
    """What of the paper's the number is a part of, in words; ``None`` where it counts for nothing."""
    tolerance: float | None = None
    """Relative: |measured − paper| <= tolerance · |paper| is reproduced."""
    provenance: Provenance | None = None


class Ordering(Schema):
    """What a table says by its order, tested on what we measured."""

    claim: str
    """As in ``FAD of num_steps=10 is lower than of num_steps=5``."""
    column: str
    verdict: OrderingVerdict
    reason: str
    difference: Measurement | None = None
    """With the p-value of no difference, before Holm's correction."""
    p_holm: float | None = None
    """Corrected over all orderings of the table that could be tested."""
    paper_difference: float | None = None
    statement: str | None = None
    """As of a cell."""


class Target(Schema):
    """What we aim at ourselves, tested on what we measured; the paper has no part in it."""

    claim: str
    """As in ``instrument agrees for at least 70 %``."""
    column: str
    verdict: TargetVerdict
    reason: str


class Clip(Schema):
    """A sound of the run, to listen to: path relative to the results file."""

    title: str
    text: str
    path: str
    beside: str = ""
    """Path of the clip that this one was made from, to be seen beside it; empty if there is none."""


class Table(Schema):
    """One suite's outcome."""

    suite: str
    title: str
    source: str
    notes: list[str] = Field(default_factory=list)
    cells: list[Cell]
    orderings: list[Ordering] = Field(default_factory=list)
    targets: list[Target] = Field(default_factory=list)
    clips: list[Clip] = Field(default_factory=list)


class Statement(Schema):
    """Something that the paper states, with one verdict over all cells and orderings that are parts of it."""

    text: str
    verdict: StatementVerdict
    reason: str
    parts: int
    """Cells and orderings of this run."""


class Share(Schema):
    """Where a run's time went: units of one kind, of one system."""

    work: str
    """As in ``musiclm: generation``."""
    units: int
    seconds: float


class Results(SavedResult):
    """One run: what the report renders and the gate checks."""

    schema_version: Literal[2] = SCHEMA_VERSION
    kind: Literal["reproduction"] = "reproduction"
    created: str
    """ISO 8601, UTC."""
    command: str
    seconds: float
    cells_computed: int
    """Units of work (a generation, a timing …) that were computed now; each fills several places of the tables."""
    cells_reused: int
    """Units of work that were read from the store."""
    split: list[Share] = Field(default_factory=list)
    """What was computed now, the longest first; failures count too."""
    statements: list[Statement] = Field(default_factory=list)
    """What the paper states and this run's suites ask after, each once."""
    failures: list[str] = Field(default_factory=list)
    """Units of work that failed, each with its reason; the cells that needed them are *not attempted*."""
    tables: list[Table]

    def entries(self) -> list[ResultEntry]:
        """The measured numbers of every table, cell by cell."""
        return [_entry(table.suite, cell) for table in self.tables for cell in table.cells]


RESULTS = "results.json"
"""The file of a run, in its folder."""
AnyResult = Results | Evaluation | Comparison | ListeningResult
KINDS: dict[str, type[AnyResult]] = {
    "reproduction": Results,
    "evaluation": Evaluation,
    "comparison": Comparison,
    "listening": ListeningResult,
}


def results_file(path: str | Path) -> Path:
    """The file of results: of a run's folder the one in it."""
    return Path(path, RESULTS) if Path(path).is_dir() else Path(path)


def load_results(path: str | Path) -> AnyResult:
    """Read what reproduce, evaluate, compare or listening wrote; of schema version 1 too, which it turns into today's.

    Args:
        path: of the file, or of a run's folder.
    Raises:
        MelodyError: the file is missing, not JSON, of a newer version, or none of ours.
    """
    path = results_file(path)
    content = read_json(path)
    try:
        kind = _kind(content)
        _check_version(content)
        return KINDS[kind].model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the whole"
        raise MelodyError(f"{path} is not a results file: {key}: {problem(first)}") from None
    except ValueError as error:
        raise MelodyError(f"{path} is not a results file: {error}") from None


def _kind(content: Any) -> str:
    """What wrote it; version 1 of a reproduction does not say. Raises ``ValueError`` where nothing of ours did."""
    if not isinstance(content, dict):
        raise ValueError(f"expected an object, got {shown(content)}")
    kind = content.get("kind", "reproduction" if "tables" in content else None)
    if kind is None:
        keys = ", ".join(sorted(map(str, content))[:5])
        raise ValueError(f"expected 'kind' or 'tables'; it has {shown(keys) if keys else 'nothing'}")
    if kind not in KINDS:
        raise ValueError(f"unknown kind {shown(kind)}{did_you_mean(str(kind)[:100], KINDS)}")
    return str(kind)


def _check_version(content: dict[str, Any]) -> None:
    """Raise ``ValueError`` for a version that is none, or newer than this melody's."""
    version = content.get("schema_version", SCHEMA_VERSION)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ValueError(f"schema_version is {shown(version)}, expected 1 or {SCHEMA_VERSION}")
    if version > SCHEMA_VERSION:
        raise ValueError(
            f"schema version {shown(version)} is newer than this melody reads (1 and {SCHEMA_VERSION}): "
            f"a newer melody-toolkit wrote it"
        )


def _entry(suite: str, cell: Cell) -> ResultEntry:
    measured = cell.measured
    numbers = {"expected": 0, "scored": 0} if measured is None else measured.model_dump(include=NUMBERS)
    return ResultEntry(
        suite=suite,
        row=cell.row,
        metric=cell.metric,
        column=cell.column,
        version=cell.metric_version,
        direction=cell.direction,
        unit=cell.unit,
        paper=None if cell.paper is None else cell.paper.value,
        verdict=cell.verdict,
        reason=cell.reason if measured is None else measured.warning or "",
        record=cell,
        **numbers,
    )
