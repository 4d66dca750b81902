"""The ablation over samplers, grids and steps: differences to a reference, and how many evaluations are enough."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from melody.artifacts.store import Store
from melody.evaluation.result import Measurement
from melody.reproduce.results import Cell, Results, Table
from melody.reproduce.runner import run
from melody.reproduce.suite import Suite, group_names, load_suites, suite_names
from melody.reproduce.tables.nfe_needed import Curve, Point

SUITES = ("samplers/quality", "samplers/passes-needed")
GRIDS = ("melody-linear", "uniform")
REFERENCE = {"sampler": "ddim", "grid": "melody-linear", "num_steps": 20}


def _small(tones: SimpleNamespace, **settings: object) -> list[Suite]:
    """Both suites on two grids."""
    suites = [tones.small(name, **settings) for name in SUITES]
    return [suite.model_copy(update={"axes": suite.axes | {"grid": GRIDS}}) for suite in suites]


@pytest.fixture(scope="module")
def results(tones: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("samplers")
    context = tones.context(samplers=("ddim", "heun"))
    return run(_small(tones), context, store=Store(folder / "store"), output=folder / "out", command="test")


def _cell(table: Table, column: str, **row: str | int) -> Cell:
    (found,) = [c for c in table.cells if c.column == column and c.row == row]
    return found


def _measured(table: Table, column: str, **row: str | int) -> Measurement:
    measured = _cell(table, column, **row).measured
    assert measured is not None
    return measured


def test_the_ablation_is_only_run_by_name() -> None:
    assert "samplers" in group_names()
    assert {suite.name for suite in load_suites(["samplers"])} == {"samplers-quality", "passes-needed"}
    assert not {"samplers-quality", "passes-needed"} & set(suite_names())


def test_a_difference_is_to_the_reference_at_equal_seeds(results: Results) -> None:
    quality = results.tables[0]
    reference = _measured(quality, "fad", **REFERENCE)
    for steps in (5, 10):
        row = REFERENCE | {"num_steps": steps}
        fad, difference = _measured(quality, "fad", **row), _measured(quality, "fad_difference", **row)
        assert math.isclose(difference.value, fad.value - reference.value, abs_tol=1e-9)
        assert difference.low is not None
        assert difference.low < difference.value
        assert all(
            math.isclose(value, fad.by_seed[seed] - reference.by_seed[seed], abs_tol=1e-9)
            for seed, value in difference.by_seed.items()
        )
        assert _measured(quality, "evaluations", **row).value == steps


@pytest.mark.parametrize("column", ["fad_difference", "mcc_difference"])
def test_the_reference_differs_from_itself_by_nothing(results: Results, column: str) -> None:
    own = _measured(results.tables[0], column, **REFERENCE)
    assert (own.value, own.low, own.high) == (0, 0, 0)


def test_what_is_enough_is_decided_by_the_interval(results: Results) -> None:
    needed = results.tables[1]
    assert _measured(needed, "decided", sampler="ddim", grid="melody-linear").value == 20
    # twice the noise at every number of steps
    uniform = _cell(needed, "decided", sampler="ddim", grid="uniform")
    assert uniform.measured is None
    assert uniform.reason.startswith("no number up to 20 evaluations, the most that were measured")
    assert _measured(needed, "difference", sampler="ddim", grid="uniform").value > 0
    assert any(note.startswith("ddim: enough, decided: 20 evaluations (melody-linear") for note in needed.notes)


def test_a_sampler_that_fails_spoils_only_its_rows(
    tones: SimpleNamespace, tmp_path: Path, register_sampler: Callable[[str], None]
) -> None:
    register_sampler("test-broken")
    context = tones.context(samplers=("ddim", "test-broken"))
    quality, needed = run(
        _small(tones, seeds=(0,)), context, store=Store(tmp_path / "s"), output=tmp_path / "out"
    ).tables
    for table in (quality, needed):
        for cell in table.cells:
            broken = cell.row["sampler"] == "test-broken"
            assert broken == ("this sampler always fails" in cell.reason)
    assert (
        needed.notes[2] == "test-broken: enough, decided: none that was measured; not excluded: none that was measured."
    )


def test_without_an_interval_nothing_is_decided() -> None:
    alone = Measurement(value=-5.0, expected=1, scored=1)
    curve = Curve((Point({"num_steps": 5}, alone, alone),), margin=0.1)
    assert curve.decided() is None
    assert curve.possible() is not None


def _point(evaluations: int, value: float, half: float) -> Point:
    counted = Measurement(value=evaluations, expected=3, scored=3)
    difference = Measurement(value=value, low=value - half, high=value + half, expected=3, scored=3)
    return Point({"num_steps": evaluations}, counted, difference)


@pytest.mark.parametrize(
    ("differences", "decided", "possible"),
    [
        (((0.9, 0.1), (0.3, 0.4), (0.02, 0.05)), 20, 10),
        (((0.1, 0.2), (0.3, 0.1), (0.3, 0.1)), None, 5),
        (((0.9, 0.1), (0.8, 0.1), (0.7, 0.1)), None, None),
        (((-0.9, 0.1), (0.8, 0.1), (0.7, 0.1)), None, 5),  # nothing is enough where more evaluations are not
        (((-0.9, 0.1), (0.01, 0.05), (0.02, 0.05)), 5, 5),
        (((0.05, 0.04), (0.02, 0.05), (0.0, 0.05)), 5, 10),  # decided to be worse, but by less than the margin
    ],
)
def test_the_fewest_that_are_enough(
    differences: tuple[tuple[float, float], ...], decided: int | None, possible: int | None
) -> None:
    points = [_point(n, *found) for n, found in zip((5, 10, 20), differences, strict=True)]
    curve = Curve(tuple(points), margin=0.1)
    for found, expected in ((curve.decided(), decided), (curve.possible(), possible)):
        assert (found.nfe.value if found else None) == expected
