"""One engine: a table's numbers of real clips are those that ``melody evaluate`` gives of the same clips as files."""

from __future__ import annotations

from pathlib import Path

import pytest

import melody
from melody.artifacts.store import Store
from melody.data.exporting import export_embedded
from melody.reproduce.results import Results
from melody.reproduce.runner import run
from melody.reproduce.subject import preset_context
from melody.reproduce.suite import load_suite

CLIPS = 16
SUITE = """
name = "halves"
title = "Halves"
source = "nobody"
version = "1"
kind = "quality-and-speed"
settings = { prompts = 2, duration_s = 2.0, seeds = [0], reference_clips = 16 }
rows = [{ row = { system = "reference halves" } }, { row = { system = "real clips" } }]
[axes]
sampler = ["ddim"]
grid = ["melody-linear"]
num_steps = [1]
[[columns]]
name = "fad"
label = "FAD"
measure = "fad"
embedder = "mel-stats"
[[columns]]
name = "precision"
label = "precision"
metric = "precision"
embedder = "mel-stats"
[[columns]]
name = "loudness"
label = "loudness"
metric = "loudness"
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("halves")
    (folder / "suite.toml").write_text(SUITE)
    suite, store = load_suite(folder / "suite.toml"), Store(folder / "store")
    return run([suite], preset_context("demo"), store=store, output=folder / "out")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same clips as files, and others to be measured against them."""
    folder = tmp_path_factory.mktemp("exported")
    export_embedded(folder / "music", split="test", num_clips=CLIPS)
    export_embedded(folder / "other", split="validation", num_clips=4)
    return folder


def test_reference_halves_are_the_same_number(results: Results, exported: Path) -> None:
    evaluation = melody.evaluate(exported / "other", reference=exported / "music", metrics=["fad", "precision"])
    for metric in ("fad", "precision"):
        (control,) = [one for one in evaluation[metric].controls if one.name == "reference halves"]
        (cell,) = [
            cell
            for cell in results.tables[0].cells
            if cell.column == metric and cell.row == {"system": "reference halves"}
        ]
        assert cell.measured is not None
        found = (cell.measured.value, cell.measured.low, cell.measured.high)
        assert found == pytest.approx((control.value, control.low, control.high), rel=1e-4)
        assert (cell.measured.scored, control.against) == (control.n, CLIPS // 2)
        assert str(cell.measured.warning).startswith(f"{control.n} clips against {control.against}")


def test_loudness_of_real_clips_is_the_same_number(results: Results, exported: Path) -> None:
    expected = melody.evaluate(exported / "music", metrics=["loudness"])["loudness"].value
    (cell,) = [
        cell for cell in results.tables[0].cells if cell.column == "loudness" and cell.row == {"system": "real clips"}
    ]
    assert cell.measured is not None
    assert cell.measured.value == pytest.approx(expected, abs=1e-3)
