"""What a clip costs, side by side: passes, FLOPs, weights read and seconds, which rank the systems differently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from melody.report.extent import drawn, short
from melody.report.kinds import HEADINGS, KINDS, Kind, place_on, value_of
from melody.report.numbers import drawable
from melody.report.plots.palette import KIND_COLOURS, KIND_HATCHES
from melody.reproduce.results import Cell, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRICS = {
    "passes": "forward passes",
    "flops": "TFLOP",
    "weights-moved": "GB of weights read",
    "seconds-a-clip": "seconds",
}
"""A panel each, in this order."""
BEST: tuple[Kind, ...] = ("measured", "composed", "projected")
"""Of a cell's numbers the first that there is."""


@dataclass(frozen=True)
class Cost:
    """One system's bar."""

    label: str
    kind: Kind
    value: float


def cost_panels(table: Table) -> list[tuple[str, list[Cost]]]:
    """Bars by what they measure; none for a table that does not hold FLOPs beside passes."""
    panels = []
    for metric, title in METRICS.items():
        cells = [cell for cell in table.cells if cell.metric.partition("[")[0] == metric]
        if found := [cost for cell in cells if (cost := _cost(cell)) is not None]:
            panels.append((title, found))
    titles = [title for title, _ in panels]
    if METRICS["passes"] not in titles or METRICS["flops"] not in titles:
        return []
    labels, left_out = drawn(list(dict.fromkeys(cost.label for _, costs in panels for cost in costs)), "rows")
    kept = [(f"{title}{left_out}", [cost for cost in costs if cost.label in labels]) for title, costs in panels]
    return [(title, costs) for title, costs in kept if costs]


def costs_text(panels: Sequence[tuple[str, Sequence[Cost]]]) -> str:
    """What the figure shows, in words."""
    parts = [
        f"{title}: " + ", ".join(f"{cost.label} {cost.value:,.4g} ({cost.kind})" for cost in costs)
        for title, costs in panels
    ]
    return "What a clip costs. " + ". ".join(parts)


def draw_costs(panels: Sequence[tuple[str, Sequence[Cost]]]) -> Figure:
    """A panel each beside each other, a row a system, logarithmic; the rank is written behind each bar."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    labels = list(dict.fromkeys(cost.label for _, costs in panels for cost in costs))
    figure = Figure(figsize=(3.0 * len(panels) + 1.2, 0.3 * len(labels) + 1.3), layout="constrained")
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, costs) in zip(all_axes, panels, strict=True):
        _draw(axes, title, costs, labels)
    all_axes[0].set_yticks(range(len(labels)), [short(label) for label in labels])
    all_axes[0].invert_yaxis()
    used = [kind for kind in KINDS if any(cost.kind == kind for _, costs in panels for cost in costs)]
    patches = [
        Patch(facecolor=KIND_COLOURS[kind], hatch=KIND_HATCHES[kind], edgecolor="white", label=HEADINGS[kind])
        for kind in used
    ]
    figure.legend(handles=patches, loc="outside upper left", ncols=len(patches), fontsize=8)
    return figure


def _draw(axes: Axes, title: str, costs: Sequence[Cost], labels: Sequence[str]) -> None:
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    ranked = sorted({cost.value for cost in costs})
    for cost in costs:
        place = labels.index(cost.label)
        axes.barh(
            place, cost.value, height=0.72, color=KIND_COLOURS[cost.kind], hatch=KIND_HATCHES[cost.kind],
            edgecolor="white",
        )  # fmt: skip
        text = f"{_short(cost.value)}  #{ranked.index(cost.value) + 1}"
        axes.annotate(text, (cost.value, place), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(ranked[0] / 3, ranked[-1] * 12)  # room for the shortest bar, and for the longest one's number
    axes.xaxis.set_major_locator(LogLocator(numticks=4))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_title(f"{title} ↓")


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _cost(cell: Cell) -> Cost | None:
    label = " · ".join(place_on(axis, value) for axis, value in cell.row.items())
    for kind in BEST:
        value = value_of(cell, kind)
        if value is not None and drawable(value.value) and value.value > 0:
            return Cost(label, kind, value.value)
    return None
