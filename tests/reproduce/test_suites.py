from __future__ import annotations

from pathlib import Path

import pytest

from melody.errors import MelodyError
from melody.reproduce.suite import (
    Suite,
    group_names,
    load_baselines,
    load_suite,
    load_suites,
    published_number,
    suite_names,
)
from melody.reproduce.tables.builder import check_measures
from melody.reproduce.tables.table import kind_of

LINEAR = {"sampler": "ddim", "grid": "melody-linear"}

# The paper's tables, written down again: (suite, row, {column: value}).
PRINTED = [
    (
        "table1",
        {"system": "mousai"},
        {"training_hours": 2.5, "continuation": 1, "faster_than_real_time": 1, "various_prompts": 0, "producers": 0},
    ),
    (
        "table1",
        {"system": "musiclm"},
        {"training_hours": 280, "continuation": 1, "faster_than_real_time": 0, "various_prompts": 1, "producers": 0},
    ),
    (
        "table1",
        {"system": "noise2music"},
        {"training_hours": 340, "continuation": 0, "faster_than_real_time": 0, "various_prompts": 1, "producers": 0},
    ),
    (
        "table1",
        {"system": "melody"},
        {"training_hours": 257, "continuation": 1, "faster_than_real_time": 1, "various_prompts": 1, "producers": 1},
    ),
    ("table2", {"system": "real clips"}, {"mcc": 0.43}),
    (
        "table2",
        {**LINEAR, "num_steps": 5},
        {"cpu_hz": 1472, "cpu_rtf": 0.06, "gpu_hz": 181_100, "gpu_rtf": 7.5, "fad": 7.23, "mcc": 0.49},
    ),
    (
        "table2",
        {**LINEAR, "num_steps": 10},
        {"cpu_hz": 893, "cpu_rtf": 0.04, "gpu_hz": 104_800, "gpu_rtf": 4.4, "fad": 5.93, "mcc": 0.52},
    ),
    (
        "table2",
        {**LINEAR, "num_steps": 20},
        {"cpu_hz": 498, "cpu_rtf": 0.02, "gpu_hz": 56_900, "gpu_rtf": 2.4, "fad": 5.41, "mcc": 0.53},
    ),
    (
        "table3",
        {"system": "musiclm"},
        {"nfe": 6250, "musicality_musiclm": 0.541, "quality_musiclm": 0.465, "text_musiclm": 0.548},
    ),
    (
        "table3",
        {"system": "noise2music"},
        {"nfe": 2600, "musicality_noise2music": 0.555, "quality_noise2music": 0.436, "text_noise2music": 0.572},
    ),
    (
        "table3",
        {"system": "melody"},
        {"nfe": 270, "musicality_musiclm": 0.459, "quality_musiclm": 0.535, "text_musiclm": 0.452},
    ),
    (
        "table3",
        {"system": "melody"},
        {"musicality_noise2music": 0.445, "quality_noise2music": 0.564, "text_noise2music": 0.428},
    ),
    ("table4", {"sampler": "ddim", "grid": "uniform", "num_steps": 10}, {"fad": 8.52, "mcc": 0.45}),
    ("table4", {"sampler": "ddim", "grid": "uniform", "num_steps": 20}, {"fad": 6.31, "mcc": 0.49}),
    ("table4", {**LINEAR, "num_steps": 10}, {"fad": 5.93, "mcc": 0.52}),
    ("table4", {**LINEAR, "num_steps": 20}, {"fad": 5.41, "mcc": 0.53}),
    ("table5", {"denoiser": "unet-1d"}, {"velocity_mse": 0.13, "si_snri": 5.33}),
    ("table5", {"denoiser": "unet-2d"}, {"velocity_mse": 0.15, "si_snri": 4.96}),
    ("table5", {"denoiser": "dual-path"}, {"velocity_mse": 0.12, "si_snri": 6.15}),
    ("claims", {"duration_s": 10}, {"saving": 95.7, "passes": 270, "musiclm_passes": 6250}),
    ("claims", {"duration_s": 30}, {"saving": 99.6, "passes": 770, "musiclm_passes": 18_750}),
    ("step-time", {"device": "cuda"}, {"seconds_per_step": 0.193, "seconds_beside_steps": 0.37}),
    ("step-time", {"device": "cpu"}, {"seconds_per_step": 21.3, "seconds_beside_steps": 57}),
]


@pytest.mark.parametrize(("suite", "row", "columns"), PRINTED)
def test_every_printed_value_is_declared(suite: str, row: dict[str, str | int], columns: dict[str, float]) -> None:
    loaded = load_suite(suite)
    for column, value in columns.items():
        paper = loaded.paper_value(row, column)
        assert paper is not None, column
        assert paper.value == value


def test_no_value_is_declared_that_is_not_on_the_sheet() -> None:
    for suite in load_suites(["table1", "table2", "table4", "table5", "claims", "step-time"]):
        listed = sum(len(columns) for name, _, columns in PRINTED if name == suite.name)
        assert len(suite.paper) == listed, suite.name


def test_shipped_suites_cover_the_paper() -> None:
    wanted = {"table1", "table2", "table3", "table4", "table5", "claims", "published-samples"}
    assert wanted <= set(suite_names())


@pytest.mark.parametrize("name", suite_names())
def test_shipped_suite_is_valid(name: str) -> None:
    suite = load_suite(name)
    assert suite.name == name
    check_measures(suite, kind_of(suite).measures)
    for value in suite.paper:
        assert value.grade != "M", "a recalled value is never the paper's"


def test_only_numbers_of_the_papers_kind_compare() -> None:
    comparable = {
        (suite.name, column.name): column.comparable_presets
        for suite in load_suites(["table1", "table2", "table4", "table5", "step-time"])
        for column in suite.columns
        if column.comparable_presets and "*" not in column.comparable_presets
    }
    speeds = {("table2", name) for name in ("cpu_hz", "cpu_rtf", "gpu_hz", "gpu_rtf")}
    steps = {("step-time", "seconds_per_step"), ("step-time", "seconds_beside_steps")}
    assert comparable == dict.fromkeys(speeds | steps | {("table1", "faster_than_real_time")}, ("paper",))
    for suite, name in comparable:
        assert load_suite(suite).column(name).comparable_devices, "a speed is of a device"


def test_nearest_suite_is_named() -> None:
    with pytest.raises(MelodyError, match=r"unknown suite 'tabel2'; did you mean 'table2'\?"):
        load_suites(["tabel2"])


def test_suites_are_loaded_once_and_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINIMAL)
    assert [suite.name for suite in load_suites(["table2", "table2", path])] == ["table2", "mine"]


MINIMAL = """
name = "mine"
title = "Mine"
source = "me"
version = "1"
kind = "quality-and-speed"
[axes]
sampler = ["ddim"]
grid = ["uniform"]
num_steps = [2]
[[columns]]
name = "mcc"
label = "MCC"
measure = "mcc"
"""


FULL = """
[full.settings]
prompts = 64
[full.axes]
num_steps = [2, 4]
"""


def test_the_long_run_has_other_settings_and_axes(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINIMAL + FULL)
    short, full = load_suite(path), load_suite(path, full=True)
    assert (short.settings.prompts, short.axes["num_steps"]) == (16, (2,))
    assert (full.settings.prompts, full.axes["num_steps"]) == (64, (2, 4))
    assert full.settings.seeds == short.settings.seeds
    assert full.axes["grid"] == short.axes["grid"]


def test_the_long_run_takes_in_all_groups() -> None:
    short, full = ({suite.name for suite in load_suites(full=long)} for long in (False, True))
    assert short == {suite.name for suite in load_suites(suite_names())}
    assert full - short == {suite.name for suite in load_suites(group_names())}
    assert load_suites(["table2"], full=True)[0].settings.prompts > load_suite("table2").settings.prompts


@pytest.mark.parametrize(
    ("full", "message"),
    [
        ("[full.setings]\nprompts = 3\n", "full.setings"),
        ("[full.settings]\nprompst = 3\n", "did you mean 'prompts'"),
        ("[full.axes]\nnum_steps = 3\n", "num_steps"),
    ],
)
def test_a_bad_long_run_is_refused_in_the_short_one_too(tmp_path: Path, full: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINIMAL + full)
    with pytest.raises(MelodyError, match=message) as raised:
        load_suite(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("title =", "titel ="), "unknown key 'titel'; did you mean 'title'"),
        (
            ('measure = "mcc"', 'measure = "mcc"\ntolerence = 0.1'),
            r"unknown key 'columns.0.tolerence'; did you mean 'tolerance'",
        ),
        (('name = "mine"', "name = "), "not valid TOML"),
        (('version = "1"', "version = 1"), "version"),
        (
            ("[[columns]]", '[[orderings]]\nclaim = "x"\ncolumn = "mc"\nlower = {}\nhigher = {}\n[[columns]]'),
            "did you mean 'mcc'",
        ),
    ],
)
def test_bad_suite_is_one_line(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINIMAL.replace(*change))
    with pytest.raises(MelodyError, match=message) as raised:
        load_suite(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)


def test_unknown_kind_and_measure_name_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINIMAL)
    suite = load_suite(path)
    with pytest.raises(MelodyError, match="did you mean 'quality-and-speed'"):
        kind_of(suite.model_copy(update={"kind": "quality-and-sped"}))
    column = suite.columns[0].model_copy(update={"measure": "mccc"})
    with pytest.raises(MelodyError, match="unknown measure 'mccc'; did you mean 'mcc'"):
        check_measures(suite.model_copy(update={"columns": (column,)}), kind_of(suite).measures)


def test_shipped_baselines_hold_no_number_of_the_papers_own() -> None:
    baselines = load_baselines()
    assert {"mousai", "musiclm", "noise2music"} <= {baseline.name for baseline in baselines}
    assert [number for baseline in baselines for number in baseline.numbers] == []


def test_baselines_say_what_others_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs.toml").write_text(
        'name = "theirs"\ntitle = "Theirs"\nsource = "them"\n'
        '[[numbers]]\nsuite = "table3"\nrow = { system = "theirs" }\ncolumn = "nfe"\nvalue = 7\nplace = "Table 9"\n'
    )
    monkeypatch.setattr("melody.reproduce.suite.declarations", lambda name: tmp_path)
    baselines = load_baselines()
    found = published_number(baselines, "table3", {"system": "theirs", "more": 1}, "nfe")
    assert found is not None
    assert (found.value, found.place, found.grade) == (7, "Table 9", "P")
    assert published_number(baselines, "table3", {"system": "melody"}, "nfe") is None
    assert published_number(baselines, "table3", {"system": "theirs"}, "nfe_formula") is None


def test_suite_model_refuses_two_values_in_one_cell(tmp_path: Path) -> None:
    twice = '\n[[paper]]\nrow = { num_steps = 2 }\ncolumn = "mcc"\nvalue = 1.0\nplace = "here"\n' * 2
    path = tmp_path / "mine.toml"
    path.write_text(MINIMAL + twice)
    with pytest.raises(MelodyError, match="two paper values"):
        load_suite(path)


def test_suite_is_frozen() -> None:
    suite: Suite = load_suite("table2")
    with pytest.raises(ValueError, match="frozen"):
        suite.name = "other"  # type: ignore[misc]
