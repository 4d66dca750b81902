"""``melody cache``: what the cache of embeddings holds, its limit, and emptying it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from melody.cli.console import console


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove every cached embedding.")] = False,
    limit: Annotated[
        str | None,
        typer.Option(help="Most that it may hold from now on, as in 500MB or 4GB; the least recently used go."),
    ] = None,
) -> None:
    """Show the cache of embeddings: where it is, entries and size by embedder, and its limit."""
    from melody.embedders.cache import EmbeddingCache, parse_bytes, show_bytes

    wanted = None if limit is None else parse_bytes(limit)
    embeddings = EmbeddingCache()
    if clear:
        before = embeddings.clear()
        console.print(f"removed {before.entries} entries, {show_bytes(before.bytes)}")
    if wanted is not None:
        embeddings.set_limit(wanted)
    usage = embeddings.usage()
    if usage.by_name:
        table = Table("embedder", "entries", "size")
        for name, (entries, size) in sorted(usage.by_name.items()):
            table.add_row(escape(name), str(entries), show_bytes(size))
        console.print(table)
    console.print(
        f"{escape(str(embeddings.folder))}: {usage.entries} entries, {show_bytes(usage.bytes)} of at most "
        f"{show_bytes(embeddings.limit_bytes)}",
        soft_wrap=True,
    )
