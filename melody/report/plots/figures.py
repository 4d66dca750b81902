"""Plots of a run: quality against steps, forward passes, speed, costs. The paper's numbers have panels of their own."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from melody.report.plots.bars import draw_bars, pass_panels
from melody.report.plots.costs import cost_panels, costs_text, draw_costs
from melody.report.plots.curves import Panel, draw_curves, step_panels
from melody.report.plots.nfe import draw_facets, facets_text, nfe_facets
from melody.report.png import few_colours
from melody.reproduce.results import Results, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, LINES = "#24292f", "#d0d7de"
"""Of text and axes, and of grid lines; the page replaces them by its own colours, for light and dark."""
STYLE: Any = {
    "svg.hashsalt": "melody",  # the same identifiers in every run
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.parse_math": False,  # a name with dollar signs is a name
    "text.color": INK,
    "axes.edgecolor": LINES,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINES,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}
QUESTIONS = {
    "evaluations": "How many network passes does each sampler need for the reference's quality?",
    "quality": "Do more steps make better music?",
    "speed": "How much faster are fewer steps?",
    "costs": "What does a clip cost: passes, arithmetic, weights read, seconds?",
    "passes": "Who makes the fewest forward passes?",
    "preferences": "Whom do listeners prefer?",
    "strengths": "How strong is each system over all pairs?",
    "controls": "How far is each number from music, and from what is no music?",
}
QUALITY = ("fad", "mcc")
SPEED = ("rtf",)


@dataclass(frozen=True)
class Plot:
    """One figure: for the page as SVG, as a file as PNG."""

    suite: str
    name: str
    question: str
    """That it answers."""
    text: str
    """What it shows, for who cannot see it."""
    svg: str
    png: bytes


def draw(results: Results) -> list[Plot]:
    """Every plot that the run's numbers allow."""
    from matplotlib import rc_context

    plots: list[Plot] = []
    with rc_context(STYLE):
        for number, table in enumerate(results.tables):
            plots += [finish(table.suite, name, text, figure, number) for name, text, figure in _figures(table)]
    return plots


def _figures(table: Table) -> list[tuple[str, str, Figure]]:
    found: list[tuple[str, str, Figure]] = []
    facets = nfe_facets(table)
    if facets is not None:
        return [("evaluations", facets_text(facets), draw_facets(facets))]
    for name, what, metrics in (("quality", "Quality", QUALITY), ("speed", "Speed", SPEED)):
        panels = step_panels(table, metrics)
        if panels:
            found.append((name, _curves_text(what, panels), draw_curves(panels)))
    if costs := cost_panels(table):
        return [*found, ("costs", costs_text(costs), draw_costs(costs))]
    bars = pass_panels(table)
    if bars:
        text = "Forward passes: " + "; ".join(
            f"{bar.label} ({bar.kind}) {bar.value:,.0f}{bar.grade}" for _, panel in bars for bar in panel
        )
        found.append(("passes", text, draw_bars(bars)))
    return found


def _curves_text(what: str, panels: Sequence[Panel]) -> str:
    parts = []
    for panel in panels:
        curves = "; ".join(
            f"{curve.label}: " + ", ".join(f"{point.value:.3g} at {point.steps}" for point in curve.points)
            for curve in panel.curves
        )
        parts.append(f"{panel.title}: {curves}")
    return f"{what} against steps. " + ". ".join(parts)


def finish(suite: str, name: str, text: str, figure: Figure, number: int = 0) -> Plot:
    """A figure that was drawn under ``STYLE``, as SVG for a page and as PNG; ``number`` keeps identifiers apart."""
    svg, png = io.StringIO(), io.BytesIO()
    figure.draw_without_rendering()  # lays it out once, for both files
    figure.set_layout_engine("none")
    figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    figure.savefig(png, format="png", dpi=110, facecolor="white", metadata={"Software": None})
    page = inline_svg(svg.getvalue(), f"f{number}-{name}-")
    return Plot(suite, name, QUESTIONS[name], text, page, few_colours(png.getvalue()))


def inline_svg(svg: str, prefix: str) -> str:
    """An SVG for the inside of a page: no prolog, identifiers of its own, no size, no metadata, the page's colours."""
    body = svg[svg.index("<svg") :].strip()
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'(\sid=")', rf"\1{prefix}", body)
    body = re.sub(r'((?:xlink:)?href="#|url\(#)', rf"\1{prefix}", body)
    body = re.sub(r'^(<svg[^>]*?) height="[^"]*"', r'\1 aria-hidden="true"', body)
    body = re.sub(r'^(<svg[^>]*?) width="[^"]*"', r"\1", body)
    for colour, name in ((INK, "ink"), (LINES, "line")):
        body = body.replace(colour, f"var(--{name}, {colour})")
    width = re.search(r'viewBox="0 0 ([\d.]+)', body)
    if width:
        body = body.replace("<svg", f'<svg style="max-width: {1.25 * float(width.group(1)):.0f}pt"', 1)
    return re.sub(r"(?<=[ :])(#[0-9a-f]{6})(?=[;\"])", _series_colour, body)


def _series_colour(match: re.Match[str]) -> str:
    from melody.report.plots.palette import SERIES

    colour = match.group(1)
    return f"var(--series-{SERIES.index(colour) + 1}, {colour})" if colour in SERIES else colour
