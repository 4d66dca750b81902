"""What a reader of the shipped report meets first: each claim of the paper in a line, what contradicts it first."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from melody.report.claims import CLAIMS
from melody.report.document import Document
from melody.report.kinds import DASH
from melody.report.page import render_page
from melody.report.reproduction import TITLE, reproduction
from melody.report.terminal import print_document
from melody.reproduce.results import load_results
from melody.reproduce.suite import load_suites

DEMO = Path(__file__).parents[2] / "reports" / "demo" / "results.json"
SMALL = "a demo of under one per cent of the paper's size"


@pytest.fixture(scope="module")
def document() -> Document:
    return reproduction(load_results(DEMO))


def terminal(document: Document, width: int) -> list[str]:
    file = io.StringIO()
    print_document(document, Console(width=width, file=file))
    return file.getvalue().splitlines()


def test_every_statement_of_the_suites_is_in_one_claim() -> None:
    stated = {text for suite in load_suites(()) for text in suite.statements.values()}
    gathered = [text for claim in CLAIMS for text in (claim.statement, *claim.beside)]
    assert len(gathered) == len(set(gathered))
    assert stated == set(gathered)


def test_about_ten_claims_stand_first_and_what_contradicts_before_all(document: Document) -> None:
    assert document.title == TITLE
    assert 8 <= len(document.findings) <= 12
    first = document.findings[0]
    assert (first.mark, first.text) == ("✗", "99.6 % fewer forward passes than MusicLM for 30 s")
    assert (first.number, first.reference, first.scale) == ("95.04 %, an exact count", "99.6 %", "demo")
    assert any("fast as it can" in other.text for other in first.folded)
    assert len({finding.anchor for finding in document.findings} - {""}) >= 4


def test_each_tested_claim_has_a_number_and_the_scale_that_it_was_tested_at(document: Document) -> None:
    for finding in document.findings:
        assert finding.number
        assert (finding.scale == DASH) == (finding.number == "not tested"), finding
    linear = next(finding for finding in document.findings if "linear" in finding.text)
    assert "linear " in linear.number
    assert "uniform " in linear.number
    assert "±" in linear.number or " to " in linear.number


def test_the_first_forty_lines_of_a_terminal_hold_every_claim_and_the_demos_size(document: Document) -> None:
    text = " ".join(" ".join(terminal(document, 100)[:40]).split())
    assert text.startswith(TITLE)
    assert SMALL in text
    assert sum(text.count(f"{mark} ") for mark in "✗✓?≠○") >= len(document.findings)
    assert SMALL in render_page(document).partition("<nav")[0].replace("&#39;", "'")


def test_fad_and_mcc_are_in_the_first_table_of_table_2_at_100_columns_and_stand_whole_at_80(document: Document) -> None:
    for width in (80, 100):
        lines = terminal(document, width)
        start = next(place for place, line in enumerate(lines) if line.startswith("Table 2: speed"))
        head = next(place for place, line in enumerate(lines[start:], start) if "FAD" in line)
        assert head - start <= 6
        assert width == 80 or "MCC" in " ".join(lines[head - 1 : head + 2])
        assert max(map(len, lines)) <= width
    section = next(section for section in document.sections if section.name == "table2")
    assert [row.name for row in section.grids[0].rows[:3]] == ["5", "10", "20"]
    assert not any("noise" in row.name for row in section.grids[0].rows)
    assert [name.split("[")[0] for name in section.grids[0].columns if "[" in name] == ["FAD", "MCC"]
