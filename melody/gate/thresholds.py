"""A threshold file: what each number may be, in the words of whoever asks for it.

::

    title = "what a change may cost"

    [[thresholds]]
    metric = "fad[mel-stats]"
    max = 5.0

    [[thresholds]]
    suite = "table2"
    row = { sampler = "ddim", num_steps = 20 }
    metric = "mcc"
    no_worse_than = "last-week.json"
    by_standard_errors = 2
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from melody.config import FrozenModel, parse
from melody.documents import read_toml
from melody.errors import MelodyError

Row = dict[str, str | int | float]
OLD_KEYS = ("column", "direction", "bound", "baseline", "standard_errors")
STANDARD_ERRORS = 2.0


class Threshold(FrozenModel):
    """One condition on one number."""

    metric: str
    """Its name, as in ``fad[mel-stats]``, or its column's; ``fad`` does where one embedder is measured."""
    suite: str | None = None
    row: Row = Field(default_factory=dict)
    """Values that its row has; with ``suite`` needed only where the metric stands more than once."""
    max: float | None = None
    min: float | None = None
    no_worse_than: Path | None = None
    """A file of results, relative to the threshold file."""
    by_standard_errors: Annotated[float, Field(ge=0)] | None = None
    """Of the difference; 2 if not given."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        bounds = [bound for bound in (self.min, self.max) if bound is not None]
        if bool(bounds) == (self.no_worse_than is not None):
            raise ValueError("expected max or min (or both), or no_worse_than")
        if self.by_standard_errors is not None and self.no_worse_than is None:
            raise ValueError("by_standard_errors was given without no_worse_than")
        if not all(map(math.isfinite, bounds)):
            raise ValueError("the bound is not a finite number")
        if bounds != sorted(bounds):
            raise ValueError("min is above max")
        return self

    @property
    def margin(self) -> float:
        """Standard errors of the difference by which the number may be worse."""
        return STANDARD_ERRORS if self.by_standard_errors is None else self.by_standard_errors

    @property
    def condition(self) -> str:
        """What it asks, as a part of the check's name: two thresholds on one number are two checks."""
        if self.no_worse_than is not None:
            return f"no worse than {self.no_worse_than.name} by more than {self.margin:g} standard errors"
        ends = (("at least", self.min), ("at most", self.max))
        return " and ".join(f"{word} {bound:g}" for word, bound in ends if bound is not None)


class Thresholds(FrozenModel):
    """A threshold file."""

    title: str = ""
    thresholds: Annotated[tuple[Threshold, ...], Field(min_length=1)]


def load_thresholds(path: Path) -> Thresholds:
    """Read a threshold file, with paths made absolute; raises ``MelodyError`` if it is malformed or of the old form."""
    content = read_toml(path)
    _refuse_old_form(content.get("thresholds"), path)
    loaded = parse(Thresholds, content, str(path))
    placed = tuple(
        threshold
        if threshold.no_worse_than is None
        else threshold.model_copy(update={"no_worse_than": path.parent / threshold.no_worse_than})
        for threshold in loaded.thresholds
    )
    return loaded.model_copy(update={"title": loaded.title or path.stem, "thresholds": placed})


def toml_row(row: Mapping[str, Any]) -> str:
    """A row as a threshold file has it.

    >>> toml_row({"sampler": "ddim", "num_steps": 20})
    '{ sampler = "ddim", num_steps = 20 }'
    """
    return f"{{ {', '.join(f'{key} = {json.dumps(value, ensure_ascii=False)}' for key, value in row.items())} }}"


def _refuse_old_form(thresholds: Any, path: Path) -> None:
    """Show how a threshold with ``column``, ``direction``, ``bound`` or ``baseline`` is written now."""
    for number, old in enumerate(thresholds if isinstance(thresholds, list) else [], start=1):
        keys = [key for key in OLD_KEYS if isinstance(old, dict) and key in old]
        if keys:
            raise MelodyError(
                f"{path}: threshold {number} is of an older form ({', '.join(keys)}): "
                f"write {_new_form(old)} in place of these keys"
            )


def _new_form(old: Mapping[str, Any]) -> str:
    written = {"metric": old.get("metric", old.get("column", "fad"))}
    if "baseline" in old:
        written |= {"no_worse_than": old["baseline"], "by_standard_errors": old.get("standard_errors", STANDARD_ERRORS)}
    else:
        written["min" if old.get("direction") == "higher" else "max"] = old.get("bound", 5.0)
    return ", ".join(f"{key} = {json.dumps(value, ensure_ascii=False, default=str)}" for key, value in written.items())
