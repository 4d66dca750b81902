"""An evaluation or a comparison as one page that needs nothing else: tables, a plot, the clips that stand out."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from melody.artifacts.files import write_bytes
from melody.evaluation.result import Comparison, Evaluation, Score
from melody.report import evaluation_layout as layout
from melody.report.extent import LABEL, MOST_PANELS, drawn, short, within
from melody.report.numbers import drawable
from melody.report.page import page_environment, stylesheet
from melody.report.plots.figures import STYLE, inline_svg
from melody.report.plots.palette import MARKERS, SERIES
from melody.report.sounds import Sound, load_sound
from melody.reproduce.results import Clip

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

EMBED_BYTES = 8_000_000
"""Of all sounds in the page; those beyond are listed without a player."""
CLIP_BYTES = 2_000_000
ROW_INCHES = 0.55


@dataclass(frozen=True)
class Set:
    """One evaluated set as the page shows it."""

    title: str
    result: Evaluation
    plot: str
    sounds: list[tuple[Score, list[Sound]]]


def write_page(result: Evaluation | Comparison, path: Path) -> None:
    """Write the page, whole or not at all; raises ``MelodyError`` if it cannot be written."""
    write_bytes(path, render(result).encode())


def render(result: Evaluation | Comparison) -> str:
    """The page as HTML; the clips are looked for where they were evaluated, and long texts and lists are cut."""
    left_out = len(result.skipped)
    result = within(result)
    environment = page_environment()
    both = isinstance(result, Comparison)
    evaluations = [("A", result.a), ("B", result.b)] if isinstance(result, Comparison) else [("", result)]
    room = EMBED_BYTES // len(evaluations)
    sets = [Set(name, one, _plot(one.scores, f"set{name}-"), _sounds(one, room)) for name, one in evaluations]
    return environment.get_template("evaluation.html").render(
        result=result,
        left_out=left_out,
        both=both,
        sets=sets,
        layout=layout,
        css=Markup(stylesheet(environment)),
        svg=Markup,
    )


def _sounds(result: Evaluation, room: int) -> list[tuple[Score, list[Sound]]]:
    """For each metric with values of single clips the worst ones, with players where they are small and still there."""
    folder = Path(result.generated.folder)
    found = []
    for score in result.scores:
        sounds = []
        for one in score.worst:
            path = folder / one.file
            size = _size(path)
            text = f"{score.name} = {layout.number(one.value, None, None)[0]} {score.unit}".strip()
            if 0 < size <= min(CLIP_BYTES, room):
                clip = Clip(title=one.identifier, text=text, path=one.file)
                sounds.append(load_sound(clip, folder, embed=True, links=True))
                room -= size
            else:
                sounds.append(Sound(one.identifier, text, facts="too large for the page, or no longer there"))
        if sounds:
            found.append((score, sounds))
    return found


def _size(path: Path) -> int:
    """Of a regular file in bytes; 0 for what is none, or no name of a file at all."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except (OSError, ValueError):
        return 0


def _plot(scores: Sequence[Score], prefix: str) -> str:
    """Values with intervals, and the controls, each metric on an axis of its own; empty if there is nothing."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    shown, more = drawn([score for score in scores if drawable(score.value)], "metrics", MOST_PANELS)
    if not shown:
        return ""
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 0.5 + ROW_INCHES * 1.5 * len(shown)), layout="constrained")
        axes = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
        names = layout.control_names(list(shown))
        for axis, score in zip(axes, shown, strict=True):
            _draw(axis, score, names)
        handles: dict[str, Artist] = {}
        for axis in axes:
            found, labels = axis.get_legend_handles_labels()
            handles = dict(zip(labels, found, strict=True)) | handles
        if more:
            figure.supxlabel(f"The first metrics{more}", fontsize=9)
        some = list(handles)[:MOST_PANELS]
        figure.legend(
            [handles[name] for name in some], list(map(short, some)), loc="outside upper left", ncols=4, fontsize=8
        )
        svg = io.StringIO()
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return inline_svg(svg.getvalue(), prefix)


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
            place = names.index(control.name)
            colour, marker = control_style(place)
            axis.plot([control.value], [0], marker, color=colour, label=control.name, markersize=5)
    axis.set_yticks([])
    axis.set_ylim(-1, 1)
    axis.set_title(short(layout.title(score.name, score.direction, score.unit), LABEL))
    axis.spines["left"].set_visible(False)
