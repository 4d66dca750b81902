"""Numbers of a set of clips beside their controls, each metric on an axis of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from melody.evaluation.result import Score
from melody.report.document import Figure
from melody.report.evaluation_layout import control_names, title
from melody.report.extent import LABEL, MOST_PANELS, drawn, short
from melody.report.numbers import drawable
from melody.report.plots.figures import STYLE, finish
from melody.report.plots.palette import MARKERS, SERIES

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

ROW_INCHES = 0.82


def controls_figure(scores: Sequence[Score], number: int) -> list[Figure]:
    """Values with intervals, and the controls; none where there is nothing to hold a number against."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Canvas

    shown, more = drawn([one for one in scores if drawable(one.value) and one.controls], "metrics", MOST_PANELS)
    if not shown:
        return []
    with rc_context(STYLE):
        canvas = Canvas(figsize=(8, 0.5 + ROW_INCHES * len(shown)), layout="constrained")
        axes = canvas.subplots(len(shown), 1, squeeze=False)[:, 0]
        names = control_names(list(shown))
        for axis, score in zip(axes, shown, strict=True):
            _draw(axis, score, names)
        handles: dict[str, Artist] = {}
        for axis in axes:
            found, labels = axis.get_legend_handles_labels()
            handles = dict(zip(labels, found, strict=True)) | handles
        if more:
            canvas.supxlabel(f"The first metrics{more}", fontsize=9)
        some = list(handles)[:MOST_PANELS]
        canvas.legend(
            [handles[name] for name in some], list(map(short, some)), loc="outside upper left", ncols=4, fontsize=8
        )
        plot = finish("set", "controls", "Values with intervals and controls: see the tables.", canvas, number)
    return [Figure(plot.question, plot.text, plot.svg)]


def control_style(place: int) -> tuple[str, str]:
    """Colour and marker of a control by its place in the legend: no two alike, none as the generated set's."""
    colours, markers = [colour for colour in SERIES if colour != SERIES[1]], MARKERS[1:]
    return colours[(place + 1 + place // len(markers)) % len(colours)], markers[place % len(markers)]


def _draw(axis: Axes, score: Score, names: Sequence[str]) -> None:
    value = score.value
    assert value is not None
    if drawable(score.low) and drawable(score.high):
        axis.plot([score.low, score.high], [0, 0], color=SERIES[1], linewidth=3, alpha=0.5)
    axis.plot([value], [0], "o", color=SERIES[1], label="generated", zorder=3)
    for control in score.controls:
        if drawable(control.value):
            colour, marker = control_style(names.index(control.name))
            axis.plot([control.value], [0], marker, color=colour, label=control.name, markersize=5)
    axis.set_yticks([])
    axis.set_ylim(-1, 1)
    axis.set_title(short(title(score.name, score.direction, score.unit), LABEL))
    axis.spines["left"].set_visible(False)
