"""What the commands print on, and the bar that they show progress with."""

from __future__ import annotations

import warnings
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from melody.errors import MelodyWarning

console = Console()
notes = Console(stderr=True)


def show_own_warnings() -> None:
    """Print our own warnings as one line on stderr; those of libraries stay as Python shows them."""
    shown_by_python = warnings.showwarning

    def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, MelodyWarning):
            notes.print(f"melody: warning: {escape(str(message))}", soft_wrap=True, highlight=False)
        else:
            shown_by_python(message, category, *where, **more)

    warnings.showwarning = show


def progress_bar() -> Progress:
    """A bar with counts, time and ETA, on stderr where that is a terminal, gone when it ends."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal)
