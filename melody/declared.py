"""What a class of a kind declares of itself, and what an instance has: looked at when it is registered or built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

HIGHEST_RATE = 768_000
"""In Hz, as of a file: to a billion of them a second of sound would be resampled for ever."""
LONGEST = 100
"""Characters of a value in a message."""
WIDEST = 1 << 20
"""Ours: numbers in a vector."""


@dataclass(frozen=True)
class Declaration:
    """An attribute that every class of a kind, or every instance of one, must have."""

    name: str
    expected: str
    """In words."""
    holds: Callable[[Any], bool]

    def problem(self, component: Any) -> str | None:
        """What is wrong with the class's attribute, if something is."""
        missing = object()
        value = getattr(component, self.name, missing)
        if value is missing:
            return f"it lacks {self.name!r}: expected {self.expected}"
        return None if self.holds(value) else f"{self.name} is {repr(value)[:LONGEST]}: expected {self.expected}"


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_rate(value: Any) -> bool:
    return is_count(value) and value <= HIGHEST_RATE


def is_width(value: Any) -> bool:
    return is_count(value) and value <= WIDEST


def is_length(value: Any) -> bool:
    """Whether it is a number of seconds, up to a day."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 86_400


def is_length_or_none(value: Any) -> bool:
    return value is None or is_length(value)


def are_labels(value: Any) -> bool:
    """Whether they are texts, no two alike."""
    texts = isinstance(value, tuple | list) and all(isinstance(label, str) for label in value)
    return texts and 0 < len(set(value)) == len(value)


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def is_version(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def are_names(value: Any) -> bool:
    return isinstance(value, frozenset) and all(isinstance(name, str) for name in value)


def one_of(values: Any) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in get_args(values)


SAMPLE_RATE = Declaration("sample_rate", f"a whole number of Hz, 1 to {HIGHEST_RATE:,}", is_rate)
WINDOWS = tuple(Declaration(name, "a number of seconds above 0", is_length) for name in ("window_s", "hop_s"))
VERSION = Declaration("version", "a text, as in '1'", is_version)
PROTOCOL = Declaration("protocol", "a text, empty if it follows none", is_text)
