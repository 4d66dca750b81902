"""The picture of quality against velocity evaluations."""

from __future__ import annotations

import pytest

from melody.evaluation.result import Measurement
from melody.report.plots.figures import draw
from melody.report.plots.nfe import Facets, facets_text, nfe_facets
from melody.reproduce.results import Cell, Provenance, Results, Table

REFERENCE = {"sampler": "ddim", "grid": "uniform", "num_steps": 20}
METRICS = {"evaluations": "velocity-evaluations", "fad": "fad[mel-stats]", "difference": "fad-difference[mel-stats]"}
LEVEL = 4.0


def _cells(sampler: str, grid: str, steps: int, evaluations: int, difference: float | None) -> list[Cell]:
    config = {"reference": REFERENCE, "margin": 0.05}
    known = Provenance.model_validate(
        {"preset": "demo", "device": "cpu", "precision": "float32", "seeds": [0], "sample_count": 1}
        | {"versions": {}, "commit": None, "config": config}
    )
    numbers = {
        "evaluations": Measurement(value=evaluations, expected=1, scored=1),
        "fad": Measurement(value=LEVEL + (difference or 0), expected=1, scored=1),
        "difference": Measurement(value=difference or 0, low=(difference or 0) - 0.1, expected=1, scored=1),
    }
    return [
        Cell(
            row={"sampler": sampler, "grid": grid, "num_steps": steps},
            column=name,
            label=name,
            metric=METRICS[name],
            metric_version="1",
            direction="lower",
            verdict="not comparable" if difference is not None else "not attempted",
            reason="it failed",
            measured=number if difference is not None else None,
            provenance=known,
        )
        for name, number in numbers.items()
    ]


def _table(*rows: tuple[str, str, int, int, float | None]) -> Table:
    cells = [cell for row in rows for cell in _cells(*row)]
    return Table(suite="samplers-quality", title="Quality", source="ours", cells=cells)


@pytest.fixture
def table() -> Table:
    return _table(
        ("ddim", "uniform", 20, 20, 0.0),
        ("ddim", "uniform", 5, 5, 0.9),
        ("heun", "uniform", 5, 10, 0.2),
        ("heun", "uniform", 10, 20, None),
        ("heun", "karras", 5, 10, 1.5),
    )


def _facets(table: Table) -> Facets:
    found = nfe_facets(table)
    assert found is not None
    return found


def test_a_panel_for_each_grid_and_a_curve_for_each_sampler(table: Table) -> None:
    facets = _facets(table)
    assert {grid: [c.sampler for c in curves] for grid, curves in facets.panels.items()} == {
        "uniform": ["ddim", "heun"],
        "karras": ["heun"],
    }
    ddim, heun = facets.panels["uniform"]
    assert [(p.nfe, p.value) for p in ddim.points] == [(5, 0.9), (20, 0.0)]
    assert [(p.nfe, p.low, p.high) for p in heun.points] == [(10, pytest.approx(0.1), 0.2)]
    assert facets.panels["karras"][0].colour == heun.colour
    assert facets.margin == pytest.approx(0.05 * LEVEL)
    assert "heun: +1.5 at 10" in facets_text(facets)


def test_the_picture_stands_in_the_place_of_curves_over_steps(table: Table) -> None:
    results = Results(created="", command="", seconds=1, cells_computed=0, cells_reused=0, tables=[table])
    (plot,) = draw(results)
    assert plot.name == "evaluations"
    assert plot.png.startswith(b"\x89PNG")
    assert "ddim on uniform, 20 steps" in plot.text


def test_without_the_reference_there_is_no_picture(table: Table, results: Results) -> None:
    assert nfe_facets(_table(("ddim", "uniform", 5, 5, 0.9))) is None
    assert all(nfe_facets(other) is None for other in results.tables)
