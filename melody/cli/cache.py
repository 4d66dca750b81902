"""``melody cache``: what the store holds, its limit, and emptying it."""

from __future__ import annotations

import math
import re
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from melody.bounds import shown
from melody.cli.console import console
from melody.cli.options import StoreOption
from melody.errors import MelodyError

LARGEST_LIMIT = 2**63 - 1
UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove everything.")] = False,
    prune: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="Remove what is of a kind (repeat it).")
    ] = None,
    limit: Annotated[
        str | None,
        typer.Option(help="Most that it may hold from now on, as in 500MB or 4GB; the least recently used go."),
    ] = None,
    store: StoreOption = None,
) -> None:
    """Show what was computed before and is kept: where it is, entries and size by kind, and its limit."""
    from melody.artifacts.store import KINDS, Store, check_kind

    limit_bytes = None if limit is None else parse_bytes(limit)
    for name in prune or ():
        check_kind(name)
    kept = Store(store)
    removed: list[str | None] = [None] if clear else [*(prune or ())]
    for part in removed:
        entries, size = kept.clear(part)
        console.print(f"removed {entries} entries{f' of {part}' if part else ''}, {show_bytes(size)}")
    if limit_bytes is not None:
        kept.set_limit(limit_bytes)
    usage = kept.usage()
    table = Table("kind", "entries", "size", "what")
    for kind, (entries, size) in usage.items():
        table.add_row(escape(kind), str(entries), show_bytes(size), KINDS.get(kind, ""))
    if usage:
        console.print(table)
    console.print(
        f"{escape(str(kept.folder))}: {sum(entries for entries, _ in usage.values())} entries, "
        f"{show_bytes(sum(size for _, size in usage.values()))} of at most {show_bytes(kept.limit_bytes)}",
        soft_wrap=True,
    )


def parse_bytes(text: str) -> int:
    """A size as in ``500MB``, ``2GiB``, ``4g`` or ``0``; units are powers of 1,024.

    >>> parse_bytes("2GB"), parse_bytes("1.5 k")
    (2147483648, 1536)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", text, flags=re.IGNORECASE)
    size = float(match[1]) * UNITS[match[2].lower()] if match else math.inf
    if size > LARGEST_LIMIT:
        raise MelodyError(f"{shown(text)} is no size; expected a number with a unit, as in 500MB or 2GB")
    return int(size)


def show_bytes(size: float) -> str:
    """A size for people.

    >>> show_bytes(1536), show_bytes(10)
    ('1.5 KiB', '10 B')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
