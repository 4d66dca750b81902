"""What the commands print on, and how they show progress; neither can end a command."""

from __future__ import annotations

import codecs
import os
import sys
import warnings
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from melody.errors import MelodyWarning
from melody.progress import PlainProgress

PLAIN_GLYPHS = {
    "×": "x", "±": "+-", "–": "-", "—": "-", "−": "-", "…": "...", "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "✓": "+",
    "✗": "x", "○": "o", "·": ".", "→": "->", "↓": "v", "↑": "^", "’": "'", "‘": "'", "“": '"', "”": '"', "•": "*",
    "«": '"', "»": '"', "²": "2", "µ": "u", "⊕": "(+)", "†": "(p)",
}  # fmt: skip
"""What stands for a glyph on a stream that cannot say it; for all others a question mark."""


class CommandConsole(Console):
    """A console whose reader may go away: then nothing more is said, and the command goes on to its own end."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        drop(sys.stderr if self.stderr else sys.stdout)


console = CommandConsole()
notes = CommandConsole(stderr=True)


def drop(stream: Any) -> None:
    """Send what is still to be written to nowhere, so that the flush at the end finds no broken pipe."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def say_what_streams_can() -> None:
    """Let a stream replace what its encoding lacks: no number is lost for a sign beside it, or a name's odd bytes."""
    codecs.register_error("melody-plain", _plain)
    # A service may start a command without them, and Python has none then.
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="melody-plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(PLAIN_GLYPHS.get(glyph) or _escaped(glyph) for glyph in lacking), error.end


def _escaped(glyph: str) -> str:
    r"""A byte of a name that is no UTF-8, as in ``\xff``; a question mark for every other glyph."""
    return f"\\x{ord(glyph) - 0xDC00:02x}" if "\udc80" <= glyph <= "\udcff" else "?"


def show_own_warnings() -> None:
    """Print our own warnings as one line on stderr; those of libraries stay as Python shows them."""
    shown_by_python = warnings.showwarning

    def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, MelodyWarning):
            notes.print(f"melody: warning: {escape(str(message))}", soft_wrap=True, highlight=False)
        else:
            shown_by_python(message, category, *where, **more)

    warnings.showwarning = show


def progress_bar() -> Progress | PlainProgress:
    """On a terminal's stderr a bar with counts, time and ETA, gone when it ends; else a line now and then."""
    if not notes.is_terminal:
        return PlainProgress(notes)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=notes, transient=True)
