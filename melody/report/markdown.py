"""A document as Markdown: footnotes say what every mark means and where every number comes from."""

from __future__ import annotations

import re
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from melody.report.document import Document
from melody.report.sounds import inside


def render_markdown(document: Document) -> str:
    """The report as one file."""
    environment = Environment(  # escaped below: what HTML's escapes are to a page, a backslash is to Markdown
        loader=PackageLoader("melody.report", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    environment.filters |= {"md": escaped, "code": _code, "link": quote, "inside": inside}
    text = environment.get_template("report.md").render(document=document)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def escaped(text: object) -> str:
    """Text that Markdown and HTML leave as it is, on one line; a dash for none.

    >>> escaped("<b> a|b *c*")
    '&lt;b&gt; a\\\\|b \\\\*c\\\\*'
    """
    flat = " ".join(str(text).split())
    plain = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", plain) or "–"


def _code(text: str) -> str:
    return " ".join(text.replace("`", "'").split())
