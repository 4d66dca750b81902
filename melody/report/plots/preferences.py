"""A listening test in pictures: preference rates and strengths, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from melody.evaluation.result import Measurement
from melody.listening.schema import ListeningResult
from melody.report.extent import MOST_PANELS, drawn, short
from melody.report.numbers import drawable, measured
from melody.report.plots.figures import STYLE, Plot, finish
from melody.report.plots.palette import MARKERS, SERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Dot:
    """One number with its interval, and what it is of."""

    label: str
    number: Measurement


Panels = dict[str, list[Dot]]
"""Dots by question."""


def draw_listening(result: ListeningResult) -> list[Plot]:
    """Preference rates with their intervals, and strengths where there are more than two systems."""
    from matplotlib import rc_context

    rates: Panels = {}
    for one in result.preferences:
        if one.rate is not None and drawable(one.rate.value):
            rates.setdefault(one.question, []).append(Dot(f"{one.system_a} over {one.system_b}", one.rate))
    strengths: Panels = {
        one.question: [Dot(each.system, each.strength) for each in one.strengths if drawable(each.strength.value)]
        for one in result.bradley_terry
        if any(drawable(each.strength.value) for each in one.strengths)
    }
    plots = [("preferences", "preference rate", 0.5, rates), ("strengths", "strength (Bradley-Terry)", 0.0, strengths)]
    with rc_context(STYLE):
        return [
            finish("listening", name, _text(axis, _some(panels)), _dots(_some(panels), axis, middle), number)
            for number, (name, axis, middle, panels) in enumerate(plots)
            if panels
        ]


def _some(panels: Panels) -> Panels:
    """As much as a plot holds; a panel's name says what is left out."""
    some = {name: drawn(dots, "shown") for name, dots in list(panels.items())[:MOST_PANELS]}
    return {f"{name}{left_out}": list(dots) for name, (dots, left_out) in some.items()}


def _text(axis: str, panels: Panels) -> str:
    texts = {
        name: "; ".join(f"{dot.label} {' '.join(measured(dot.number)).strip()}" for dot in dots)
        for name, dots in panels.items()
    }
    parts = [f"{name}: {text}" for name, text in texts.items()]
    return f"{axis[0].upper()}{axis[1:]}. " + ". ".join(parts)


def _dots(panels: Panels, axis: str, middle: float) -> Figure:
    """Panels below each other; the dotted line is where nobody is preferred."""
    from matplotlib.figure import Figure

    heights = [len(dots) + 1.2 for dots in panels.values()]
    figure = Figure(figsize=(8.4, 0.3 * sum(heights) + 0.7), layout="constrained")
    all_axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for number, (axes, (name, dots)) in enumerate(zip(all_axes, panels.items(), strict=True)):
        _panel(axes, name, dots, number, middle)
    if middle == 0.5:
        all_axes[-1].set_xlim(-0.02, 1.02)
    all_axes[-1].set_xlabel(f"{axis}  ↑ higher is better")
    return figure


def _panel(axes: Axes, name: str, dots: Sequence[Dot], number: int, middle: float) -> None:
    axes.axvline(middle, color=SERIES[6], linestyle=":", linewidth=1)
    for place, dot in enumerate(dots):
        value = dot.number.value
        low, high = (end if drawable(end) else value for end in (dot.number.low, dot.number.high))
        axes.plot([low, high], [place, place], color=SERIES[number % len(SERIES)], linewidth=1.6)
        axes.plot(value, place, MARKERS[number % len(MARKERS)], color=SERIES[number % len(SERIES)], markersize=5)
    axes.set_yticks(range(len(dots)), [short(dot.label) for dot in dots])
    axes.set_ylim(len(dots) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_title(name)
