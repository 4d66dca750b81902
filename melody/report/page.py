"""A run as one page that needs nothing else: no scripts, no fonts, no pictures from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from melody.report import layout
from melody.report.extent import shown
from melody.report.facts import facts, long_facts
from melody.report.layout import Group, Kind, View, lay_out
from melody.report.plots.figures import Plot
from melody.report.sounds import Sound
from melody.report.summary import headline, ordering_tally, statements_by_verdict, tally, target_tally, time_spent
from melody.reproduce.results import Results

PAPER = "https://arxiv.org/abs/2305.15719"


@dataclass(frozen=True)
class Section:
    """One table with its plots and sounds."""

    anchor: str
    view: View
    counts: dict[str, int]
    order_counts: dict[str, int]
    plots: Sequence[Plot]
    sounds: Sequence[Sound]


def render_page(results: Results, plots: Mapping[str, Sequence[Plot]], sounds: Mapping[str, Sequence[Sound]]) -> str:
    """The page as HTML; plots and sounds by suite. Tallies are of the whole run, tables of what is shown of it."""
    part = shown(results)
    environment = page_environment()
    environment.globals.update(
        facts=facts, long_facts=long_facts, layout=layout, cell_name=cell_name, css_class=css_class
    )
    sections = [
        Section(
            f"table-{number}",
            lay_out(table),
            tally([whole]),
            ordering_tally([whole]),
            plots.get(table.suite, ()),
            sounds.get(table.suite, ()),
        )
        for number, (table, whole) in enumerate(zip(part.tables, results.tables, strict=False), start=1)
    ]
    return environment.get_template("report.html").render(
        results=part,
        sections=sections,
        headline=headline(results),
        time_spent=time_spent(part),
        statements=statements_by_verdict(part),
        counts=tally(results.tables),
        order_counts=ordering_tally(results.tables),
        target_counts=target_tally(results.tables),
        paper=PAPER,
        css=stylesheet(environment),
        svg=Markup,
    )


def css_class(name: str) -> str:
    """A verdict as the name of a CSS class.

    >>> css_class("not comparable")
    'not-comparable'
    """
    return name.replace(" ", "-")


def cell_name(group: Group, heading: str, kind: Kind) -> str:
    """What a number is called by who hears the page.

    >>> cell_name(Group("fad", "FAD", "", "lower", ("paper",)), "ddim · 5", "paper")
    'FAD, ddim · 5, paper'
    """
    return f"{group.label}, {heading}, {layout.HEADINGS[kind]}"


def page_environment() -> Environment:
    """Where the pages' templates are; text from results is escaped."""
    return Environment(
        loader=PackageLoader("melody.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def stylesheet(environment: Environment) -> Markup:
    """The style of every page, without comments."""
    source = environment.get_template("report.css").render()
    return Markup(re.sub(r"\s*\n\s*", "\n", re.sub(r"/\*.*?\*/", "", source, flags=re.DOTALL)).strip())
