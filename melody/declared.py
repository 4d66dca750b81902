"""What a class of a kind declares of itself, and what is wrong with it: looked at when it is registered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args


@dataclass(frozen=True)
class Declaration:
    """An attribute that every class of a kind must have, looked at when it is registered."""

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
        return None if self.holds(value) else f"{self.name} is {value!r}: expected {self.expected}"


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


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


VERSION = Declaration("version", "a text, as in '1'", is_version)
PROTOCOL = Declaration("protocol", "a text, empty if it follows none", is_text)
