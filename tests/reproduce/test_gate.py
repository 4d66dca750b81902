from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import pytest

from melody.errors import MelodyError
from melody.evaluation.result import Measurement
from melody.paths import declarations
from melody.reproduce.gate import GateOutcome, Threshold, Thresholds, gate, junit, load_thresholds, write_junit
from melody.reproduce.results import Cell, Results, Table


def _cell(
    num_steps: int, value: float | None, error: float | None = None, direction: str = "lower", column: str = "fad"
) -> Cell:
    measured = None
    if value is not None:
        measured = Measurement(value=value, standard_error=error, expected=4, scored=4)
    return Cell.model_validate(
        {"row": {"sampler": "ddim", "num_steps": num_steps}, "column": column, "label": column, "metric": column,
         "metric_version": "1", "direction": direction, "verdict": "not comparable" if measured else "not attempted",
         "reason": "sampler <ddim> returned NaN\x00", "measured": measured}
    )  # fmt: skip


def _results(*cells: Cell) -> Results:
    table = Table(suite="table2", title="Table 2", source="paper", cells=list(cells))
    return Results(
        created="2025-01-01T00:00:00+00:00", command="", seconds=0, cells_computed=0, cells_reused=0, tables=[table]
    )


def _run(results: Results, **threshold: object) -> GateOutcome:
    one = Threshold.model_validate({"suite": "table2", "column": "fad", "direction": "lower", **threshold})
    return gate(results, Thresholds(title="demo", thresholds=(one,)))


@pytest.mark.parametrize(
    ("value", "direction", "passed"),
    [
        (9.0, "lower", True),
        (10.0, "lower", True),
        (10.1, "lower", False),
        (9.0, "higher", False),
        (10.1, "higher", True),
    ],
)
def test_absolute_bound(value: float, direction: str, passed: bool) -> None:
    outcome = _run(_results(_cell(5, value, direction=direction)), bound=10.0, direction=direction)
    assert outcome.passed is passed
    assert len(outcome.checks) == 1
    assert "bound 10" in outcome.checks[0].line
    assert f"{value:g}" in outcome.checks[0].line


@pytest.mark.parametrize(("value", "passed"), [(10.0, True), (14.9, True), (15.1, False), (3.0, True)])
def test_no_worse_than_the_baseline_by_k_standard_errors(tmp_path: Path, value: float, passed: bool) -> None:
    baseline = tmp_path / "base.json"
    baseline.write_text(_results(_cell(5, 10.0, 3.0)).model_dump_json())
    # Standard error of the difference: 5, so one of them allows 15.
    outcome = _run(_results(_cell(5, value, 4.0)), baseline=baseline, standard_errors=1.0)
    assert outcome.passed is passed


def test_higher_is_better_against_a_baseline_of_counts(tmp_path: Path) -> None:
    baseline = tmp_path / "base.json"
    baseline.write_text(_results(_cell(5, 10.0, direction="higher")).model_dump_json())
    for value, passed in ((10.0, True), (9.9, False)):
        results = _results(_cell(5, value, direction="higher"))
        assert _run(results, direction="higher", baseline=baseline, standard_errors=3.0).passed is passed


def test_every_selected_cell_must_hold() -> None:
    results = _results(_cell(5, 12.0), _cell(10, 8.0), _cell(20, 7.0))
    outcome = _run(results, bound=10.0)
    assert [check.passed for check in outcome.checks] == [False, True, True]
    assert not outcome.passed
    assert _run(results, bound=10.0, row={"num_steps": 10}).passed


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_cell_without_a_number_fails_with_its_reason(value: float | None) -> None:
    outcome = _run(_results(_cell(5, value)), bound=10.0)
    assert not outcome.passed
    if value is None:
        assert "returned NaN" in outcome.checks[0].line


@pytest.mark.parametrize(
    ("threshold", "message"),
    [
        ({"suite": "tabel2"}, "no suite 'tabel2'; did you mean 'table2'"),
        ({"column": "fda"}, "no column 'fda' in table2; did you mean 'fad'"),
        ({"row": {"num_step": 5}}, "unknown key 'num_step'; did you mean 'num_steps'"),
        ({"row": {"num_steps": 7}}, r"num_steps is never 7 \(valid: 5\)"),
        ({"direction": "higher"}, "of fad lower is better"),
    ],
)
def test_threshold_on_what_is_not_there_is_bad_input(threshold: dict[str, object], message: str) -> None:
    with pytest.raises(MelodyError, match=message):
        _run(_results(_cell(5, 1.0)), bound=10.0, **threshold)


def test_baseline_that_is_missing_or_lacks_the_cell_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(MelodyError, match="cannot read"):
        _run(_results(_cell(5, 1.0)), baseline=tmp_path / "none.json", standard_errors=1.0)
    baseline = tmp_path / "base.json"
    baseline.write_text(_results(_cell(5, None)).model_dump_json())
    with pytest.raises(MelodyError, match="no measured number"):
        _run(_results(_cell(5, 1.0)), baseline=baseline, standard_errors=1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('bound = 1.0\nbaseline = "x"\nstandard_errors = 1.0', "expected either bound"),
        ("", "expected either bound"),
        ('baseline = "x"', "go together"),
        ("bound = inf", "finite number"),
        ("bond = 1.0", "unknown key 'thresholds.0.bond'; did you mean 'bound'"),
        ("bound = ", "not valid TOML"),
    ],
)
def test_malformed_thresholds_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.toml"
    path.write_text(f'title = "t"\n[[thresholds]]\nsuite = "table2"\ncolumn = "fad"\ndirection = "lower"\n{text}\n')
    with pytest.raises(MelodyError, match=message):
        load_thresholds(path)


def test_baselines_are_relative_to_the_thresholds_file(tmp_path: Path) -> None:
    (tmp_path / "base.json").write_text(_results(_cell(5, 10.0)).model_dump_json())
    path = tmp_path / "t.toml"
    path.write_text(
        'title = "t"\n[[thresholds]]\nsuite = "table2"\ncolumn = "fad"\ndirection = "lower"\n'
        'baseline = "base.json"\nstandard_errors = 1.0\n'
    )
    assert gate(_results(_cell(5, 10.0)), load_thresholds(path)).passed
    assert not gate(_results(_cell(5, 10.1)), load_thresholds(path)).passed


def test_junit_is_well_formed_and_counts(tmp_path: Path) -> None:
    outcome = _run(_results(_cell(5, 12.0), _cell(10, 8.0), _cell(20, None)), bound=10.0)
    path = tmp_path / "gate.xml"
    write_junit(outcome, path)
    assert path.read_bytes() == junit(outcome)
    root = ElementTree.fromstring(path.read_bytes())
    assert (root.get("tests"), root.get("failures")) == ("3", "2")
    cases = root.findall("testsuite[@name='table2']/testcase")
    assert [case.get("name") for case in cases] == [
        f"fad [sampler = ddim, num_steps = {n}] at most 10" for n in (5, 10, 20)
    ]
    messages = [case.find("failure") for case in cases]
    assert [message is not None for message in messages] == [True, False, True]
    assert "sampler <ddim> returned NaN" in (messages[2].get("message") or "")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "path", sorted((declarations("eval") / "thresholds").glob("*.toml")), ids=lambda path: path.stem
)
def test_shipped_thresholds_are_valid(path: Path) -> None:
    from melody.reproduce.suite import load_suite

    for threshold in load_thresholds(path).thresholds:
        assert threshold.column in {column.name for column in load_suite(threshold.suite).columns}


def test_no_two_cases_of_a_junit_file_share_a_name(tmp_path: Path) -> None:
    """One hosted CI keeps only the first case of a name."""
    results = _results(_cell(5, 9.0, error=0.1), _cell(10, 8.0, error=0.1))
    baseline = tmp_path / "base.json"
    baseline.write_text(results.model_dump_json())
    common = {"suite": "table2", "column": "fad", "direction": "lower"}
    several = [{"bound": 10.0}, {"bound": 12.0}, {"bound": 12.0}, {"baseline": baseline, "standard_errors": 2.0}]
    thresholds = tuple(Threshold.model_validate({**common, **one}) for one in several)
    root = ElementTree.fromstring(junit(gate(results, Thresholds(title="demo", thresholds=thresholds))))
    names = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]
    assert len(names) == len(set(names)) == 8
    assert ("melody.table2", "fad [sampler = ddim, num_steps = 5] at most 10") in names
