"""What a run is asked for beside its suites: each option is used, told where it is not, or refused where nothing is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from melody import registry
from melody.errors import MelodyError
from melody.reproduce.requested import RequestedRow
from melody.reproduce.suite import Suite
from melody.reproduce.tables.passes_and_preference import RATED
from melody.reproduce.tables.table import kind_of

Tell = Callable[[str], None]
"""Takes a line before anything is computed."""
ROLES = {
    "denoiser": registry.denoisers,
    "grid": registry.grids,
    "sampler": registry.samplers,
    "system": registry.systems,
}
"""Axis of rows -> the registry of what it names."""


@dataclass(frozen=True)
class Option:
    """One option as it was given, and which suites have a use for it."""

    given: str
    uses: Callable[[Suite], bool]
    hint: str
    """What would have a use for it."""


def check_options(suites: Sequence[Suite], options: Sequence[Option], tell: Tell) -> None:
    """Tell which suites have no use for an option; raises ``MelodyError`` if none has one."""
    for option in options:
        without = [suite.name for suite in suites if not option.uses(suite)]
        if len(without) == len(suites):
            raise MelodyError(f"{option.given} has no use in {', '.join(without)}: {option.hint}")
        if without:
            tell(f"{option.given}: not in {', '.join(without)} ({option.hint})")


def options_of(
    rows: Sequence[RequestedRow],
    samplers: Sequence[str] | None,
    grids: Sequence[str] | None,
    *,
    ratings: bool,
    published_samples: bool,
    budget: bool,
) -> Iterator[Option]:
    """The options that only some suites have a use for; raises ``MelodyError`` for a name that there is not."""
    for row in rows:
        if not (name := row.system):
            continue  # a file that names no system, of which more is told when it is read
        registry.systems.entry(name)
        hint = row_hint(row)
        yield Option(str(row), lambda suite, row=row: kind_of(suite).takes(suite, row), hint)  # type: ignore[misc]
    for axis, names in (("sampler", samplers), ("grid", grids)):
        for name in names or ():
            ROLES[axis].entry(name)
            hint = f"{axis}s are rows of suites with an axis of {axis}s"
            yield Option(f"--{axis} {name}", lambda suite: kind_of(suite).samples, hint)
    if ratings:
        yield Option("--ratings", _is_rated, "ratings fill tables 1 and 3")
    if published_samples:
        hint = "they fill suites of kind published-samples"
        yield Option("--published-samples", lambda suite: suite.kind == "published-samples", hint)
    if budget:
        yield Option("--budget-s", lambda suite: suite.kind == "speed", "only the speed table has a budget")


def row_hint(row: RequestedRow) -> str:
    """Where what an option asks for is a row."""
    where = "rows of tables 1 to 3, and of suites of kind quality-and-speed with compare = true"
    if row.choices[0][0] == "system":
        return f"systems are {where}"
    costs = "speed and generation-costs"
    beside = f"denoiser-comparison, {costs}" if row.choices[0][0] == "denoiser" else costs
    return f"presets and components are {where}, or of kind {beside}"


def missing_extras(suites: Sequence[Suite]) -> list[str]:
    """One line for each component that a suite names and whose extra is not installed: its rows are not attempted."""
    named = [(axis, str(value)) for suite in suites for listed in suite.rows for axis, value in listed.row.items()]
    named += [(axis, str(value)) for suite in suites for axis, values in suite.axes.items() for value in values]
    found = [ROLES[axis].lacks(name) for axis, name in named if axis in ROLES and name in ROLES[axis]]
    embedders = [str(column.embedder) for suite in suites for column in suite.columns]
    found += [registry.audio_embedders.lacks(name) for name in embedders if name in registry.audio_embedders]
    return [f"not attempted: {line}" for line in dict.fromkeys(found) if line]


def _is_rated(suite: Suite) -> bool:
    return any(column.measure == "producers" or column.measure in RATED for column in suite.columns)
