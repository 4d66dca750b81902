"""Every argument of a suite is used by its kind of table, or refused with the nearest that is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from melody.errors import MelodyError
from melody.registry import tables
from melody.reproduce.jobs.job import Failure
from melody.reproduce.runner import plan
from melody.reproduce.suite import (
    Column,
    ListedRow,
    OrderingClaim,
    PaperValue,
    Settings,
    Suite,
    TargetClaim,
    group_names,
    load_baselines,
    load_suites,
    suite_names,
)
from melody.reproduce.tables.arguments import check_arguments
from melody.reproduce.tables.table import RowResults, kind_of

EVERYWHERE = {
    Suite: {
        *("name", "title", "source", "version", "kind", "notes", "columns", "paper", "orderings", "targets"),
        *("statements", "paper_settings", "prompts"),
    },
    Column: {
        *("name", "label", "measure", "metric", "tolerance", "comparable_presets", "comparable_devices", "reason"),
        *("conditions", "judged_by"),
    },
    ListedRow: {"row"},
}
"""Fields that every kind of table uses: the runner, the verdicts and the pages read them."""
CHECKED = {
    Suite: {"settings", "axes", "compare", "rows"},
    Column: {"embedder", "tagger", "joint", "device"},
    ListedRow: {"absent"},
}
"""Fields that are used or refused by kind, each in a test below."""
OTHER: dict[str, Any] = {
    "prompts": 3,
    "duration_s": 3.0,
    "seeds": (3,),
    "guidance_scale": 3.0,
    "reference_clips": 33,
    "judges": True,
    "clips": 3,
    "training_clips": 333,
    "sampler": "heun",
    "grid": "uniform",
    "num_steps": 3,
    "systems": {"noise2music": {"num_steps": 1}},
    "counted": {"musiclm": {"fine_windows": "batched"}},
}


KINDS = {entry.name: entry.component for entry in tables.entries() if entry.in_tree}


def _shipped() -> dict[str, Suite]:
    """One suite of each kind."""
    suites = load_suites([*suite_names(), *group_names()])
    return {suite.kind: suite for suite in suites}


SHIPPED = _shipped()


@pytest.mark.parametrize("full", [False, True])
def test_all_that_ships_is_used(full: bool) -> None:
    for suite in load_suites([*suite_names(), *group_names()], full=full):
        check_arguments(suite, kind_of(suite).uses)


def test_numbers_that_others_printed_stand_in_cells_that_there_are() -> None:
    suites = {suite.name: suite for suite in load_suites([*suite_names(), *group_names()])}
    for number in (number for baseline in load_baselines() for number in baseline.numbers):
        suite = suites[number.suite]
        assert number.column in [column.name for column in suite.columns]
        uses = kind_of(suite).uses
        assert set(number.row) <= uses.listed | uses.cells | uses.axes


def test_no_field_is_forgotten() -> None:
    for model, names in EVERYWHERE.items():
        assert names | CHECKED[model] == set(model.model_fields), model
    assert set(OTHER) == set(Settings.model_fields)
    assert set(KINDS) == set(SHIPPED)
    # Selectors are checked by their keys; the rest of these is a claim, its place and its bound.
    for model in (PaperValue, OrderingClaim, TargetClaim):
        assert {name for name in model.model_fields if "row" in name or name in ("lower", "higher", "each")}


@pytest.mark.parametrize("setting", OTHER)
@pytest.mark.parametrize("kind", KINDS)
def test_a_setting_is_used_or_refused(
    kind: str, setting: str, tones: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told from the reads of a plan and of a table whose jobs all failed: what nothing reads cannot be used."""
    suite = SHIPPED[kind]
    if setting not in KINDS[kind].uses.settings:
        changed = _with_settings(suite, {setting: OTHER[setting]})
        with pytest.raises(MelodyError, match=rf"settings\.{setting} has no use in a suite of kind '{kind}'"):
            plan([changed], tones.context())
        return
    if setting in ("systems", "counted"):
        return  # of baselines, which a context of tones has not: test_systems has them
    monkeypatch.setattr("melody.reproduce.tables.attribute_agreement.chosen_clips", lambda *_, **__: [0, 1])
    if setting == "training_clips" and KINDS[kind].uses.judged:
        suite = _with_settings(suite, {"judges": True})
    assert setting in _read(suite, tones)


def _with_settings(suite: Suite, settings: dict[str, Any]) -> Suite:
    given = suite.settings.model_dump(exclude_unset=True) | settings
    return suite.model_copy(update={"settings": Settings(**given)})


def _read(suite: Suite, tones: SimpleNamespace) -> set[str]:
    seen: set[str] = set()

    class Watched(Settings):
        def __getattribute__(self, name: str) -> Any:
            seen.add(name)
            return super().__getattribute__(name)

    watched = suite.model_copy(update={"settings": Watched(**suite.settings.model_dump(exclude_unset=True))})
    context, kind = tones.context(), kind_of(suite)
    context.inputs = replace(context.inputs, training_of=lambda count: context.loaded.corpus)

    class Failed(dict[str, Any]):
        def __missing__(self, key: str) -> Failure:
            return Failure("nothing is computed here")

    table = kind().bound(watched, context)
    errors = (MelodyError, AttributeError, KeyError)  # there are no such presets, nor published samples
    with suppress(*errors):
        table.check()
    for row in table.rows():
        jobs: Any = {}
        with suppress(*errors):
            jobs = table.jobs(row)
        for column in suite.columns:
            with suppress(*errors, IndexError, ValueError):
                table.cell(row, column, RowResults(jobs, Failed()))
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_axes_rows_and_comparison_are_used_or_refused(kind: str, tones: SimpleNamespace) -> None:
    suite, uses = SHIPPED[kind], KINDS[kind].uses
    problems = {"axes": {**suite.axes, "nowhere": (1,)}}
    if not uses.compare:
        problems["compare"] = True  # type: ignore[assignment]
    if not uses.listed:
        problems["rows"] = (ListedRow(row={"system": "melody"}),)  # type: ignore[assignment]
    elif not uses.absent:
        problems["rows"] = (suite.rows[0].model_copy(update={"absent": "why"}),)  # type: ignore[assignment]
    if uses.listed:
        row = {**suite.rows[0].row, "nowhere": 1}
        with pytest.raises(MelodyError, match="nowhere has no use"):
            plan([suite.model_copy(update={"rows": (ListedRow(row=row),)})], tones.context())
    for field, value in problems.items():
        with pytest.raises(MelodyError, match="has no use|have no use"):
            plan([_copy(suite, {field: value})], tones.context())


def _copy(suite: Suite, update: dict[str, Any]) -> Suite:
    """As if the fields had been written."""
    rows = update.get("rows")
    if rows:
        update["rows"] = tuple(ListedRow(**row.model_dump(exclude_unset="absent" not in row.__dict__)) for row in rows)
    return suite.model_copy(update=update)


@pytest.mark.parametrize("kind", KINDS)
def test_embedders_and_devices_are_used_or_refused(kind: str, tones: SimpleNamespace) -> None:
    suite, uses = SHIPPED[kind], KINDS[kind].uses
    for column in suite.columns:
        for field, value in _useless(column, uses.timed):
            changed = [column.model_copy(update={field: value}), *(c for c in suite.columns if c != column)]
            with pytest.raises(MelodyError, match=f"column '{column.name}'") as caught:
                plan([suite.model_copy(update={"columns": tuple(changed)})], tones.context())
            assert "\n" not in str(caught.value)


def _useless(column: Column, timed: frozenset[str]) -> Iterator[tuple[str, str | None]]:
    yield "embedder", "does-not-exist"
    if column.measure.startswith("fad"):
        yield "embedder", None
    elif column.embedder:
        yield "embedder", "mel-stats"
    if column.measure not in timed:
        yield "device", "cpu"


def test_another_embedder_in_a_column_of_text_correlation_is_refused(
    small_suite: Path, tones: SimpleNamespace, tmp_path: Path
) -> None:
    text = small_suite.read_text()
    column = '\n[[columns]]\nname = "mcc"\nlabel = "MCC"\nmeasure = "mcc"\nembedder = "melody-joint"\n'
    (tmp_path / "mcc.toml").write_text(text + column)
    (suite,) = load_suites([tmp_path / "mcc.toml"])
    expected = (
        "suite small: column 'mcc': mcc is by the preset's own joint embedding, and not by 'melody-joint'; "
        "did you mean 'melody-{preset}'? (valid: melody-{preset})"
    )
    with pytest.raises(MelodyError) as caught:
        plan([suite], tones.context())
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "{ num_steps = 3 }",
            "{ num_stepz = 3 }",
            "unknown key 'num_stepz' of a row; did you mean 'num_steps'",
        ),
        ("num_steps = 2 }\ncolumn", "stepz = 2 }\ncolumn", "paper value at .*: unknown key 'stepz' of a row"),
        ("[axes]", "[settings.systems.noise2musik]\nnum_steps = 1\n[axes]", "did you mean 'noise2music'"),
        ("[axes]", "[settings.systems.noise2music]\nsteps = 1\n[axes]", "takes no option 'steps'"),
        ("[[paper]]", '[[rows]]\nrow = { system = "real clip" }\n[[paper]]', "did you mean 'real clips'"),
    ],
)
def test_what_chooses_nothing_is_refused(
    small_suite: Path, tones: SimpleNamespace, tmp_path: Path, old: str, new: str, message: str
) -> None:
    text = small_suite.read_text()
    assert old in text
    (tmp_path / "s.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(MelodyError, match=message):
        plan(load_suites([tmp_path / "s.toml"]), tones.context())
