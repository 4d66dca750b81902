"""Suites: one TOML file per published table, ``eval/suites/NAME.toml`` or any path, and the numbers of other systems.

A suite says which rows and columns a table has, what is measured for a column, the paper's value of each cell with its
place, how near is near enough, at which scale our number compares with the paper's, and which orderings to test.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from melody.bounds import GuidanceScale, RunSeed, Seconds, Steps, shown
from melody.config import PAPER_GUIDANCE_SCALE, FrozenModel, Positive, parse
from melody.data.tables import read_table
from melody.documents import read_toml
from melody.errors import MelodyError, did_you_mean
from melody.paths import declarations
from melody.reproduce.results import Reference

Scalar = str | int | float
Row = dict[str, Scalar]
Grade = Literal["P", "S", "D", "M"]
TAGGER, JOINT = "tagger ", "joint embedder "
"""Before the name of what is no audio embedder and hears clips as one does: a clip gives rows of numbers."""
ANY = "*"
"""In ``comparable_presets``: numbers of every preset compare."""
OF_HELD_OUT_CLIPS = ("attribute-agreement", "retrieval")
"""Kinds that hold sounds against the clips whose captions they were made from: other prompts have no such clips."""


PAPER_SETTINGS: dict[str, Any] = {
    "duration_s": 10.0,
    "guidance_scale": PAPER_GUIDANCE_SCALE,
    "sampler": "ddim",
    "grid": "melody-linear",
    "num_steps": 20,
}
"""What Tables 2 to 4 are of: clips of 10 s, the angle update of Eq. 32 on Eq. 4's schedule, and in Table 3 20 steps;
where a table varies one of them, its rows say so. The guidance is of grade S (``PAPER_GUIDANCE_SCALE``)."""


class Settings(FrozenModel):
    """How much is measured, and how."""

    prompts: Positive = 16
    """Captions of the held-out split, no two of the same combination of attributes; or so many of the suite's own."""
    duration_s: Seconds = 10.0
    seeds: Annotated[tuple[RunSeed, ...], Field(min_length=1, max_length=10_000)] = (0, 1, 2)
    guidance_scale: GuidanceScale = PAPER_GUIDANCE_SCALE
    reference_clips: Annotated[int, Field(ge=4)] = 256
    judges: bool = False
    """Whether judges of attributes hear every generated clip; tables that agree in this share their runs."""
    clips: Positive = 32
    """Held-out clips that a part of the system is scored on."""
    training_clips: Positive = 2048
    """Clips of the training split that judges and n-gram models learn from."""
    sampler: str = "ddim"
    grid: str = "melody-linear"
    num_steps: Steps = 20
    systems: dict[str, dict[str, Scalar]] = Field(default_factory=dict)
    """Options of other systems' ``generate`` by the system's registered name; what is not set is the system's own."""
    counted: dict[str, dict[str, Scalar]] = Field(default_factory=dict)
    """The same where passes are counted, whatever clips are made by: the paper's convention, for one."""


class Condition(FrozenModel):
    """A circumstance of the paper's run without which a speed means nothing, as its precision."""

    name: Literal["precision", "batch", "threads"]
    value: Scalar | None = None
    """The paper's; none where we do not know it."""
    source: str = ""
    """Where that is known from."""


class Column(FrozenModel):
    """One column: what is measured, and when our number may be held against the paper's."""

    name: str
    label: str
    """As the table prints it; ``{preset}`` is replaced."""
    measure: str = ""
    """What the suite's kind can measure, as in ``fad``."""
    metric: str | None = None
    """A registered metric in its place, as in ``kad``: where the rows have what it takes."""
    embedder: str | None = None
    tagger: str | None = None
    """Of a metric of labels: a registered audio tagger."""
    joint: str | None = None
    """Of a metric of texts and sounds: another joint embedder than the preset's own, by the name of a preset with
    weights, a folder or a hub id."""
    device: Literal["cpu", "cuda"] | None = None
    """Measured only in a run on such a device."""
    tolerance: Annotated[float, Field(ge=0)] = 0.05
    """Relative."""
    comparable_presets: tuple[str, ...] = ()
    """Presets whose number is of the paper's kind (data, embedder, scale); ``*`` means every one, none never."""
    comparable_devices: tuple[str, ...] = ()
    """Parts of the device's name, as in ``V100``; none means any."""
    reason: str = "the paper's scale is another one"
    """Why a number of any other preset or device does not compare."""
    conditions: tuple[Condition, ...] = ()
    """What else the paper's run and ours must share; what is not known of it cannot be shared."""
    judged_by: str | None = None
    """Column of the same measurement in another unit, which has the verdict: one measurement, one verdict."""

    @property
    def hears(self) -> str:
        """What hears the clips for it, by its name in jobs; empty for the preset's own joint embedder and for none."""
        of_others = {TAGGER: self.tagger, JOINT: self.joint}
        return next((f"{kind}{name}" for kind, name in of_others.items() if name), self.embedder or "")

    @model_validator(mode="after")
    def _one_number(self) -> Self:
        if bool(self.measure) == bool(self.metric):
            raise ValueError(f"column {self.name!r}: expected either measure or metric")
        return self


class ListedRow(FrozenModel):
    """A row that no axis gives: a reference, or a system of others."""

    row: Row
    absent: str = "the paper has no such value, and nothing is measured for it"
    """Why this row's cells are not measured, where they are not."""


class PaperValue(FrozenModel):
    """One printed cell."""

    row: Row
    column: str
    value: float
    place: str
    grade: Grade = "P"
    decimals: Annotated[int, Field(ge=0)] | None = None
    """Digits after the point as printed; where given, agreeing to the printed digit is *reproduced*."""
    statement: str | None = None
    """Which of the suite's ``[statements]`` the value is a part of; by default it is one of its own."""
    basis: Row = Field(default_factory=dict)
    """Where the value stands beside several rows: what the row has that measures as the paper does. No other counts."""
    aside: str = ""
    """Why the value is shown and is no statement of the paper's, if it is none."""


class OrderingClaim(FrozenModel):
    """What the table says by its order: the cell at ``higher`` has the larger number."""

    claim: str
    column: str
    lower: Row | float
    """A cell, or the number that the other side is held against: then that cell's own p-value decides."""
    higher: Row | float
    lower_column: str | None = None
    """Column of the lower side, if it is another one."""
    each: str | None = None
    """Axis whose every value is tested by itself, as in ``sampler``."""
    statement: str | None = None
    """Which of the suite's ``[statements]`` the claim is a part of, where the paper prints both sides."""

    @model_validator(mode="after")
    def _one_cell(self) -> Self:
        if isinstance(self.lower, float) and isinstance(self.higher, float):
            raise ValueError(f"ordering {self.claim!r}: expected a row at lower or at higher")
        return self


class TargetClaim(FrozenModel):
    """What we aim at ourselves: a bound on a cell, or that it lies beyond another cell of its column."""

    claim: str
    column: str
    row: Row
    above: float | None = None
    """Bound that the number must exceed."""
    at_most: float | None = None
    below: Row | None = None
    """Row of a cell that must have the larger number."""
    below_column: str | None = None
    """Its column, if it is another one."""
    p_below: float | None = None
    """The cell's p-value must be smaller."""

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        given = [name for name in ("above", "at_most", "below", "p_below") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"target {self.claim!r}: expected one of above, at_most, below, p_below; got {given}")
        return self


class Suite(FrozenModel):
    """One table to reproduce."""

    name: str
    title: str
    source: str
    version: str
    kind: str
    notes: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    """Texts in the place of the held-out captions; in the file the path of a CSV file with a column ``text``."""
    settings: Settings = Settings()
    axes: dict[str, tuple[str | int | float, ...]] = Field(default_factory=dict)
    columns: Annotated[tuple[Column, ...], Field(min_length=1)]
    compare: bool = False
    """Whether the run's other systems are rows of a table over samplers, grids and steps."""
    rows: tuple[ListedRow, ...] = ()
    statements: dict[str, str] = Field(default_factory=dict)
    """What the paper states, in words, by a name that values and orderings go by; several suites may share one."""
    paper: tuple[PaperValue, ...] = ()
    paper_settings: dict[str, Any] = Field(default_factory=PAPER_SETTINGS.copy)
    """Of ``[settings]``: those that the paper's values are bound to. At any other they do not compare."""
    orderings: tuple[OrderingClaim, ...] = ()
    targets: tuple[TargetClaim, ...] = ()

    @model_validator(mode="after")
    def _prompts_suffice(self) -> Self:
        if self.prompts and self.kind in OF_HELD_OUT_CLIPS:
            raise ValueError(
                f"prompts have no use in a suite of kind {self.kind!r}, whose texts are held-out clips' own"
            )
        if self.prompts and self.settings.prompts > len(self.prompts):
            raise ValueError(f"settings.prompts is {self.settings.prompts}, and prompts has {len(self.prompts)} texts")
        return self

    @model_validator(mode="after")
    def _names_belong_together(self) -> Self:
        names = [column.name for column in self.columns]
        if len(set(names)) < len(names):
            raise ValueError("two columns have the same name")
        if len(set(self.settings.seeds)) < len(self.settings.seeds):
            raise ValueError("settings.seeds: a seed stands twice")
        if empty := [axis for axis, values in self.axes.items() if not values]:
            raise ValueError(f"axes.{empty[0]}: expected at least one value")
        for claim in self.orderings:
            if claim.each is not None and claim.each not in self.axes:
                raise ValueError(
                    f"ordering {claim.claim!r}: unknown axis {claim.each!r}{did_you_mean(claim.each, self.axes)}"
                )
        used = [(f"paper value at {v.place}", v.column) for v in self.paper]
        used += [(f"ordering {o.claim!r}", o.column) for o in self.orderings]
        used += [(f"ordering {o.claim!r}", o.lower_column) for o in self.orderings if o.lower_column]
        used += [(f"target {t.claim!r}", t.column) for t in self.targets]
        used += [(f"target {t.claim!r}", t.below_column) for t in self.targets if t.below_column]
        used += [(f"column {c.name!r}: judged_by", c.judged_by) for c in self.columns if c.judged_by]
        for what, name in used:
            if name not in names:
                raise ValueError(f"{what}: unknown column {name!r}{did_you_mean(name, names)}")
        stated = [(f"paper value at {v.place}", v.statement) for v in self.paper]
        stated += [(f"ordering {o.claim!r}", o.statement) for o in self.orderings]
        for what, statement in stated:
            if statement is not None and statement not in self.statements:
                hint = did_you_mean(statement, self.statements)
                raise ValueError(f"{what}: unknown statement {statement!r}{hint}")
        for name in self.paper_settings:
            if name not in Settings.model_fields:
                raise ValueError(f"paper_settings: unknown setting {name!r}{did_you_mean(name, Settings.model_fields)}")
        places = [(v.column, tuple(sorted((k, str(s)) for k, s in v.row.items()))) for v in self.paper]
        if len(set(places)) < len(places):
            raise ValueError("two paper values stand in the same cell")
        return self

    @model_validator(mode="after")
    def _rows_have_known_keys(self) -> Self:
        """A misspelt key selects no row, so its value would stand nowhere, in silence."""
        known = {*self.axes, *(key for listed in self.rows for key in listed.row)}
        rows = [(f"paper value at {v.place}", {**v.row, **v.basis}) for v in self.paper]
        sides = [(f"ordering {o.claim!r}", side) for o in self.orderings for side in (o.lower, o.higher)]
        rows += [(what, side) for what, side in sides if not isinstance(side, float)]
        for what, row in rows:
            if known and (unknown := [key for key in row if key not in known]):
                raise ValueError(f"{what}: unknown key {unknown[0]!r} of a row{did_you_mean(unknown[0], known)}")
        return self

    def column(self, name: str) -> Column:
        """The column of that name."""
        return next(column for column in self.columns if column.name == name)

    def statement_of(self, part: PaperValue | OrderingClaim) -> str:
        """In words what a value or an ordering is a part of; its own place or claim where it names nothing."""
        if part.statement is not None:
            return self.statements[part.statement]
        return part.place if isinstance(part, PaperValue) else part.claim

    def other_settings(self) -> str:
        """How the suite's settings differ from those that the paper's values are bound to; empty if they do not."""
        ours = self.settings.model_dump()
        theirs = Settings.model_validate({**ours, **self.paper_settings}).model_dump()
        differing = [name for name in ours if ours[name] != theirs[name]]
        return ", ".join(f"{name} {ours[name]!r} (the paper's: {theirs[name]!r})" for name in differing)

    def paper_value(self, row: Mapping[str, Scalar], column: str) -> PaperValue | None:
        """The paper's value of a cell, if it prints one."""
        printed = [v for v in self.paper if v.column == column and selects(v.row, row)]
        return printed[0] if printed else None


class FullRun(FrozenModel):
    """What the long run has instead: single settings, and whole axes."""

    full: dict[Literal["settings", "axes"], dict[str, Any]] = Field(default_factory=dict)


class PublishedNumber(FrozenModel):
    """A number that somebody else printed about a system of a table."""

    suite: str
    row: Row
    column: str
    value: float
    place: str
    grade: Grade = "P"


class Baseline(FrozenModel):
    """A system that the paper compares with: what it is, and what was printed about it."""

    name: str
    title: str
    source: str
    facts: tuple[str, ...] = ()
    numbers: tuple[PublishedNumber, ...] = ()


def selects(selector: Mapping[str, Scalar], row: Mapping[str, Scalar]) -> bool:
    """Whether a row has all of a selector's values.

    >>> selects({"num_steps": 5}, {"sampler": "ddim", "num_steps": 5}), selects({"num_steps": 5}, {"sampler": "ddim"})
    (True, False)
    """
    return all(key in row and row[key] == value for key, value in selector.items())


def suite_names() -> list[str]:
    """Suites that ship with the package: the paper's tables in their order, then the others; no groups."""
    names = [path.stem for path in (declarations("eval") / "suites").glob("*.toml")]
    return sorted(names, key=lambda name: (not name.startswith("table"), name))


def load_suites(names: Iterable[str | Path] = (), *, full: bool = False) -> list[Suite]:
    """Load suites by name or by path, each once; all that ship with the package if none is named.

    A group, which is a folder of suites, stands for all of them, and is only run by name or in a full run.

    Args:
        full: the long run, as each suite's ``[full]`` says.
    Raises:
        MelodyError: unknown suite, malformed TOML, an unknown key, column or kind.
    """
    everything = [*suite_names(), *(group_names() if full else [])]
    chosen = [member for name in names or everything for member in _members(str(name))]
    return [load_suite(name, full=full) for name in dict.fromkeys(chosen)]


def group_names() -> list[str]:
    """Groups of suites that ship with the package."""
    return sorted({path.parent.name for path in (declarations("eval") / "suites").glob("*/*.toml")})


def _members(name: str) -> list[str]:
    if name not in group_names():
        return [name]
    return [f"{name}/{path.stem}" for path in sorted((declarations("eval") / "suites" / name).glob("*.toml"))]


def load_suite(name: str | Path, *, full: bool = False) -> Suite:
    """Load one suite, as ``load_suites`` does."""
    path = declarations("eval") / "suites" / f"{name}.toml"
    if not path.is_file():
        path = Path(name)
        if path.suffix != ".toml":
            known = [*suite_names(), *group_names()]
            raise MelodyError(
                f"unknown suite {str(name)!r}{did_you_mean(str(name), known)}; or give the path of a .toml file"
            )
    content = read_toml(path)
    instead = parse(FullRun, {"full": content.pop("full", {})}, str(path)).full
    longer: dict[str, Any] = {str(name): {**content.get(name, {}), **entries} for name, entries in instead.items()}
    suites = [parse(Suite, _with_prompts(table, path), str(path)) for table in (content, {**content, **longer})]
    return suites[full]


def _with_prompts(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """A suite's content with the texts of its file of prompts, all of them unless ``settings.prompts`` says fewer."""
    file, settings = content.get("prompts"), content.get("settings", {})
    if not isinstance(file, str) or not isinstance(settings, dict):
        return content
    texts = read_prompts(path.parent / file)
    return {**content, "prompts": texts, "settings": {"prompts": len(texts), **settings}}


def read_prompts(path: Path) -> list[str]:
    """The column ``text`` of a CSV file; raises ``MelodyError`` if it has none, or a text is empty or there twice."""
    lines: dict[str, int] = {}
    for line, cells in read_table(path, ("text",)).rows:
        text = cells["text"]
        if not text:
            raise MelodyError(f"{path}, line {line}: the text is empty")
        if text in lines:
            raise MelodyError(f"{path}, line {line}: the text is that of line {lines[text]}: {shown(text)}")
        lines[text] = line
    if not lines:
        raise MelodyError(f"{path} has a header and no rows")
    return list(lines)


def load_baselines() -> list[Baseline]:
    """The systems of ``baselines/*.toml``; raises ``MelodyError`` if one is malformed."""
    return [parse(Baseline, read_toml(path), str(path)) for path in sorted(declarations("baselines").glob("*.toml"))]


def published_number(
    baselines: Sequence[Baseline], suite: str, row: Mapping[str, Scalar], column: str
) -> Reference | None:
    """What was printed elsewhere for a cell, if anything was."""
    for baseline in baselines:
        for number in baseline.numbers:
            if number.suite == suite and number.column == column and selects(number.row, row):
                return Reference(value=number.value, place=number.place, grade=number.grade)
    return None
