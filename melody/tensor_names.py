"""Names of stored tensors: ours, whatever the library whose modules hold them calls them.

A component that holds a module of another library says so in its ``library_names``: ``{"text_tower": BERT}``. Files and
checkpoints have our names; where a release of the library renames its tensors, its table gets one more spelling, and
every file that was ever written can still be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TypeVar

from torch import nn

from melody.errors import MelodyError

Value = TypeVar("Value")


class Names:
    """Our names for what one library's module holds, and the library's own in each of its releases.

    Args:
        module: what is named, with its library, for messages.
        table: our path of a submodule or tensor, to the library's; to several where releases differ. ``#`` is an index,
            as many on each side; what follows the path (``.weight``) is the same on both.

    >>> names = Names("Net of lib", {"layers.#.query": ("layers.#.q_proj", "encoder.layer.#.query")})
    >>> names.ours("encoder.layer.11.query.bias"), names.ours("layers.0.query.bias"), names.ours("layers.0.queries")
    ('layers.11.query.bias', 'layers.0.query.bias', None)
    """

    def __init__(self, module: str, table: Mapping[str, str | tuple[str, ...]]) -> None:
        self.module = module
        self._rules = [
            (re.compile(re.escape(spelling).replace(r"\#", r"(\d+)") + r"((?:\.\w+)?)"), ours.replace("#", "{}") + "{}")
            for ours, theirs in table.items()
            for spelling in (ours, *((theirs,) if isinstance(theirs, str) else theirs))
        ]

    def ours(self, name: str) -> str | None:
        """Our name of a tensor, from any spelling of it; ``None`` if it is none that we know."""
        for pattern, ours in self._rules:
            if match := pattern.fullmatch(name):
                return ours.format(*match.groups())
        return None


def own_names(module: nn.Module, tensors: Mapping[str, Value]) -> dict[str, Value]:
    """Tensors of a module under our names, from any spelling; what no library names keeps its name."""
    held = list(_held(module))
    return {_ours(held, name): value for name, value in tensors.items()}


def installed_names(module: nn.Module) -> dict[str, str]:
    """Of each tensor that another library holds in a module: our name, to that of the library's installed release.

    Raises:
        MelodyError: a release of the library that has a tensor of a name that we do not know.
    """
    installed = {}
    for path, names, library in _held(module):
        for theirs in library.state_dict():
            ours = names.ours(theirs)
            if ours is None:
                raise MelodyError(
                    f"the installed release calls a tensor of {names.module} {theirs!r}, a name that this release of "
                    "melody-toolkit does not know: install an earlier one of that library, or a later melody-toolkit"
                )
            installed[path + ours] = path + theirs
    return installed


def _held(module: nn.Module) -> Iterator[tuple[str, Names, nn.Module]]:
    """Path, names and module of everything that another library holds within a module."""
    for path, inner in module.named_modules():
        tables: Mapping[str, Names] = getattr(inner, "library_names", {})
        for attribute, names in tables.items():
            yield f"{path}.{attribute}.".removeprefix("."), names, getattr(inner, attribute)


def _ours(held: list[tuple[str, Names, nn.Module]], name: str) -> str:
    for path, names, _ in held:
        if name.startswith(path):
            ours = names.ours(name.removeprefix(path))
            return name if ours is None else path + ours
    return name
