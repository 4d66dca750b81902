"""Threshold files: what holds, what falls, and every slip in one line."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import pytest

from melody.errors import MelodyError
from melody.evaluation.result import Measurement
from melody.gate.checks import GateOutcome, gate
from melody.gate.junit import junit, write_junit
from melody.gate.thresholds import Threshold, Thresholds, load_thresholds
from melody.paths import declarations
from melody.reproduce.results import Cell, Results, Table


def _cell(num_steps: int, value: float | None, error: float | None = None, **others: str) -> Cell:
    measured = None
    if value is not None:
        measured = Measurement(value=value, standard_error=error, expected=40, scored=40)
    verdict = "not comparable" if measured else "not attempted"
    return Cell.model_validate(
        {"row": {"sampler": "ddim", "num_steps": num_steps}, "column": "fad", "label": "FAD",
         "metric": "fad[mel-stats]", "metric_version": "1", "direction": "lower", "verdict": verdict,
         "reason": "sampler <ddim> returned NaN\x00", "measured": measured, **others}
    )  # fmt: skip


def _results(*cells: Cell, suite: str = "table2") -> Results:
    table = Table(suite=suite, title="Table 2", source="paper", cells=list(cells))
    return Results(
        created="2025-01-01T00:00:00+00:00", command="", seconds=0, cells_computed=0, cells_reused=0, tables=[table]
    )


def _run(results: Results, **threshold: object) -> GateOutcome:
    one = Threshold.model_validate({"metric": "fad", **threshold})
    return gate(results, Thresholds(title="demo", thresholds=(one,)))


@pytest.mark.parametrize("metric", ["fad", "fad[mel-stats]"])
@pytest.mark.parametrize(
    ("value", "bound", "passed"),
    [
        (9.0, {"max": 10}, True),
        (10.0, {"max": 10}, True),
        (10.1, {"max": 10}, False),
        (9.0, {"min": 10}, False),
        (10.1, {"min": 10}, True),
        (5.0, {"min": 4, "max": 6}, True),
        (7.0, {"min": 4, "max": 6}, False),
    ],
)
def test_bounds(metric: str, value: float, bound: dict[str, float], passed: bool) -> None:
    outcome = _run(_results(_cell(5, value)), metric=metric, **bound)
    assert outcome.passed is passed
    (check,) = outcome.checks
    assert f"{value:g}" in check.line
    assert "fad[mel-stats] [sampler = ddim, num_steps = 5]" in check.line


@pytest.mark.parametrize(("value", "passed"), [(10.0, True), (14.9, True), (15.1, False), (3.0, True)])
def test_no_worse_than_a_baseline_by_k_standard_errors(tmp_path: Path, value: float, passed: bool) -> None:
    baseline = tmp_path / "base.json"
    baseline.write_text(_results(_cell(5, 10.0, 3.0)).model_dump_json())
    # Standard error of the difference: 5, so one of them allows 15.
    outcome = _run(_results(_cell(5, value, 4.0)), no_worse_than=baseline, by_standard_errors=1)
    assert outcome.passed is passed


def test_counts_hold_to_the_baseline_itself(tmp_path: Path) -> None:
    baseline = tmp_path / "base.json"
    baseline.write_text(_results(_cell(5, 10.0, direction="higher")).model_dump_json())
    for value, passed in ((10.0, True), (9.9, False)):
        assert _run(_results(_cell(5, value, direction="higher")), no_worse_than=baseline).passed is passed


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_a_cell_without_a_number_falls_with_its_reason(value: float | None) -> None:
    outcome = _run(_results(_cell(5, value)), max=10.0)
    assert not outcome.passed
    assert ("returned NaN" if value is None else "expected a finite number") in outcome.checks[0].line


@pytest.mark.parametrize(
    ("threshold", "message"),
    [
        ({"suite": "tabel2"}, "no suite 'tabel2'; did you mean 'table2'"),
        ({"metric": "fda[mel-stats]"}, r"no metric 'fda\[mel-stats\]'; did you mean 'fad\[mel-stats\]'"),
        ({"row": {"num_step": 5}}, "unknown key 'num_step'; did you mean 'num_steps'"),
        ({"row": {"num_steps": 7}}, r"num_steps is never 7.*\(valid: 10, 5\)"),
        (
            {},
            r"'fad' stands 2 times .*suite = 'table2', row = \{ sampler = \"ddim\", num_steps = 5 \}; .*num_steps = 10",
        ),
    ],
)
def test_a_threshold_that_selects_nothing_or_too_much_is_one_line(threshold: dict[str, object], message: str) -> None:
    with pytest.raises(MelodyError, match=message) as error:
        _run(_results(_cell(5, 1.0), _cell(10, 1.0)), max=10.0, **threshold)
    assert "\n" not in str(error.value)


def test_one_row_is_enough_to_tell_where_a_metric_stands_often() -> None:
    assert _run(_results(_cell(5, 12.0), _cell(10, 1.0)), max=10.0, row={"num_steps": 10}).passed


def test_a_baseline_that_is_missing_or_lacks_the_number_or_measured_otherwise_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(MelodyError, match="cannot read"):
        _run(_results(_cell(5, 1.0)), no_worse_than=tmp_path / "none.json")
    baseline = tmp_path / "base.json"
    baseline.write_text(_results(_cell(5, None)).model_dump_json())
    with pytest.raises(MelodyError, match="has no number of table2 fad"):
        _run(_results(_cell(5, 1.0)), no_worse_than=baseline)
    baseline.write_text(_results(_cell(5, 1.0, metric_version="2")).model_dump_json())
    with pytest.raises(MelodyError, match="does not compare: version 1 of the metric, the baseline's is 2"):
        _run(_results(_cell(5, 1.0)), no_worse_than=baseline)
    with pytest.raises(MelodyError, match="no direction is better: give max or min"):
        _run(_results(_cell(5, 1.0, direction="none")), no_worse_than=baseline)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('max = 1.0\nno_worse_than = "x"', "expected max or min"),
        ("", "expected max or min"),
        ("max = 1.0\nby_standard_errors = 2", "by_standard_errors was given without no_worse_than"),
        ("max = inf", "finite number"),
        ("max = 1\nmin = 2", "min is above max"),
        ("maks = 1.0", "unknown key 'thresholds.0.maks'; did you mean 'max'"),
        ("max = ", "not valid TOML"),
        ('max = "five"', "thresholds.0.max"),
    ],
)
def test_malformed_thresholds_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.toml"
    path.write_text(f'[[thresholds]]\nmetric = "fad"\n{text}\n')
    with pytest.raises(MelodyError, match=message):
        load_thresholds(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('column = "fad"\ndirection = "lower"\nbound = 12.0', r'metric = "fad", max = 12\.0'),
        ('column = "mcc"\ndirection = "higher"\nbound = 0.3', r'metric = "mcc", min = 0\.3'),
        (
            'column = "fad"\ndirection = "lower"\nbaseline = "x/results.json"\nstandard_errors = 2.0',
            r'metric = "fad", no_worse_than = "x/results.json", by_standard_errors = 2\.0',
        ),
    ],
)
def test_the_old_form_is_refused_with_the_new_one(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "t.toml"
    path.write_text(f'title = "t"\n[[thresholds]]\nsuite = "table2"\n{old}\n')
    with pytest.raises(MelodyError, match=rf"threshold 1 is of an older form .*: write {new} in place") as error:
        load_thresholds(path)
    assert "\n" not in str(error.value)


def test_baselines_are_relative_to_the_threshold_file(tmp_path: Path) -> None:
    (tmp_path / "base.json").write_text(_results(_cell(5, 10.0)).model_dump_json())
    path = tmp_path / "t.toml"
    path.write_text('[[thresholds]]\nmetric = "fad"\nno_worse_than = "base.json"\nby_standard_errors = 1\n')
    assert gate(_results(_cell(5, 10.0)), load_thresholds(path)).passed
    assert not gate(_results(_cell(5, 10.1)), load_thresholds(path)).passed
    assert gate(_results(_cell(5, 10.0)), load_thresholds(path)).title == "t"


def test_junit_is_well_formed_and_no_two_of_its_cases_share_a_name(tmp_path: Path) -> None:
    """One hosted CI keeps only the first case of a name."""
    results = _results(_cell(5, 9.0, error=0.1), _cell(10, None))
    baseline = tmp_path / "base.json"
    baseline.write_text(_results(_cell(5, 9.0, error=0.1)).model_dump_json())
    row = {"num_steps": 5}
    several = [
        {"max": 10.0, "row": row},
        {"max": 12.0, "row": row},
        {"max": 12.0, "row": row},
        {"no_worse_than": baseline, "row": row},
        {"max": 12.0, "row": {"num_steps": 10}},
    ]
    thresholds = tuple(Threshold.model_validate({"metric": "fad", **one}) for one in several)
    outcome = gate(results, Thresholds(title="demo", thresholds=thresholds))
    write_junit(outcome, tmp_path / "gate.xml")
    assert (tmp_path / "gate.xml").read_bytes() == junit(outcome)
    root = ElementTree.fromstring(junit(outcome))
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("5", "1", "0")
    names = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]
    assert len(set(names)) == 5
    assert ("melody.table2", "fad[mel-stats] [sampler = ddim, num_steps = 5] at most 10") in names
    (failure,) = root.iter("failure")
    assert "sampler <ddim> returned NaN" in (failure.get("message") or "")


@pytest.mark.parametrize(
    "path", sorted((declarations("eval") / "thresholds").glob("*.toml")), ids=lambda path: path.stem
)
def test_shipped_thresholds_are_valid(path: Path) -> None:
    from melody.reproduce.suite import load_suite

    for threshold in load_thresholds(path).thresholds:
        assert threshold.suite is not None
        assert threshold.metric.partition("[")[0] in {column.name for column in load_suite(threshold.suite).columns}
