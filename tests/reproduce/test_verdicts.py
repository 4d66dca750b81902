from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melody.evaluation.result import Measurement
from melody.reproduce.suite import Column, Condition, PaperValue, Row, Scalar, load_suite
from melody.reproduce.verdicts import Circumstances, compare, judge, tolerance_of

COLUMN = Column(
    name="fad", label="FAD", measure="fad", tolerance=0.05, comparable_presets=("paper",), reason="another scale"
)
PAPER = PaperValue(row={}, column="fad", value=10.0, place="Table 2")


def _measured(value: float, by_seed: dict[str, float] | None = None, **fields: int) -> Measurement:
    return Measurement(value=value, by_seed=by_seed or {}, **{"expected": 3, "scored": 3, **fields})


def _judge(
    measured: Measurement | None,
    column: Column = COLUMN,
    paper: PaperValue | None = PAPER,
    row: Row | None = None,
    conditions: dict[str, Scalar] | None = None,
    **surroundings: str,
) -> tuple[str, str]:
    here = Circumstances(**{"preset": "paper", "device": "Tesla V100", **surroundings}, conditions=conditions or {})
    return judge(column, paper, row or {}, measured, "it was not run", here)


@given(st.floats(-1e6, 1e6))
def test_within_the_tolerance_is_reproduced_and_else_off(value: float) -> None:
    verdict, _ = _judge(_measured(value))
    assert (verdict == "reproduced") == (abs(value - 10.0) <= 0.5)
    assert verdict in ("reproduced", "off")


def test_no_number_keeps_its_reason() -> None:
    assert _judge(None) == ("not attempted", "it was not run")


def test_another_preset_or_device_does_not_compare() -> None:
    assert _judge(_measured(10.0), preset="demo") == ("not comparable", "another scale")
    on_v100 = COLUMN.model_copy(update={"comparable_devices": ("V100",)})
    assert _judge(_measured(10.0), on_v100)[0] == "reproduced"
    verdict, reason = _judge(_measured(10.0), on_v100, device="NVIDIA H200")
    assert verdict == "not comparable"
    assert "V100" in reason
    assert "H200" in reason
    anywhere = COLUMN.model_copy(update={"comparable_presets": ("*",)})
    assert _judge(_measured(10.0), anywhere, preset="demo")[0] == "reproduced"


def test_no_preset_compares_unless_a_column_names_it() -> None:
    plain = Column(name="fad", label="FAD", measure="fad", reason="another embedder")
    assert _judge(_measured(10.0), plain, preset="paper") == ("not comparable", "another embedder")


def test_a_cell_that_lost_clips_does_not_compare() -> None:
    assert _judge(_measured(10.0, scored=2)) == ("not comparable", "only 2 of 3 items could be scored")


def test_a_row_of_ours_has_no_paper_value() -> None:
    assert _judge(_measured(10.0), paper=None)[0] == "not comparable"


@pytest.mark.parametrize(
    ("value", "verdict"), [(95.68, "reproduced"), (95.74, "reproduced"), (95.76, "off"), (95.64, "off"), (95.04, "off")]
)
def test_printed_digits_decide_where_they_are_given(value: float, verdict: str) -> None:
    paper = PaperValue(row={}, column="fad", value=95.7, place="abstract", decimals=1)
    expected = "reproduced" if abs(value - 95.7) <= 0.05 + 1e-9 else "off"
    assert expected == verdict
    assert compare(COLUMN, paper, value)[0] == verdict
    tolerance = tolerance_of(COLUMN, paper)
    assert tolerance is not None
    assert math.isclose(tolerance * 95.7, 0.05)


@pytest.mark.parametrize("grade", ["S", "D", "M"])
def test_what_is_not_printed_is_no_statement_of_the_paper(grade: str) -> None:
    paper = PaperValue.model_validate({**PAPER.model_dump(), "grade": grade})
    verdict, reason = _judge(_measured(10.0), paper=paper)
    assert verdict == "not counted"
    assert f"grade {grade}" in reason


def test_another_basis_than_the_papers_is_shown_and_not_counted() -> None:
    paper = PAPER.model_copy(update={"basis": {"basis": "as printed"}})
    assert _judge(_measured(10.0), paper=paper, row={"basis": "as printed"})[0] == "reproduced"
    assert _judge(_measured(17.0), paper=paper, row={"basis": "another"})[0] == "not counted"
    aside = PAPER.model_copy(update={"aside": "a fact of files"})
    assert _judge(_measured(10.0), paper=aside) == ("not counted", "a fact of files")


def test_one_measurement_in_two_units_has_one_verdict() -> None:
    twice = COLUMN.model_copy(update={"judged_by": "hz"})
    verdict, reason = _judge(_measured(10.0), twice)
    assert verdict == "not counted"
    assert "hz" in reason
    for suite in (load_suite("table2"), load_suite("speed/speed")):
        judged = [column for column in suite.columns if column.comparable_devices and not column.judged_by]
        assert len({column.comparable_devices for column in judged}) == len(judged) == 2


def test_other_settings_than_the_papers_do_not_compare() -> None:
    verdict, reason = _judge(_measured(10.0), other_settings="duration_s 5.0 (the paper's: 10.0)")
    assert verdict == "not comparable"
    assert "5.0 (the paper's: 10.0)" in reason


def test_a_speed_compares_where_precision_batch_and_threads_do() -> None:
    half = Condition(name="precision", value="float16", source="its peak")
    batch = Condition(name="batch", value=1, source="told")
    column = COLUMN.model_copy(update={"conditions": (half, batch)})
    assert _judge(_measured(10.0), column, conditions={"precision": "float16", "batch": 1})[0] == "reproduced"
    verdict, reason = _judge(_measured(10.0), column, conditions={"precision": "float32", "batch": 1})
    assert (verdict, reason) == (
        "not comparable",
        "precision: the paper's is float16 (its peak), this run's is float32",
    )
    assert "batch" in _judge(_measured(10.0), column, conditions={"precision": "float16"})[1]
    unknown = COLUMN.model_copy(update={"conditions": (Condition(name="threads"),)})
    verdict, reason = _judge(_measured(10.0), unknown, conditions={"threads": 2})
    assert (verdict, reason) == ("not comparable", "threads: the paper's is not known, this run's is 2")


def test_table_2_in_fp32_does_not_compare_on_a_v100() -> None:
    column = load_suite("table2").column("gpu_hz")
    ours: dict[str, Scalar] = {"precision": "float32", "batch": 1, "threads": 2}
    verdict, reason = _judge(_measured(181_100.0), column, conditions=ours, device="Tesla V100-SXM2-32GB")
    assert verdict == "not comparable"
    assert "precision: the paper's is float16" in reason
