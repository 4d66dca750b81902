"""Bars of forward passes: counted here, printed in the paper or elsewhere, each kind in its own colour and hatch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from melody.report.extent import MOST_PANELS, drawn, short
from melody.report.kinds import HEADINGS, KINDS, Kind, grade_mark, value_of
from melody.report.numbers import drawable
from melody.report.plots.palette import KIND_COLOURS, KIND_HATCHES
from melody.reproduce.results import Cell, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRICS = ("passes", "passes-by-formula")
DURATION = "duration_s"
STEPS = "num_steps"


@dataclass(frozen=True)
class Bar:
    """One number."""

    label: str
    kind: Kind
    value: float
    grade: str = ""


def pass_panels(table: Table) -> list[tuple[str, list[Bar]]]:
    """Bars by title, a panel for each duration; none for tables over numbers of steps."""
    cells = [c for c in table.cells if c.metric.partition("[")[0] in METRICS and STEPS not in c.row]
    durations = list(dict.fromkeys(cell.row.get(DURATION) for cell in cells))
    panels = []
    for duration in durations[:MOST_PANELS]:
        bars = _bars([cell for cell in cells if cell.row.get(DURATION) == duration])
        if bars:
            some, left_out = drawn(bars, "bars")
            title = "Forward passes" if duration is None else f"Forward passes for {duration} s"
            panels.append((f"{title}{left_out}", list(some)))
    return panels


def draw_bars(panels: Sequence[tuple[str, list[Bar]]]) -> Figure:
    """Panels below each other, on logarithmic axes."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    heights = [len(bars) + 1.6 for _, bars in panels]
    figure = Figure(figsize=(8.4, 0.27 * sum(heights) + 0.6), layout="constrained")
    all_axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (title, bars) in zip(all_axes, panels, strict=True):
        _draw(axes, title, bars)
    values = [bar.value for _, bars in panels for bar in bars]
    all_axes[-1].set_xlim(
        min(values) / 3, max(values) * 3
    )  # room for the shortest bar, and for the longest one's number
    all_axes[-1].set_xlabel("forward passes, logarithmic  ↓ lower is better")
    used = [kind for kind in KINDS if any(bar.kind == kind for _, bars in panels for bar in bars)]
    patches = [
        Patch(facecolor=KIND_COLOURS[kind], hatch=KIND_HATCHES[kind], edgecolor="white", label=HEADINGS[kind])
        for kind in used
    ]
    figure.legend(handles=patches, loc="outside upper left", ncols=len(patches), fontsize=8)
    return figure


def _bars(cells: Sequence[Cell]) -> list[Bar]:
    """A bar for each number; where a column's numbers of one kind are all the same, one bar for all its rows."""
    bars = []
    for column in dict.fromkeys(cell.column for cell in cells):
        for kind in KINDS:
            found = [
                (cell, value) for cell in cells if cell.column == column and (value := value_of(cell, kind)) is not None
            ]
            values = {value.value for _, value in found}
            same = len(found) > 1 and len(values) == 1
            for cell, value in found[:1] if same else found:
                if drawable(value.value) and value.value > 0:
                    bars.append(Bar(cell.label if same else _label(cell), kind, value.value, grade_mark(value)))
    return bars


def _label(cell: Cell) -> str:
    rest = [str(part) for axis, part in cell.row.items() if axis != DURATION]
    return " · ".join([*rest, cell.label])


def _draw(axes: Axes, title: str, bars: Sequence[Bar]) -> None:
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    for place, bar in enumerate(bars):
        axes.barh(
            place, bar.value, height=0.72, color=KIND_COLOURS[bar.kind], hatch=KIND_HATCHES[bar.kind], edgecolor="white"
        )
        axes.annotate(
            f"{bar.value:,.0f}{bar.grade}",
            (bar.value, place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_yticks(range(len(bars)), [short(bar.label) for bar in bars])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_title(title)
