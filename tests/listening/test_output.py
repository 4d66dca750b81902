"""The command, the JSON, the page: the same numbers, text that stays text, and nothing half done."""

from __future__ import annotations

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from melody.cli import main
from melody.listening.analysis import analyse
from melody.listening.schema import ListeningResult
from melody.report.listening import blocks, listened
from melody.report.page import render_page
from melody.report.plots.preferences import draw_listening

from .conftest import Write, simulated

HOSTILE = "<script>alert('ö')</script> [red]$x$"


class Reader(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def melody(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    # Not by COLUMNS: a console that another test imported first has taken its width already.
    monkeypatch.setattr("melody.cli.listening.console", Console(width=200))

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["listening", "analyse", *map(str, arguments)])
        printed = capsys.readouterr()
        return int(caught.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture
def ratings(write: Write) -> Path:
    rows = simulated({"melody": 0.5, HOSTILE: 0.0, "noise2music": -0.5}, ties=0.2)
    return write([*rows, ["r7", "check", "musicality", "melody", "noise", "second", "a", "first"]])


def test_the_command_prints_and_writes_the_same_numbers(melody, ratings: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, out, error = melody(ratings, "--json", tmp_path / "r.json", "--html", tmp_path / "sub" / "r.html")
    assert (code, error) == (0, "")
    result = ListeningResult.model_validate_json((tmp_path / "r.json").read_text())
    assert result == analyse(ratings)
    page = Reader((tmp_path / "sub" / "r.html").read_text())
    for text in ("r7 is excluded: 1 of 1 attention checks failed", "Krippendorff's", "half a point"):
        assert text in out
        assert text in page.text
    for block in blocks(result):
        for row in block.rows:
            assert all(cell in page.text for cell in row)
            assert all(cell in out for cell in row[1:])
    assert HOSTILE in page.text
    assert "script" not in page.tags
    assert page.tags.count("svg") == 2
    assert json.loads((tmp_path / "r.json").read_text())["kind"] == "listening"


def test_the_same_file_gives_the_same_bytes(ratings: Path) -> None:
    first, second = analyse(ratings), analyse(ratings)
    assert first.model_dump_json() == second.model_dump_json()
    assert render_page(listened(first)) == render_page(listened(second))


def test_plots_say_in_words_what_they_show(ratings: Path) -> None:
    rates, strengths = draw_listening(analyse(ratings))
    assert rates.text.startswith("Preference rate. musicality: melody over ")
    assert "noise2music −0." in strengths.text
    assert rates.png.startswith(b"\x89PNG")


def test_two_systems_have_one_plot_and_no_strengths(write: Write) -> None:
    result = analyse(write(simulated({"a": 0.5, "b": 0.0})))
    assert result.bradley_terry == []
    assert [plot.name for plot in draw_listening(result)] == ["preferences"]
    assert "strength" not in Reader(render_page(listened(result))).text.lower()


def test_bad_input_is_one_line_and_leaves_what_was_there(melody, write: Write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    kept = tmp_path / "r.json"
    kept.write_text("kept")
    bad = write([["ann", "x", "musicality", "a", "b", "frist"]])
    code, out, error = melody(bad, "--json", kept, "--html", tmp_path / "r.html")
    assert (code, out) == (2, "")
    assert error == (
        "melody: error: ratings.csv, line 2: unknown answer 'frist'; did you mean 'first'? "
        "(valid: first, second, similar)\n"
    )
    assert kept.read_text() == "kept"
    assert not (tmp_path / "r.html").exists()


def test_outputs_do_not_overwrite_the_ratings_or_each_other(melody, ratings: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    before = ratings.read_bytes()
    for options in (["--json", ratings], ["--json", tmp_path / "x", "--html", tmp_path / "x"]):
        code, _, error = melody(ratings, *options)
        assert code == 2
        assert "the same file: expected different ones" in error
    assert ratings.read_bytes() == before


def test_a_listening_test_is_analysed_without_torch(ratings: Path) -> None:
    code = f"""
import sys
sys.modules["torch"] = None
from melody.cli import main
try:
    main(["listening", "analyse", {str(ratings)!r}, "--html", {str(ratings.with_suffix(".html"))!r}])
except SystemExit as end:
    sys.exit(end.code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert ratings.with_suffix(".html").is_file()
