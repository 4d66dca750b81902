"""A document as one page that needs nothing else: no scripts, no fonts, no pictures from elsewhere."""

from __future__ import annotations

import re

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from melody.report.document import Document

PAPER = "https://arxiv.org/abs/2305.15719"


def render_page(document: Document) -> str:
    """The page as HTML; text is escaped."""
    environment = Environment(
        loader=PackageLoader("melody.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html")
    return template.render(
        document=document, css=_stylesheet(environment), svg=Markup, css_class=css_class, paper=PAPER
    )


def css_class(name: str) -> str:
    """A verdict as the name of a CSS class.

    >>> css_class("not comparable")
    'not-comparable'
    """
    return name.replace(" ", "-")


def _stylesheet(environment: Environment) -> Markup:
    """The style of every page, without comments."""
    source = environment.get_template("report.css").render()
    return Markup(re.sub(r"\s*\n\s*", "\n", re.sub(r"/\*.*?\*/", "", source, flags=re.DOTALL)).strip())
