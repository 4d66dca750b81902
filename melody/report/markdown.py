"""A run as Markdown: what does not come out first, tables with footnotes, and where every number comes from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from melody.report.extent import shown
from melody.report.facts import provenance
from melody.report.layout import GRADES, HEADINGS, KINDS, MARKS, MEANINGS, Entry, Kind, Line, View, lay_out
from melody.report.sounds import inside
from melody.report.summary import headline, ordering_tally, statements_by_verdict, tally, target_tally, time_spent
from melody.reproduce.results import Results, Table

Picture = tuple[str, str]
"""What a picture shows, and its path relative to the report."""


def render_markdown(results: Results, pictures: dict[str, list[Picture]], csv_paths: dict[str, str]) -> str:
    """The report; pictures and the CSV file's path by suite."""
    part = shown(results)
    lines = [
        "# Results",
        "",
        f"**{escaped(headline(results))}**",
        "",
        *_statements(part),
        *_run(results),
        *_how_to_read(),
    ]
    for table in part.tables:
        lines += _table(lay_out(table), pictures.get(table.suite, []), csv_paths[table.suite])
    return "\n".join(lines).rstrip() + "\n"


def escaped(text: str) -> str:
    """Text that Markdown and HTML leave as it is, on one line.

    >>> escaped("<b> a|b *c*")
    '&lt;b&gt; a\\\\|b \\\\*c\\\\*'
    """
    flat = " ".join(text.split())
    plain = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", plain)


def _statements(results: Results) -> list[str]:
    rows = [(s.text, f"{MARKS[s.verdict]} {s.verdict}", s.reason) for s in statements_by_verdict(results)]
    if not rows:
        return []
    lines = ["| what the paper states | verdict | why |", "|---|---|---|"]
    return [*lines, *(_joined(map(escaped, row)) for row in rows), ""]


def _run(results: Results) -> list[str]:
    took = (
        f"{results.seconds:.1f} s, {results.cells_computed} units of work computed, "
        f"{results.cells_reused} read from the store"
    )
    lines = ["| | " + " | ".join(tally([])) + " | |", "|---|" + "---:|" * (len(tally([])) + 1)]
    cells, orders = tally(results.tables), ordering_tally(results.tables)
    lines.append("| cells | " + " | ".join(map(str, cells.values())) + f" | {sum(cells.values())} |")
    lines += ["", "| | " + " | ".join(ordering_tally([])) + " | |", "|---|" + "---:|" * 5]
    lines.append("| orderings | " + " | ".join(map(str, orders.values())) + f" | {sum(orders.values())} |")
    if aimed_at := target_tally(results.tables):
        lines += ["", "Our own targets: " + ", ".join(f"{number} {name}" for name, number in aimed_at.items()) + "."]
    where = [escaped(sentence), ""] if (sentence := time_spent(results)) else []
    return [f"Run of {escaped(results.created)}: `{_code(results.command)}` ({took}).", "", *where, *lines, ""]


def _how_to_read() -> list[str]:
    kinds = "; ".join(f"*{HEADINGS[kind]}*: {MEANINGS[kind]}" for kind in KINDS)
    grades = "; ".join(f"\\[{grade}\\] {text}" for grade, text in GRADES.items() if grade != "P")
    return [
        f"Kinds of number, never in one column: {kinds}. Grades: {grades}. ↓ lower is better, ↑ higher is better.",
        "",
    ]


def _table(view: View, pictures: Sequence[Picture], csv_path: str) -> list[str]:
    table = view.table
    lines = [f"## {escaped(table.title)}", "", *(f"- {escaped(note)}" for note in table.notes)]
    lines += [""] if table.notes else []
    if view.constants:
        lines += [f"The same in every row: {escaped(view.constant_text)}.", ""]
    lines += [*_cells(view), *(f"- \\[{n}\\] {escaped(text)}" for n, text in enumerate(view.footnotes, 1)), ""]
    lines += [*_orderings(view), *_targets(table), *_pictures(pictures), *_clips(table)]
    lines += [
        "<details><summary>Provenance of the measured numbers</summary>",
        "",
        *_provenance(view),
        "",
        "</details>",
        "",
    ]
    return [
        *lines,
        f"Every field of every cell: [{escaped(csv_path)}]({quote(csv_path)}). Source: {escaped(table.source)}.",
        "",
    ]


def _cells(view: View) -> list[str]:
    names = [*view.axes]
    for group in view.groups:
        names += [f"{group.title}: {HEADINGS[kind]}" for kind in group.kinds] + [f"{group.title}: verdict"]
    rule = "|" + "---|" * len(names)
    rows = [_joined([*_heading(view, line), *_entries(view, line)]) for line in view.lines]
    return [_joined(map(escaped, names)), rule, *rows, ""]


def _heading(view: View, line: Line) -> list[str]:
    parts = list(line.heading) + ["–"] * (len(view.axes) - len(line.heading))
    return [escaped(part) or "–" for part in parts]


def _entries(view: View, line: Line) -> list[str]:
    texts = []
    for group, place in zip(view.groups, line.places, strict=True):
        texts += [_entry(place.numbers[kind], kind) for kind in group.kinds] + [escaped(place.verdict.line)]
    return texts


def _entry(entry: Entry, kind: Kind) -> str:
    text = escaped(" ".join(part for part in (entry.text, entry.interval) if part))
    bold = f"**{text}**" if kind == "measured" and not entry.empty else text
    return f"{bold} {escaped(entry.references)}".strip()


def _joined(parts: Iterable[str]) -> str:
    return "| " + " | ".join(parts) + " |"


def _orderings(view: View) -> list[str]:
    if not view.orderings:
        return []
    lines = [
        "| what the paper's order says | measured difference | paper's difference | verdict | reason |",
        "|---|---|---|---|---|",
    ]
    for line in view.orderings:
        texts = (line.ordering.claim, line.difference, line.paper_difference, line.verdict, line.ordering.reason)
        lines.append(_joined([escaped(text) or "–" for text in texts]))
    return [*lines, ""]


def _targets(table: Table) -> list[str]:
    if not table.targets:
        return []
    rows = [(t.claim, f"{MARKS[t.verdict]} {t.verdict}", t.reason) for t in table.targets]
    lines = ["| what we aim at | verdict | measured |", "|---|---|---|"]
    return [*lines, *(_joined(map(escaped, row)) for row in rows), ""]


def _pictures(pictures: Sequence[Picture]) -> list[str]:
    return [line for text, path in pictures for line in (f"![{escaped(text)}]({quote(path)})", "")]


def _clips(table: Table) -> list[str]:
    if not table.clips:
        return []
    links = [f"[{escaped(c.title)}]({quote(c.path)})" if inside(c.path) else escaped(c.title) for c in table.clips]
    lines = [f"- {link}: {escaped(clip.text)}" for link, clip in zip(links, table.clips, strict=True)]
    return ["Sounds:", "", *lines, ""]


def _provenance(view: View) -> list[str]:
    """Each distinct provenance with the columns that it stands behind; configs and unit keys are in the CSV file."""
    columns: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for cell in view.table.cells:
        if cell.measured is not None:
            known = (("metric", f"{cell.metric}, version {cell.metric_version}"), *provenance(cell.provenance))
            labels = columns.setdefault(known, [])
            labels += [] if cell.label in labels else [cell.label]
    lines = [
        f"- {escaped(', '.join(labels))}: " + "; ".join(f"{term} {escaped(text)}" for term, text in known)
        for known, labels in columns.items()
    ]
    return lines or ["Nothing was measured for this table."]


def _code(text: str) -> str:
    return " ".join(text.replace("`", "'").split())
