"""Printed statements of the paper: each counted once, whatever speaks for it."""

from __future__ import annotations

from typing import Any

import pytest

from melody.errors import MelodyError
from melody.reproduce.results import Cell, Ordering, Table
from melody.reproduce.statements import statements
from melody.reproduce.suite import load_suite, load_suites

TEXT = "A is better than B (Table 9)"


def _cell(verdict: str, statement: str | None = TEXT) -> Cell:
    return Cell.model_validate(
        {"row": {"system": "a"}, "column": "x", "label": "X", "metric": "x", "metric_version": "1",
         "direction": "lower", "verdict": verdict, "reason": f"{verdict} because", "statement": statement}
    )  # fmt: skip


def _table(*parts: str) -> Table:
    cells = [_cell(part) for part in parts if part in ("reproduced", "off", "not comparable", "not attempted")]
    orders = [
        Ordering.model_validate({"claim": "c", "column": "x", "verdict": part, "reason": part, "statement": TEXT})
        for part in parts
        if part in ("holds", "contradicted", "undecided")
    ]
    return Table(suite="s", title="", source="", cells=cells, orderings=orders)


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        (("reproduced", "holds"), "comes out"),
        (("reproduced",) * 5 + ("off",), "does not come out"),
        (("undecided", "contradicted", "not attempted"), "does not come out"),
        (("holds", "undecided", "not attempted"), "undecided"),
        (("holds", "not attempted", "not comparable"), "not attempted"),
        (("reproduced", "not comparable"), "not comparable"),
    ],
)
def test_a_statement_is_no_better_than_its_worst_part(parts: tuple[str, ...], verdict: str) -> None:
    (one,) = statements([], [_table(*parts)])
    assert (one.text, one.verdict, one.parts) == (TEXT, verdict, len(parts))
    assert one.reason


def test_the_reason_counts_the_parts_in_words_that_agree() -> None:
    reasons = [statements([], [_table(*parts)])[0].reason for parts in (("holds",) * 2, ("holds", "undecided"))]
    assert [one.split(" – ")[0] for one in reasons] == ["2 hold", "1 holds, 1 undecided"]


def test_parts_of_several_tables_are_one_statement_and_what_counts_for_nothing_is_none() -> None:
    aside = Table(suite="t", title="", source="", cells=[_cell("not counted", None), _cell("off", None)])
    assert [one.parts for one in statements([], [_table("off"), _table("off", "holds"), aside])] == [3]


def test_a_statement_that_no_row_is_about_is_not_attempted() -> None:
    stated = statements([load_suite("table4")], [])
    assert [one.verdict for one in stated] == ["not attempted"] * len(load_suite("table4").statements)


def test_the_shipped_suites_state_what_the_paper_prints_and_each_once() -> None:
    by_name: dict[str, str] = {}
    for suite in load_suites(full=True):
        for name, text in suite.statements.items():
            assert by_name.setdefault(name, text) == text, f"two suites word {name} differently"
        used = {value.statement for value in suite.paper} | {claim.statement for claim in suite.orderings}
        assert set(suite.statements) <= used, f"{suite.name} states what nothing speaks for"
        for value in suite.paper:
            assert value.statement or value.aside or value.grade != "P", (
                f"{suite.name}: {value.place} is of no statement"
            )
    assert len(by_name) == len(set(by_name.values())) == 16
    for words in ("95.7 %", "99.6 %", "V100", "linear schedule", "U-Nets", "More steps", "MusicCaps' own"):
        assert [text for text in by_name.values() if words in text], words


def test_an_unknown_statement_is_refused_with_the_nearest(tmp_path: Any) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\ntitle = "Mine"\nsource = "me"\nversion = "1"\nkind = "claims"\n'
        '[statements]\nfewer = "Fewer passes"\n[[columns]]\nname = "saving"\nlabel = "saved"\nmeasure = "saving"\n'
        '[[paper]]\nrow = {}\ncolumn = "saving"\nvalue = 1\nplace = "p"\nstatement = "fewr"\n'
    )
    with pytest.raises(MelodyError, match="unknown statement 'fewr'.*fewer"):
        load_suite(path)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ('[[paper]]\nrow = { sytem = "a" }\ncolumn = "saving"\nvalue = 1\nplace = "p"\n', "paper value at p"),
        ('[[orderings]]\nclaim = "c"\ncolumn = "saving"\nlower = { sytem = "a" }\nhigher = 1.0\n', "ordering 'c'"),
    ],
)
def test_a_row_of_an_unknown_key_is_refused_with_the_nearest(tmp_path: Any, declared: str, message: str) -> None:
    """It would select no row, and the paper's value would stand nowhere."""
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\ntitle = "Mine"\nsource = "me"\nversion = "1"\nkind = "claims"\n'
        '[[columns]]\nname = "saving"\nlabel = "saved"\nmeasure = "saving"\n'
        f'[[rows]]\nrow = {{ system = "a" }}\n{declared}'
    )
    with pytest.raises(MelodyError, match=f"{message}.*unknown key 'sytem'.*did you mean 'system'"):
        load_suite(path)
