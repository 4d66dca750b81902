"""The numbers of a result as one tidy list, whatever wrote it: what a gate reads, and what a data frame is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

FIELDS = (
    "metric", "column", "version", "direction", "unit", "value", "low", "high", "standard_error", "interval",
    "p_value", "expected", "scored", "paper", "verdict", "reason",
)  # fmt: skip


@dataclass(frozen=True)
class ResultEntry:
    """One number: where it stands, what it is, and the record that it was taken from."""

    suite: str
    """Of a reproduction the table's name; else the kind of result, as in ``evaluation``."""
    row: dict[str, str | int | float]
    metric: str
    """With what it stands on, as in ``fad[mel-stats]``."""
    version: str
    direction: str
    """Which way is better: lower, higher or none."""
    expected: int
    scored: int
    record: Any
    unit: str = ""
    column: str = ""
    """Of a table; empty where a result has none."""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    standard_error: float | None = None
    interval: str | None = None
    p_value: float | None = None
    paper: float | None = None
    verdict: str = ""
    reason: str = ""
    """Why there is no number, or what is to be said of it."""
    against: str = ""
    """Hash of the reference or the texts that the number stands on, where it stands on any."""

    @property
    def place(self) -> str:
        """The row in words, empty where there is none.

        >>> ResultEntry("t", {"sampler": "ddim"}, "fad", "1", "lower", 1, 1, None).place
        ' [sampler = ddim]'
        """
        return f" [{', '.join(f'{key} = {value}' for key, value in self.row.items())}]" if self.row else ""


def to_frame(entries: Sequence[ResultEntry]) -> pd.DataFrame:
    """A row for each number: ``suite``, ``row.AXIS`` for each axis of a row, and the fields of an entry."""
    import pandas as pd

    axes = list(dict.fromkeys(axis for entry in entries for axis in entry.row))
    columns = ["suite", *(f"row.{axis}" for axis in axes), *FIELDS]
    rows = [
        [entry.suite, *(entry.row.get(axis) for axis in axes), *(getattr(entry, name) for name in FIELDS)]
        for entry in entries
    ]
    frame = pd.DataFrame(rows, columns=columns)
    numbers = ["value", "low", "high", "standard_error", "p_value", "paper"]
    return frame.astype(dict.fromkeys(numbers, "float64"))
