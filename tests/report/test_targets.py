"""Targets of our own in every format, apart from what the paper says; sounds beside their originals."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from melody.report.reproduction import headline, reproduction
from melody.report.spectrograms import draw_beside
from melody.report.terminal import print_document
from melody.report.write import write_report
from melody.reproduce.results import Clip, Results, Target

CLAIM = "<script>drums</script> | agree for at least 70 %"


@pytest.fixture
def aimed(results: Results) -> Results:
    targets = [
        Target(claim=CLAIM, column="fad", verdict="falls short", reason="60 (52 to 68), to be at least 70"),
        Target(claim="FAD is below that of noise", column="fad", verdict="holds", reason="7 against 88"),
        Target(claim="p < 0.01", column="mcc", verdict="not attempted", reason="no clips"),
    ]
    clips = [
        Clip(title="original", text="a waltz", path="clips/five.flac"),
        Clip(title="through the codec", text="a waltz", path="clips/ten.wav", beside="clips/five.flac"),
        Clip(title="lost", text="a waltz", path="clips/missing.flac", beside="clips/five.flac"),
    ]
    table = results.tables[-1].model_copy(update={"targets": targets, "clips": clips})
    return results.model_copy(update={"tables": [table]})


def test_targets_are_counted_apart_from_the_paper(aimed: Results, results: Results) -> None:
    aimed = aimed.model_copy(update={"statements": []})
    assert headline(aimed) == "1 of our own 3 targets hold."
    both = results.model_copy(update={"tables": [*results.tables[:-1], *aimed.tables]})
    assert headline(both) == f"{headline(results)} 1 of our own 3 targets hold."


def test_targets_stand_in_every_format(aimed: Results, sound_folder: Path) -> None:
    written = {str(p.relative_to(sound_folder)): p for p in write_report(aimed, sound_folder)}
    file = io.StringIO()
    print_document(reproduction(aimed), Console(file=file, width=200))
    terminal = " ".join(file.getvalue().split())
    page, markdown = (written[name].read_text(encoding="utf-8") for name in ("report.html", "REPORT.md"))
    for text in (terminal, page, markdown):
        assert "✗" in text
        assert "60 (52 to 68), to be at least 70" in text
    assert CLAIM not in page + markdown
    table = pd.read_csv(written["tables/published-samples-targets.csv"])
    assert table["verdict"].tolist() == ["falls short", "holds", "not attempted"]
    assert table["claim"][0] == CLAIM
    assert "figures/published-samples-spectrograms.png" in markdown


def test_only_pairs_that_can_be_read_are_drawn(aimed: Results, results: Results, sound_folder: Path) -> None:
    drawn = draw_beside(aimed.tables[0], sound_folder)
    assert drawn is not None
    text, png = drawn
    assert png.startswith(b"\x89PNG")
    assert "original beside through the codec" in text
    assert "lost" not in text
    assert draw_beside(results.tables[0], sound_folder) is None
    assert draw_beside(results.tables[-1], sound_folder) is None
