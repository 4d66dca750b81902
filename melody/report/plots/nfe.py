"""Quality against velocity evaluations: a panel for each grid, a curve for each sampler, the reference as a band."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from melody.report.extent import MOST_CURVES, MOST_DRAWN, MOST_PANELS, drawn, short
from melody.report.numbers import drawable
from melody.report.plots.palette import DASHES, MARKERS, SERIES
from melody.reproduce.results import Cell, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EVALUATIONS, DIFFERENCE, LEVEL = "velocity-evaluations", "fad-difference", "fad"
PANELS_A_ROW = 3
SHIFT = 1.035
"""Factor between neighbouring curves' abscissae, so that their intervals do not hide each other."""
BAND = "#7f7f7f"


@dataclass(frozen=True)
class Point:
    """A difference with its interval, at a number of evaluations."""

    nfe: float
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """The differences of one sampler on one grid, from few evaluations to many."""

    sampler: str
    colour: int
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Facets:
    """All panels, by grid, with what their numbers are held against."""

    panels: dict[str, tuple[Curve, ...]]
    label: str
    """Of the difference."""
    reference: str
    """The reference's setting in words."""
    margin: float
    """In units of the difference."""

    @property
    def samplers(self) -> dict[str, int]:
        """Colour of each sampler."""
        return {curve.sampler: curve.colour for curves in self.panels.values() for curve in curves}


def nfe_facets(table: Table) -> Facets | None:
    """What a table over samplers and grids shows; ``None`` for every other, and where the reference is missing."""
    by_metric = {name: _cells(table, name) for name in (EVALUATIONS, DIFFERENCE, LEVEL)}
    differences = by_metric[DIFFERENCE]
    if not differences or not by_metric[EVALUATIONS]:
        return None
    first = next(iter(differences.values()))
    config = first.provenance.config if first.provenance else {}
    margin, told = config.get("margin"), config.get("reference")
    reference = by_metric[LEVEL].get(_key(told)) if isinstance(told, dict) else None
    if reference is None or reference.measured is None or not drawable(margin):
        return None
    margin *= reference.measured.value
    if not drawable(margin) or margin <= 0:
        return None
    every = list(dict.fromkeys(str(cell.row["sampler"]) for cell in differences.values()))
    samplers, left_out = drawn(every, "samplers", MOST_CURVES)
    panels: dict[str, tuple[Curve, ...]] = {}
    for grid in list(dict.fromkeys(str(cell.row["grid"]) for cell in differences.values()))[:MOST_PANELS]:
        found = {sampler: _points(by_metric, sampler, grid) for sampler in samplers}
        panels[grid] = tuple(Curve(name, samplers.index(name), points) for name, points in found.items() if points)
    if not any(panels.values()):
        return None
    row = reference.row
    name = f"{row['sampler']} on {row['grid']}, {row['num_steps']} steps"
    return Facets(panels, f"{short(first.label)}{left_out}", name, margin)


def draw_facets(facets: Facets) -> Figure:
    """Panels of equal axes, the legend in the place behind the last."""
    from matplotlib.figure import Figure

    columns = min(PANELS_A_ROW, len(facets.panels) + 1)
    rows = -(-(len(facets.panels) + 1) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.75 * rows + 0.3), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for index, (name, curves) in enumerate(facets.panels.items()):
        _draw(grid[index], name, curves, facets)
        # a place below that is not drawn has no labels of its own
        grid[index].tick_params(labelbottom=index + columns >= len(facets.panels))
    for axes in grid[len(facets.panels) :]:
        axes.set_axis_off()
    _legend(grid[len(facets.panels)], grid[0], facets)
    figure.supxlabel("velocity evaluations (passes of the denoiser), logarithmic", fontsize=9)
    figure.supylabel(f"{facets.label}  ↓ lower is better", fontsize=9)
    return figure


def facets_text(facets: Facets) -> str:
    """What the picture shows, for who cannot see it."""
    parts = []
    for grid, curves in facets.panels.items():
        told = "; ".join(
            f"{curve.sampler}: " + ", ".join(f"{p.value:+.3g} at {p.nfe:g}" for p in curve.points) for curve in curves
        )
        parts.append(f"{grid}: {told}")
    return (
        f"{facets.label}, against velocity evaluations; the reference is {facets.reference}, "
        f"the margin {facets.margin:.3g}. {'. '.join(parts)}"
    )


def _cells(table: Table, metric: str) -> dict[tuple[tuple[str, Any], ...], Cell]:
    """Measured cells of a metric, whatever it is relative to, by row."""
    return {
        _key(cell.row): cell
        for cell in table.cells
        if cell.metric.partition("[")[0] == metric
        and cell.measured is not None
        and {"num_steps", "sampler", "grid"} <= cell.row.keys()
    }


def _key(row: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted((axis, str(value)) for axis, value in row.items()))


def _points(by_metric: dict[str, dict[Any, Cell]], sampler: str, grid: str) -> tuple[Point, ...]:
    found = []
    for key, cell in by_metric[DIFFERENCE].items():
        counted = by_metric[EVALUATIONS].get(key)
        own = cell.row["sampler"] == sampler and cell.row["grid"] == grid
        if not own or counted is None or counted.measured is None or cell.measured is None:
            continue
        value = cell.measured.value
        if drawable(value) and drawable(counted.measured.value) and counted.measured.value > 0:
            low, high = (end if drawable(end) else value for end in (cell.measured.low, cell.measured.high))
            found.append(Point(counted.measured.value, value, low, high))
    return tuple(sorted(found, key=lambda point: point.nfe)[:MOST_DRAWN])


def _draw(axes: Axes, grid: str, curves: Sequence[Curve], facets: Facets) -> None:
    from matplotlib.ticker import NullLocator

    axes.axhspan(-facets.margin, facets.margin, color=BAND, alpha=0.22, linewidth=0, label="within the margin")
    axes.axhline(0, color=BAND, linewidth=1.2)
    for index, curve in enumerate(curves):
        _draw_curve(axes, curve, SHIFT ** (index - (len(curves) - 1) / 2))
    all_points = [point for some in facets.panels.values() for curve in some for point in curve.points]
    ticks = sorted({point.nfe for point in all_points})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.12)
    _scale(axes, all_points, facets.margin)
    axes.set_title(short(grid))


def _scale(axes: Axes, points: Sequence[Point], margin: float) -> None:
    """Linear up to twice the margin and logarithmic beyond: differences of 0.1 and of 10 stand in one picture."""
    from matplotlib.ticker import NullLocator

    threshold = 2 * margin
    axes.set_yscale("symlog", linthresh=threshold, linscale=1.2)
    low = min(-threshold, *(point.low for point in points), 0.0)
    high = max(threshold, *(point.high for point in points), 0.0)
    axes.set_ylim(1.15 * low, 1.15 * high)
    beyond = [step * 10.0**power for power in range(-3, 4) for step in (1, 2, 5) if step * 10.0**power >= threshold]
    ticks = [sign * tick for sign in (-1, 1) for tick in (float(f"{margin:.1g}"), *beyond)]
    kept = [tick for tick in ticks if 1.15 * low <= tick <= 1.15 * high]
    axes.set_yticks([0.0, *kept], ["0", *(f"{tick:+g}".replace("-", "−") for tick in kept)])
    axes.yaxis.set_minor_locator(NullLocator())


def _draw_curve(axes: Axes, curve: Curve, factor: float) -> None:
    places = [point.nfe * factor for point in curve.points]
    values = [point.value for point in curve.points]
    spread = [
        [max(0.0, point.value - point.low) for point in curve.points],
        [max(0.0, point.high - point.value) for point in curve.points],
    ]
    axes.errorbar(
        places,
        values,
        yerr=spread,
        capsize=2.5,
        elinewidth=0.9,
        color=SERIES[curve.colour % len(SERIES)],
        marker=MARKERS[curve.colour % len(MARKERS)],
        linestyle=DASHES[curve.colour // len(SERIES) % len(DASHES)],
        markersize=5,
        linewidth=1.5,
        label=curve.sampler,
    )


def _legend(place: Axes, drawn: Axes, facets: Facets) -> None:
    handles, labels = drawn.get_legend_handles_labels()
    by_label = dict(zip(labels, handles, strict=True))
    order = [*facets.samplers, "within the margin"]
    chosen = [name for name in order if name in by_label]
    names = {"within the margin": f"FAD within {facets.margin:.2g} of the reference's"}
    place.legend(
        [by_label[name] for name in chosen],
        [names.get(name, short(name)) for name in chosen],
        loc="upper left",
        title=f"line at 0: {facets.reference};\nheight: logarithmic beyond ±{2 * facets.margin:.2g}",
        fontsize=8,
        title_fontsize=8,
        alignment="left",
        borderaxespad=0,
    )
