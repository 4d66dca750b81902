"""The words and marks that every table shares: kinds of number, verdicts, grades, axes."""

from __future__ import annotations

from typing import Literal

from melody.evaluation.result import Measurement
from melody.report import numbers
from melody.reproduce.results import Cell, Projection, Reference

Kind = Literal["paper", "published", "measured", "composed", "projected"]
KINDS: tuple[Kind, ...] = ("paper", "published", "measured", "composed", "projected")
OURS: tuple[Kind, ...] = ("measured", "composed", "projected", "published")
"""What a cell shows beside the paper's value: the first that there is, the others below it."""
HEADINGS: dict[Kind, str] = {
    "paper": "paper",
    "published": "published elsewhere",
    "measured": "measured",
    "composed": "composed",
    "projected": "projected",
}
KIND_MARKS: dict[Kind, str] = {"paper": "", "published": "†", "measured": "", "composed": "⊕", "projected": "~"}
MEANINGS: dict[Kind, str] = {
    "paper": "printed in the paper, small below ours",
    "published": "printed by somebody else",
    "measured": "measured in this run",
    "composed": "put together from parts that were measured each alone, not from a run of the whole",
    "projected": "follows from a formula or a model of the machine, not from a run",
}
GRADES = {
    "P": "printed",
    "S": "from a public summary, not seen in print",
    "D": "derived by us from printed numbers",
    "M": "recalled, not seen again in print",
}
MARKS = {
    "reproduced": "✓",
    "off": "✗",
    "not comparable": "≠",
    "not attempted": "○",
    "not counted": "·",
    "comes out": "✓",
    "does not come out": "✗",
    "holds": "✓",
    "contradicted": "✗",
    "undecided": "?",
    "falls short": "✗",
}
MARK_MEANINGS = {
    "✓": "as the paper says",
    "✗": "not as the paper says",
    "?": "undecided by the test, which is corrected for how many are asked",
    "≠": "measured, and not to be held against the paper's number",
    "○": "not attempted",
    "·": "no statement of the paper's",
}
ARROWS = {"lower": "↓", "higher": "↑", "none": ""}
DASH = "–"


def value_of(cell: Cell, kind: Kind) -> Reference | Measurement | Projection | None:
    """A cell's number of one kind."""
    found: dict[Kind, Reference | Measurement | Projection | None] = {
        "paper": cell.paper,
        "published": cell.published,
        "measured": cell.measured,
        "composed": cell.composed,
        "projected": cell.projected,
    }
    return found[kind]


def grade_mark(value: Reference | Measurement | Projection) -> str:
    """The grade of a number that is not in print, as in ``" [M]"``; empty for every other."""
    return f" [{value.grade}]" if isinstance(value, Reference) and value.grade != "P" else ""


def paper_text(value: Reference, unit: str) -> str:
    """A printed number with its grade, where it is not printed itself."""
    write = numbers.derived if value.grade == "D" else numbers.printed
    return f"{write(value.value, unit)}{grade_mark(value)}"


def axis_name(axis: str) -> str:
    """An axis as a heading; a unit goes to its values.

    >>> axis_name("num_steps"), axis_name("duration_s"), axis_name("angle_schedule")
    ('steps', 'duration', 'angle schedule')
    """
    return "steps" if axis == "num_steps" else axis.removesuffix("_s").replace("_", " ")


def place_on(axis: str, value: str | int | float) -> str:
    """A row's place on an axis, with the unit that the axis is named after.

    >>> place_on("duration_s", 10), place_on("sampler", "ddim")
    ('10 s', 'ddim')
    """
    return f"{value} s" if axis.endswith("_s") else str(value)


def sentence(text: str) -> str:
    """A reason as a sentence: capital letter where it begins with a plain word, full stop."""
    stripped = text.strip()
    first = stripped.split(" ")[0] if stripped else ""
    start = stripped[:1].upper() + stripped[1:] if first.isalpha() and first.islower() else stripped
    return start if start.endswith((".", "!", "?")) else f"{start}."
