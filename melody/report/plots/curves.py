"""Curves over the number of steps: measured numbers with their intervals, and the paper's in panels of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from melody.evaluation.result import Measurement
from melody.report.extent import LABEL, MOST_CURVES, MOST_DRAWN, MOST_PANELS, drawn, short
from melody.report.kinds import ARROWS, Kind, grade_mark, value_of
from melody.report.numbers import drawable, in_legend
from melody.report.plots.palette import DASHES, MARKERS, SERIES
from melody.reproduce.results import Cell, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEPS = "num_steps"
PANELS_A_ROW = 4
MOST_STEPS = 1_000_000
SHIFT = 1.02
"""Factor between neighbouring curves' abscissae, so that their intervals do not hide each other."""


@dataclass(frozen=True)
class Point:
    """One number with its interval."""

    steps: int
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Curve:
    """The numbers of one sampler on one grid."""

    label: str
    colour: int
    dash: int
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Panel:
    """The curves of one column and one kind of number."""

    kind: Kind
    title: str
    axis: str
    curves: tuple[Curve, ...]


def step_panels(table: Table, metrics: Sequence[str]) -> list[Panel]:
    """Panels of a table's columns of these metrics: first the measured ones, then the paper's.

    A column without numbers for at least two numbers of steps gives none.
    """
    kinds: tuple[Kind, ...] = ("measured", "paper")
    cells = [cell for cell in table.cells if cell.metric.partition("[")[0] in metrics and STEPS in cell.row]
    columns = {cell.column: cell for cell in reversed(cells)}  # the first cell of each column
    styles = _styles(cells)
    found = []
    for kind in kinds:
        for column, first in reversed(columns.items()):
            curves = _curves([cell for cell in cells if cell.column == column], kind, styles)
            if len({point.steps for curve in curves for point in curve.points}) > 1:
                printed = [c.paper for c in cells if c.column == column and c.paper is not None]
                grades = "".join(sorted({grade_mark(number) for number in printed})) if kind == "paper" else ""
                some, left_out = drawn(curves, "curves", MOST_CURVES)
                found.append(_panel(first, kind, tuple(some), f"{grades}{left_out}"))
    return found[:MOST_PANELS]


def draw_curves(panels: Sequence[Panel]) -> Figure:
    """One panel beside the other; measured and the paper's never on one axis."""
    from matplotlib.figure import Figure

    columns = min(PANELS_A_ROW, max(sum(panel.kind == kind for panel in panels) for kind in ("measured", "paper")))
    rows = sum(-(-sum(panel.kind == kind for panel in panels) // columns) for kind in ("measured", "paper"))
    figure = Figure(figsize=(max(4.6, 3.5 * columns), 2.5 * rows + 0.5), layout="constrained")
    grid = figure.add_gridspec(rows, columns)
    handles: dict[str, Any] = {}
    for panel, place in zip(panels, _places(panels, columns), strict=True):
        axes = figure.add_subplot(grid[place])
        _draw(axes, panel)
        found, labels = axes.get_legend_handles_labels()
        handles = dict(zip(labels, found, strict=True)) | handles
    order = sorted(handles, key=[curve.label for panel in panels for curve in panel.curves].index)
    beside = max(1, int(figure.get_figwidth() * 12 // max(len(label) + 6 for label in order)))
    chosen = [handles[label] for label in order]
    figure.legend(chosen, order, loc="outside upper left", ncols=min(beside, len(order)), fontsize=8)
    return figure


def _places(panels: Sequence[Panel], columns: int) -> list[tuple[int, int]]:
    """Row and column of each panel; a new kind begins a new row."""
    places: list[tuple[int, int]] = []
    for index, panel in enumerate(panels):
        row, column = places[-1] if places else (0, -1)
        new = bool(index) and (panel.kind != panels[index - 1].kind or column + 1 == columns)
        places.append((row + 1, 0) if new else (row, column + 1))
    return places


def _panel(cell: Cell, kind: Kind, curves: tuple[Curve, ...], grades: str) -> Panel:
    device = cell.provenance.device if kind == "measured" and cell.provenance else ""
    where = f"measured, {device.partition(' ')[0]}" if device else kind
    unit = f" ({cell.unit})" if cell.unit and cell.unit not in cell.label else ""
    better = {"lower": "lower is better", "higher": "higher is better", "none": ""}[cell.direction]
    arrow = ARROWS[cell.direction]
    # the embedder in brackets is ours: the paper's number is by another
    label = cell.label if kind == "measured" else cell.label.partition("[")[0].strip()
    title = f"{where[0].upper()}{where[1:]}: {short(label)}{grades}"
    axis = f"{short(cell.metric.partition('[')[0].upper() + unit, 30)}  {arrow} {better}".strip()
    return Panel(kind, title, axis, curves)


def _place(cell: Cell) -> tuple[str, ...]:
    return tuple(str(part) for axis, part in cell.row.items() if axis != STEPS)


def _styles(cells: Sequence[Cell]) -> dict[tuple[str, ...], tuple[int, int]]:
    """Colour and dashes for each place on the other axes, the same in every panel.

    The first axis with more than one value decides the colour, the others the dashes.
    """
    places = list(dict.fromkeys(map(_place, cells)))
    widest = max(map(len, places), default=0)
    varying = [n for n in range(widest) if len({place[n : n + 1] for place in places}) > 1] or [0]
    colours = list(dict.fromkeys(place[varying[0] : varying[0] + 1] for place in places))
    rest = {place: tuple(place[n : n + 1] for n in varying[1:]) for place in places}
    dashes = list(dict.fromkeys(rest.values()))
    return {place: (colours.index(place[varying[0] : varying[0] + 1]), dashes.index(rest[place])) for place in places}


def _curves(cells: Sequence[Cell], kind: Kind, styles: dict[tuple[str, ...], tuple[int, int]]) -> tuple[Curve, ...]:
    points: dict[tuple[str, ...], list[Point]] = {}
    for cell in cells:
        value, steps = value_of(cell, kind), cell.row[STEPS]
        if value is not None and drawable(value.value) and isinstance(steps, int) and 0 < steps <= MOST_STEPS:
            ends = (value.low, value.high) if isinstance(value, Measurement) else (None, None)
            low, high = (end if drawable(end) else None for end in ends)
            points.setdefault(_place(cell), []).append(Point(steps, value.value, low, high))
    return tuple(
        Curve(
            in_legend(short(" · ".join(place) or kind, LABEL)),
            *styles[place],
            tuple(sorted(found, key=lambda point: point.steps)[:MOST_DRAWN]),
        )
        for place, found in points.items()
    )


def _draw(axes: Axes, panel: Panel) -> None:
    from matplotlib.ticker import NullLocator

    for index, curve in enumerate(panel.curves):
        factor = SHIFT ** (index - (len(panel.curves) - 1) / 2)
        _draw_curve(axes, curve, factor)
    steps = sorted({point.steps for curve in panel.curves for point in curve.points})
    axes.set_xscale("log")
    axes.set_xticks(steps, [str(number) for number in steps])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.12, y=0.15)
    axes.set_title(panel.title)
    axes.set_xlabel("sampler steps")
    axes.set_ylabel(panel.axis)


def _draw_curve(axes: Axes, curve: Curve, factor: float) -> None:
    style: dict[str, Any] = {
        "color": SERIES[curve.colour % len(SERIES)],
        "marker": MARKERS[curve.colour % len(MARKERS)],
        "linestyle": DASHES[curve.dash % len(DASHES)],
        "label": curve.label,
        "markersize": 5,
        "linewidth": 1.5,
    }
    places = [point.steps * factor for point in curve.points]
    values = [point.value for point in curve.points]
    below = [point.value - point.low if point.low is not None else 0.0 for point in curve.points]
    above = [point.high - point.value if point.high is not None else 0.0 for point in curve.points]
    if any(below) or any(above):
        spread = [[max(0.0, part) for part in side] for side in (below, above)]
        axes.errorbar(places, values, yerr=spread, capsize=3, **style)
    else:
        axes.plot(places, values, **style)
