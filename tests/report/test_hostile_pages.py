"""The pages of an evaluation and of a listening test: no text, number or amount of them ends a page or gets into it."""

from __future__ import annotations

import itertools
import math
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from melody.errors import MelodyError
from melody.evaluation.result import Comparison, Evaluation
from melody.listening.schema import ListeningResult
from melody.report.evaluated import evaluated
from melody.report.listening import listened
from melody.report.markdown import render_markdown
from melody.report.page import render_page
from melody.report.terminal import print_document
from melody.reproduce.results import load_results

TEXTS = [
    "$x^2_$",
    "$\\frac{",
    "_own",
    "\0",
    "\ud800",
    "<script>alert(1)</script>",
    "\x1b[31m",
    "%s{0}",
    "",
    "ab $<" * 200_000,
]
NUMBERS = [math.nan, math.inf, -math.inf, 5e-324, 1e308, -1e308, 0.0, 0.5]
LONGEST_S = 120.0


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)


def held(page: str) -> None:
    assert "script" not in Tags(page).found
    assert not {"\0", "\x1b", "\ud800"} & set(page)
    assert len(page) < 20_000_000


def evaluation(texts: list[str], numbers: list[float], scores: int = 6, others: int = 3) -> dict[str, Any]:
    text, number = itertools.cycle(texts), itertools.cycle(numbers)
    inputs = {
        "folder": next(text), "expected": 2**63, "read": 0, "others": 1, "passed_over": {next(text): 1},
        "seconds": 1e300, "formats": {next(text): 1}, "beyond_full_scale": 1, "highest_peak": next(number),
        "silent": [next(text) for _ in range(others)], "content": next(text),
    }  # fmt: skip
    score = [
        {
            "name": f"{next(text)}{n}", "metric": "fad", "version": next(text),
            "input_kind": "embeddings", "direction": "lower",
            "unit": next(text), "value": next(number), "low": next(number), "high": next(number), "expected": 1,
            "scored": 1, "warnings": [next(text)], "reason": next(text), "source": {next(text): next(text)},
            "controls": [
                {"name": next(text), "value": next(number), "low": next(number), "high": next(number), "n": 1}
                for _ in range(2)
            ],
            "worst": [{"identifier": next(text), "file": next(text), "value": next(number)}],
        }
        for n in range(scores)
    ]  # fmt: skip
    return {
        "created": next(text), "command": next(text), "seconds": 1, "sounds_computed": 1, "sounds_reused": 0,
        "generated": inputs, "scores": score, "notes": [next(text)],
        "skipped": [{"file": f"{next(text)}{n}", "reason": next(text)} for n in range(others)],
        "circumstances": {"seed": 0, "device": next(text), "versions": {}, "commit": None},
    }  # fmt: skip


def shown(result: Evaluation | Comparison, folder: Path) -> str:
    document = evaluated(result, folder / "page.html")
    with (folder / "terminal.txt").open("w", encoding="utf-8") as file:
        print_document(document, Console(file=file, width=100), verbose=True)
    page = render_page(document)
    held(page)
    assert "<script" not in re.sub(r"`[^`]*`", "", render_markdown(document))
    return page


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_hostile_texts_and_numbers_of_an_evaluation(text: str, tmp_path: Path) -> None:
    page = shown(Evaluation.model_validate(evaluation([text], NUMBERS)), tmp_path)
    assert not {"\0", "\x1b", "\x08"} & set(page)


def test_hostile_comparison(tmp_path: Path) -> None:
    one = evaluation(TEXTS, NUMBERS)
    numbers = {"a": math.inf, "b": math.nan, "value": 1e308, "low": -math.inf, "high": 1.0, "pairs": 2}
    row = {
        "name": "$x^",
        "metric": "<script>",
        "version": "1",
        "direction": "lower",
        **numbers,
        "effect_size": math.nan,
    }
    known = {"kind": "comparison", "created": "", "seconds": 1, "a": one, "b": one, "pairs": 2}
    page = shown(Comparison.model_validate({**known, "differences": [row]}), tmp_path)
    assert "&lt;script&gt;" in page
    assert "<script>" not in page


def test_an_evaluation_of_any_size(tmp_path: Path) -> None:
    begin = time.process_time()
    page = shown(Evaluation.model_validate(evaluation(["x"], [1.0], scores=100, others=50_000)), tmp_path)
    assert "Left out: 50000, of which 20 are shown" in page
    assert "The first metrics (16 of 100 metrics)" in page
    assert time.process_time() - begin < LONGEST_S


def test_a_number_beyond_64_bits_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text('{"pairs": ' + "9" * 400 + ', "kind": "comparison"}')
    with pytest.raises(MelodyError, match="is not a results file") as error:
        load_results(tmp_path / "e.json")
    assert "\n" not in str(error.value)


def listening(texts: list[str], numbers: list[float], pairs: int = 8, raters: int = 3) -> ListeningResult:
    text, number = itertools.cycle(texts), itertools.cycle(numbers)

    def measured() -> dict[str, Any]:
        low, high = next(number), next(number)
        return {"value": next(number), "low": low, "high": high, "expected": 1, "scored": 1, "interval": next(text)}

    none = dict.fromkeys(
        ["judgements", "checks", "checks_failed", "repeats", "repeats_same", "triads", "triads_circular", "comparisons",
         "comparisons_same", "similar", "heard_first"], 1,
    )  # fmt: skip
    return ListeningResult.model_validate({
        "melody_version": "1", "source": next(text), "sha256": "", "systems": [next(text)], "questions": [next(text)],
        "items": 1, "rows": 1, "judgements": 2**63, "exclusion": next(text), "warnings": [next(text)],
        "unread_columns": [next(text)], "heard_first": measured(),
        "preferences": [
            {"question": next(text), "system_a": f"{next(text)}{n}", "system_b": next(text), "wins_a": 1, "similar": 1,
             "wins_b": 1, "raters": 1, "rate": measured(), "reason": next(text), "p_holm": next(number)}
            for n in range(pairs)
        ],
        "bradley_terry": [
            {"question": next(text), "misfit_pair": ["a", "b"], "largest_misfit": next(number),
             "strengths": [{"system": next(text), "strength": measured()} for _ in range(pairs)]}
        ],
        "agreement": [{"question": next(text), "units": 1, "alpha": measured(), "observed": next(number)}],
        "raters": [{"rater": f"{next(text)}{n}", "excluded": n % 2 == 0, **none} for n in range(raters)],
    })  # fmt: skip


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_hostile_texts_and_numbers_of_a_listening_test(text: str, tmp_path: Path) -> None:
    result = listening([text], NUMBERS)
    document = listened(result)
    held(render_page(document))
    with (tmp_path / "terminal.txt").open("w", encoding="utf-8") as file:
        print_document(document, Console(file=file, width=100))
    printed = (tmp_path / "terminal.txt").read_text(encoding="utf-8")
    assert printed.strip()
    assert not {"\0", "\x1b", "\ud800"} & set(printed)


def test_a_listening_test_of_any_size() -> None:
    begin = time.process_time()
    page = render_page(listened(listening(["x"], [0.5], pairs=5_000, raters=20_000)))
    assert "500 of 20,000 raters are shown; --json has all of them." in page
    assert "x (60 of 5,000 shown)" in page or "x (60 of 500 shown)" in page
    assert len(page) < 5_000_000
    assert time.process_time() - begin < LONGEST_S
