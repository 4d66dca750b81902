"""The parts: numbers, layout, plots and sounds, each at its seam."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from melody.evaluation.result import Measurement
from melody.report import numbers
from melody.report.frames import cells_frame, to_csv
from melody.report.kinds import DASH
from melody.report.plots.bars import pass_panels
from melody.report.plots.curves import step_panels
from melody.report.reproduction import headline
from melody.report.sounds import load_sounds, mel_spectrogram, picture
from melody.report.tables import NOT_IN_RUN, TableLayout
from melody.report.write import file_names
from melody.reproduce.results import Cell, Clip, Results, Statement, StatementVerdict, Table

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


def _cell(row: dict[str, str | int | float], column: str = "fad", **fields: object) -> Cell:
    known: dict[str, object] = {"row": row, "column": column, "label": column, "metric": column, "metric_version": "1"}
    known |= {"direction": "lower", "verdict": "not attempted", "reason": "no run"}
    return Cell.model_validate(known | fields)


def _table(*cells: Cell, clips: list[Clip] | None = None) -> Table:
    return Table(suite="s", title="S", source="here", cells=list(cells), clips=clips or [])


def _run(*tables: Table) -> Results:
    return Results(created="", command="", seconds=1.0, cells_computed=0, cells_reused=0, tables=list(tables))


@given(value=FINITE, below=FINITE.map(abs), above=FINITE.map(abs))
def test_a_measured_number_is_never_empty(value: float, below: float, above: float) -> None:
    measured = Measurement(value=value, low=value - below, high=value + above, expected=1, scored=1)
    text, interval = numbers.measured(measured)
    assert text
    assert "nan" not in (text + interval).lower()
    assert "-" not in text  # the sign is a minus, not a hyphen


@given(value=st.floats(min_value=-1e6, max_value=1e6), half=st.floats(min_value=1e-4, max_value=1e5))
def test_a_measured_number_is_right_to_a_tenth_of_its_interval(value: float, half: float) -> None:
    measured = Measurement(value=value, low=value - half, high=value + half, expected=1, scored=1)
    text, _ = numbers.measured(measured)
    assert math.isclose(float(text.replace(",", "").replace("−", "-")), value, abs_tol=max(0.1 * half, 1e-9))


@pytest.mark.parametrize(("value", "text"), [(math.nan, "NaN"), (math.inf, "∞"), (-math.inf, "−∞"), (0.0, "0")])
def test_numbers_that_are_none_have_names(value: float, text: str) -> None:
    assert numbers.rounded(value) == text
    assert numbers.printed(value) == text


def test_a_missing_cell_is_a_dash_that_says_why() -> None:
    measured = Measurement(value=1.0, expected=1, scored=1)
    table = _table(_cell({"a": 1}, "x", measured=measured), _cell({"a": 2}, "y", measured=measured))
    place = TableLayout(table).grids()[0].rows[0].cells[1]
    assert (place.number, place.meaning) == (DASH, NOT_IN_RUN)


def test_an_axis_that_never_changes_moves_out_of_the_rows() -> None:
    rows: list[dict[str, str | int | float]] = [{"grid": "linear", "num_steps": n} for n in (5, 10)]
    layout = TableLayout(_table(*(_cell(row) for row in rows), _cell({"system": "real clips"})))
    (grid,) = layout.grids()
    assert grid.head == "steps"
    assert layout.constants == {"grid": "linear"}
    assert [row.name for row in grid.rows] == ["5", "10", "real clips"]


def test_the_papers_rows_and_columns_stand_first_and_what_others_fill_in_grids_of_their_own() -> None:
    measured, paper = Measurement(value=1.0, expected=1, scored=1), {"value": 2.0, "place": "Table 9"}
    speed = [_cell({"n": n}, "speed", measured=measured, paper=paper) for n in (1, 2)]
    empty = [_cell({"n": n}, "gpu", paper=paper, reason="this run is on cpu") for n in (1, 2)]
    quality = [_cell({"n": n}, "fad", measured=measured, paper=paper) for n in (1, 2)]
    own = [_cell({"n": n}, "ours", measured=measured) for n in (1, 2)]
    controls = [_cell({"system": name}, "fad", measured=measured) for name in ("noise", "silence")]
    first, beside, ours = TableLayout(_table(*speed, *empty, *quality, *own, *controls)).grids()
    assert [name.split()[0] for name in first.columns] == ["speed", "fad"]
    assert first.after == ("Not filled by this run: gpu (the paper: 2; 2). This run is on cpu.",)
    assert [row.name for row in beside.rows] == ["noise", "silence"]
    assert [name.split()[0] for name in beside.columns] == ["fad"]
    assert ours.folded
    assert [name.split()[0] for name in ours.columns] == ["ours"]


def test_fewer_scored_than_expected_is_a_footnote() -> None:
    measured = Measurement(value=1.0, expected=16, scored=14, warning="few windows")
    cell = TableLayout(_table(_cell({"a": 1}, measured=measured))).grids()[0].rows[0].cells[0]
    assert cell.warned
    assert cell.footnotes[1:3] == ("Few windows.", "14 of 16 expected items were scored.")


def test_measured_and_printed_curves_have_panels_of_their_own(results: Results) -> None:
    table = next(table for table in results.tables if table.suite == "table2")
    panels = step_panels(table, ("fad", "mcc"))
    assert [panel.kind for panel in panels] == ["measured", "measured", "paper", "paper"]
    assert [panel.title for panel in panels][2:] == ["Paper: FAD", "Paper: MCC"]  # their embedder is not ours
    assert len(panels[0].curves) == 3
    assert len(panels[2].curves) == 1
    assert panels[2].curves[0].colour == panels[0].curves[0].colour
    assert [point.value for point in panels[2].curves[0].points] == [7.23, 5.93, 5.41]


def test_a_sampler_on_two_grids_is_two_curves(results: Results) -> None:
    table = next(table for table in results.tables if table.suite == "table4")
    panel = step_panels(table, ("fad",))[0]
    assert [curve.label for curve in panel.curves] == ["ddim · uniform", "ddim · melody-linear"]
    assert len({(curve.colour, curve.dash) for curve in panel.curves}) == 2


def test_one_number_of_steps_is_no_curve() -> None:
    measured = Measurement(value=1.0, expected=1, scored=1)
    assert step_panels(_table(_cell({"sampler": "ddim", "num_steps": 5}, measured=measured)), ("fad",)) == []


def test_passes_have_a_panel_for_each_duration(results: Results) -> None:
    table = next(table for table in results.tables if table.suite == "claims")
    panels = dict(pass_panels(table))
    assert list(panels) == ["Forward passes for 10 s", "Forward passes for 30 s"]
    found = {(bar.kind, bar.value) for bar in panels["Forward passes for 30 s"]}
    assert {("measured", 930.0), ("paper", 770.0), ("paper", 18750.0), ("published", 930.0)} <= found
    theirs = [(bar.label, bar.grade) for bar in panels["Forward passes for 10 s"] if bar.value == 6250]
    assert theirs == [("MusicLM's passes", " [D]")]


def test_sounds_over_the_limit_are_linked(results: Results, sound_folder: Path) -> None:
    sounds = load_sounds(results, sound_folder, embed_bytes=1000)["published-samples"]
    assert [sound.source for sound in sounds[:2]] == ["clips/five.flac", "clips/ten.wav"]
    assert all(sound.picture.startswith("data:image/png") for sound in sounds[:2])


def test_the_picture_of_a_sound_has_few_colours_and_few_bytes() -> None:
    noise = np.random.default_rng(0).standard_normal(240_000).astype(np.float32)
    png = picture(noise, 24_000)
    assert len(png) < 70_000, "of ten seconds; three times as much in true colour"
    assert png == picture(noise, 24_000)


def test_a_link_to_a_sound_is_escaped(tmp_path: Path) -> None:
    name = 'a "b" #1.wav'
    soundfile.write(tmp_path / name, np.zeros(4800), 24_000)
    (sound,) = load_sounds(_run(_table(clips=[Clip(title="t", text="x", path=name)])), tmp_path, embed_bytes=0)["s"]
    assert sound.source == "a%20%22b%22%20%231.wav"


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.flac", b"no sound at all", "not readable as a sound"),
        ("a.wav", b"", "not readable as a sound"),
        ("a.txt", b"text", "not a sound file that a browser plays"),
        ("/etc/passwd.flac", None, "outside the folder"),
        ("javascript:alert(1).wav", None, "outside the folder"),
        ("gone.flac", None, "the file is missing"),
    ],
)
def test_a_bad_sound_says_what_is_wrong(tmp_path: Path, name: str, content: bytes | None, problem: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    (sound,) = load_sounds(_run(_table(clips=[Clip(title="t", text="x", path=name)])), tmp_path)["s"]
    assert problem in sound.problem
    assert name in sound.problem
    assert not sound.source


def test_the_spectrogram_shows_a_tone_at_its_mel_place() -> None:
    rate, pitch = 24_000, 1000.0
    tone = np.sin(2 * np.pi * pitch * np.arange(rate) / rate).astype(np.float32)
    decibels = mel_spectrogram(tone, rate)
    bands = decibels.shape[0]
    expected = (bands - 1) * math.log(1 + pitch / 700) / math.log(1 + rate / 2 / 700)
    assert abs(int(decibels[:, decibels.shape[1] // 2].argmax()) - expected) <= 1
    assert decibels.max() == pytest.approx(0, abs=1e-4)
    assert decibels.min() == pytest.approx(-80, abs=1e-4)


@pytest.mark.parametrize("samples", [1, 100, 24_000 * 60])
def test_the_spectrogram_takes_any_length(samples: int) -> None:
    decibels = mel_spectrogram(np.zeros(samples, dtype=np.float32), 24_000)
    assert decibels.shape[0] == 128
    assert 1 <= decibels.shape[1] <= 482
    assert np.isfinite(decibels).all()


def test_file_names_stay_in_their_folder_and_apart() -> None:
    tables = [_table().model_copy(update={"suite": suite}) for suite in ("../../x", "X", "..", "ü", "a/b")]
    names = list(file_names([table.suite for table in tables]).values())
    assert len({name.lower() for name in names}) == 5
    assert all("/" not in name and not name.startswith(".") for name in names)


def test_csv_keeps_every_digit() -> None:
    value = 0.1 + 0.2
    text = to_csv(cells_frame(_table(_cell({"a": 1}, measured=Measurement(value=value, expected=1, scored=1)))))
    assert repr(value) in text


def test_the_headline_counts_claims_and_not_cells() -> None:
    cells = [_cell({"a": number}, verdict="off") for number in range(17)]
    run = _run(_table(*cells))
    assert headline(run) == "This run asks after no claim of the paper."
    verdicts: tuple[StatementVerdict, ...] = ("does not come out", "comes out", "undecided", "undecided")
    stated = [Statement(text=f"{n}", verdict=verdict, reason="r", parts=17) for n, verdict in enumerate(verdicts)]
    told = headline(run.model_copy(update={"statements": stated}))
    assert told == "4 claims of the paper: 1 contradicted, 1 confirmed, 2 undecided."
