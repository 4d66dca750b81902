"""What a suite may say: every argument is used by its kind of table, or refused with the nearest that is.

A kind declares what it reads. What stands in a suite and is not read would be a promise that the table does not keep.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from melody import registry
from melody.baselines.melody_system import MelodySystem
from melody.errors import MelodyError, did_you_mean
from melody.protocols import InputKind
from melody.reproduce.requested import VARIANT_AXES
from melody.reproduce.suite import Column, Settings, Suite
from melody.reproduce.tables.builder import takes_embedder

JOINT = frozenset({"mcc", "mcc_shuffled", "mcc_difference", "mcc_gain", "cosine"})
"""Measures by the preset's own joint embedding, which a column may name as ``melody-{preset}``."""
OWN_EMBEDDER = "melody-{preset}"
SYSTEM_OPTIONS = ("systems", "counted")
"""Settings that are options of other systems, by their registered names."""
SAMPLING = frozenset({"sampler", "grid", "num_steps"})
AXES = frozenset({*MelodySystem.options, "duration_s", *VARIANT_AXES})
"""Every option of ``generate``, and what makes another system of ours."""
CLIPS = frozenset({"prompts", "duration_s", "seeds", "guidance_scale"})
HEARD = CLIPS | {"judges", "training_clips", "systems"}
"""Settings of clips that classifiers hear."""


@dataclass(frozen=True)
class Uses:
    """What a kind of suite reads."""

    settings: frozenset[str]
    listed: frozenset[str] = frozenset()
    """Keys of ``[[rows]]``; none means that no row is listed."""
    cells: frozenset[str] = frozenset()
    """Further keys of its cells' rows, by which values, orderings and targets may choose."""
    axes: frozenset[str] = frozenset()
    options: bool = False
    """Whether a listed row's other keys are options of its system."""
    absent: bool = False
    """Whether a listed row says why it is not measured."""
    timed: frozenset[str] = frozenset()
    """Measures that a column may bind to a device."""
    compare: bool = False
    embedders: frozenset[str] | None = None
    """Embedders of its distances; ``None``: any that is registered."""
    judged: bool = True
    """Whether training clips are for judges only."""
    metrics: frozenset[InputKind] = frozenset()
    """What its rows can feed a registered metric that a column names; none: it has no such columns."""


def check_arguments(suite: Suite, uses: Uses) -> None:
    """Raise ``MelodyError`` for the first argument of a suite that its kind has no use for."""
    for problem in _problems(suite, uses):
        raise MelodyError(f"suite {suite.name}: {problem}")


def _problems(suite: Suite, uses: Uses) -> Iterator[str]:
    what = f"in a suite of kind {suite.kind!r}"
    for name in sorted(suite.settings.model_fields_set - uses.settings):
        yield f"settings.{name} has no use {what}{did_you_mean(name, uses.settings)}"
    if _only_for_judges(suite.settings, uses):
        yield "settings.training_clips has no use without judges = true"
    for axis in suite.axes:
        if axis not in uses.axes:
            yield f"axes.{axis} has no use {what}{did_you_mean(axis, uses.axes)}"
    if suite.compare and not uses.compare:
        yield f"compare = true has no use {what}: other systems are no rows of it"
    yield from _of_rows(suite, uses)
    for column in suite.columns:
        yield from _of_column(column, uses)
    for where, keys in _selectors(suite):
        yield from _unknown_keys(where, keys, suite, uses)
    for name in SYSTEM_OPTIONS:
        yield from _of_systems(f"settings.{name}", getattr(suite.settings, name))


def _only_for_judges(settings: Settings, uses: Uses) -> bool:
    return uses.judged and "training_clips" in settings.model_fields_set and not settings.judges


def _of_rows(suite: Suite, uses: Uses) -> Iterator[str]:
    for listed in suite.rows:
        if not uses.listed:
            yield f"[[rows]] have no use in a suite of kind {suite.kind!r}, whose rows follow from its axes"
        if "absent" in listed.model_fields_set and not uses.absent:
            yield f"row {listed.row}: absent has no use in a suite of kind {suite.kind!r}"
        known = set(uses.listed)
        if uses.options and str(listed.row.get("system")) in registry.systems:
            known |= registry.systems.get(str(listed.row["system"])).options
        elif uses.options:
            continue  # a system that is not here has options that nobody knows
        for key in listed.row:
            if key not in known:
                yield f"row {listed.row}: {key} has no use{did_you_mean(key, known)}"


def _of_column(column: Column, uses: Uses) -> Iterator[str]:
    where, embedder = f"column {column.name!r}", column.embedder
    if column.metric and (problem := _of_metric(column, uses)):
        yield f"{where}: {problem}"
        return
    if column.device is not None and column.measure not in uses.timed:
        yield f"{where}: device has no use for {_named(column)}{did_you_mean(column.measure, uses.timed)}"
    yield from _of_other_listeners(where, column)
    if takes_embedder(column):
        what = column.metric or "fad"
        known = registry.audio_embedders.names() if uses.embedders is None else uses.embedders
        if embedder is None:
            yield f"{where}: {what} needs an embedder, one of: {', '.join(sorted(known))}"
        elif embedder not in known:
            yield f"{where}: unknown embedder {embedder!r}{did_you_mean(embedder, known)}"
    elif column.measure in JOINT or _is_joint(column):
        if embedder not in (None, OWN_EMBEDDER):
            own = did_you_mean(str(embedder), [OWN_EMBEDDER])
            what = column.metric or column.measure
            yield f"{where}: {what} is by the preset's own joint embedding, and not by {embedder!r}{own}"
    elif embedder is not None:
        yield f"{where}: embedder has no use for {_named(column)}"


def _of_other_listeners(where: str, column: Column) -> Iterator[str]:
    """What is wrong with a column's tagger or joint embedder."""
    kind = registry.metrics.get(column.metric).input_kind if column.metric else ""
    if column.tagger is not None and kind != "labels":
        yield f"{where}: tagger has no use for {_named(column)}"
    if column.joint is not None and kind != "text_audio_embeddings":
        yield f"{where}: joint has no use for {_named(column)}"
    if kind == "labels":
        known = registry.audio_taggers.names()
        if column.tagger is None:
            yield f"{where}: {column.metric} needs a tagger, one of: {', '.join(known)}"
        elif column.tagger not in known:
            yield f"{where}: unknown tagger {column.tagger!r}{did_you_mean(column.tagger, known)}"


def _named(column: Column) -> str:
    return f"metric {column.metric!r}" if column.metric else f"measure {column.measure!r}"


def _is_joint(column: Column) -> bool:
    return bool(column.metric) and registry.metrics.get(str(column.metric)).input_kind == "text_audio_embeddings"


def _of_metric(column: Column, uses: Uses) -> str:
    """Why a column's metric cannot be computed in such a suite; empty if it can."""
    if not uses.metrics:
        return "metric has no use here: the columns of this kind are its own measures"
    name = str(column.metric)
    fed = [other for other in registry.metrics.names() if registry.metrics.get(other).input_kind in uses.metrics]
    if name not in registry.metrics and name in [entry.name for entry in registry.metrics.entries()]:
        return str(next(entry.error for entry in registry.metrics.entries() if entry.name == name))
    if name not in registry.metrics:
        return f"unknown metric {name!r}{did_you_mean(name, fed)}"
    if name not in fed:
        takes = registry.metrics.get(name).input_kind.replace("_", " ")
        return f"metric {name!r} takes {takes}, which a row's clips do not give{did_you_mean(name, fed)}"
    return ""


def _selectors(suite: Suite) -> Iterator[tuple[str, Iterable[str]]]:
    """Where cells are chosen by keys of their rows, and by which."""
    yield from ((f"paper value at {value.place}", [*value.row, *value.basis]) for value in suite.paper)
    for claim in suite.orderings:
        sides = [side for side in (claim.lower, claim.higher) if not isinstance(side, float)]
        yield f"ordering {claim.claim!r}", [*(key for side in sides for key in side), *filter(None, [claim.each])]
    for target in suite.targets:
        yield f"target {target.claim!r}", [*target.row, *(target.below or {})]


def _unknown_keys(where: str, keys: Iterable[str], suite: Suite, uses: Uses) -> Iterator[str]:
    known = {*uses.listed, *uses.cells, *uses.axes}
    if uses.options:
        known |= {key for listed in suite.rows for key in listed.row}
    for key in keys:
        if key not in known:
            yield f"{where}: no row has {key!r}{did_you_mean(key, known)}"


def _of_systems(where: str, options: dict[str, dict[str, object]]) -> Iterator[str]:
    names = [entry.name for entry in registry.systems.entries()]
    for name, given in options.items():
        if name not in names:
            yield f"{where}: unknown system {name!r}{did_you_mean(name, names)}"
        elif name in registry.systems:
            takes = registry.systems.get(name).options
            for option in given:
                if option not in takes:
                    yield f"{where}.{name}: system {name!r} takes no option {option!r}{did_you_mean(option, takes)}"
