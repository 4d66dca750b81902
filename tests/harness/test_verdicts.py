from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melody.harness.results import Cell, Measurement, Reference
from melody.harness.suite import Column, OrderingClaim, PaperValue, Suite, load_suite
from melody.harness.verdicts import compare, judge, ordering_notes, orderings, tolerance_of

COLUMN = Column(
    name="fad", label="FAD", measure="fad", tolerance=0.05, comparable_presets=("paper",), reason="another scale"
)
PAPER = PaperValue(row={}, column="fad", value=10.0, place="Table 2")


def _measured(value: float, by_seed: dict[str, float] | None = None, **fields: int) -> Measurement:
    return Measurement(value=value, by_seed=by_seed or {}, **{"expected": 3, "scored": 3, **fields})


def _judge(
    measured: Measurement | None, column: Column = COLUMN, paper: PaperValue | None = PAPER, **surroundings: str
) -> tuple[str, str]:
    options = {"absent": "it was not run", "preset": "paper", "device": "Tesla V100", **surroundings}
    return judge(column, paper, measured, **options)


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


def _cell(
    num_steps: int, measured: Measurement | None, column: str = "fad", sampler: str = "ddim", paper: float | None = None
) -> Cell:
    return Cell(
        row={"sampler": sampler, "num_steps": num_steps},
        column=column,
        label=column,
        metric=column,
        metric_version="1",
        direction="lower",
        verdict="not comparable" if measured else "not attempted",
        reason="it failed",
        measured=measured,
        paper=None if paper is None else Reference(value=paper, place="Table 2"),
    )


def _suite(**claim: str) -> Suite:
    ordering = OrderingClaim(
        claim="FAD of 10 is lower than of 5", column="fad", lower={"num_steps": 10}, higher={"num_steps": 5}, **claim
    )
    return load_suite("table2").model_copy(update={"orderings": (ordering,)})


def _seeds(*values: float) -> Measurement:
    return _measured(sum(values) / len(values), {str(seed): value for seed, value in enumerate(values)})


@pytest.mark.parametrize(
    ("five", "ten", "verdict"),
    [
        ((7.0, 7.2, 6.9), (5.0, 5.1, 4.9), "holds"),
        ((5.0, 5.1, 4.9), (7.0, 7.2, 6.9), "contradicted"),
        ((7.0, 5.0, 6.0), (6.5, 5.9, 5.2), "undecided"),
        ((7.0,), (5.0,), "undecided"),
    ],
)
def test_orderings_by_paired_seeds(five: tuple[float, ...], ten: tuple[float, ...], verdict: str) -> None:
    cells = [_cell(5, _seeds(*five), paper=7.23), _cell(10, _seeds(*ten), paper=5.93)]
    (tested,) = orderings(_suite(), cells)
    assert tested.verdict == verdict
    assert tested.difference is not None
    assert math.isclose(tested.difference.value, sum(five) / len(five) - sum(ten) / len(ten))
    assert tested.reason.endswith(
        "(95 % t interval over seeds, paired, at the same prompts; not corrected for several claims)"
    ) == (len(five) > 1)
    assert tested.paper_difference is not None
    assert math.isclose(tested.paper_difference, 1.3)


def test_pairing_finds_what_unpaired_means_hide() -> None:
    cells = [_cell(5, _seeds(1.1, 5.1, 9.12)), _cell(10, _seeds(1.0, 5.0, 9.0))]
    assert orderings(_suite(), cells)[0].verdict == "holds"


def test_ordering_without_a_number_is_not_attempted_with_the_cells_reason() -> None:
    tested = orderings(_suite(), [_cell(5, _seeds(1, 2)), _cell(10, None)])
    assert (tested[0].verdict, tested[0].reason) == ("not attempted", "it failed")
    assert orderings(_suite(), [_cell(5, _seeds(1, 2))])[0].verdict == "not attempted"


def test_each_value_of_an_axis_is_tested_by_itself() -> None:
    cells = [
        _cell(5, _seeds(7, 7.1, 7.2)),
        _cell(10, _seeds(5, 5.1, 5.2)),
        _cell(5, _seeds(5, 5.1, 5.2), sampler="heun"),
        _cell(10, _seeds(7, 7.1, 7.2), sampler="heun"),
    ]
    tested = orderings(_suite(each="sampler"), cells)
    assert [o.verdict for o in tested] == ["holds", "contradicted"]
    assert tested[1].claim.endswith("(sampler = heun)")
    notes = ordering_notes(tested)
    assert notes[0].startswith("Contradicts the paper: FAD of 10 is lower than of 5 (sampler = heun)")
    assert "Holds (1 of 2" in notes[-1]


def test_ordering_across_columns() -> None:
    claim = OrderingClaim(claim="above control", column="mcc", lower_column="control", lower={}, higher={})
    suite = load_suite("table2").model_copy(update={"orderings": (claim,)})
    cells = [_cell(5, _seeds(0.5, 0.51, 0.52), "mcc"), _cell(5, _seeds(0.1, 0.1, 0.1), "control")]
    assert orderings(suite, cells)[0].verdict == "holds"
