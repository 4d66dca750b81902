"""Code of other distributions, run such that whatever it does at import or at a call ends nothing but itself."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, distributions, entry_points
from typing import Any, TextIO

from melody.errors import MelodyError

LONGEST = 300
"""Characters of a foreign error that are shown."""


def told(error: BaseException) -> str:
    """One line of an error, whatever its own methods do: ``ValueError: its first line``.

    >>> told(ValueError("no such file\\nand more"))
    'ValueError: no such file'
    """
    name, text = type.__getattribute__(type(error), "__name__"), ""
    with contextlib.suppress(BaseException):
        text = str.__str__(str(error)).strip()
    first = " ".join(text.splitlines()[:1])[:LONGEST]
    if isinstance(error, MelodyError):
        return first
    return f"{name}: {first}" if first else name


@contextmanager
def contained(what: str = "") -> Iterator[None]:
    """Turn whatever foreign code raises into ``MelodyError`` that begins with ``what``: ``SystemExit`` too.

    A real Ctrl-C is told apart from a ``KeyboardInterrupt`` that the code raises by the signal that came, and stays an
    interrupt, even if the code swallows it. Signals are the main thread's: in another one none can come.
    """
    came: list[int] = []
    previous = signal.getsignal(signal.SIGINT)
    watched = threading.current_thread() is threading.main_thread() and callable(previous)

    def note(number: int, frame: Any) -> None:
        came.append(number)
        previous(number, frame)  # type: ignore[misc,operator]

    if watched:
        signal.signal(signal.SIGINT, note)
    failure: MelodyError | None = None
    try:
        yield
    except MelodyError as error:
        failure = error  # it says by itself what is wrong
    except BaseException as error:
        failure = MelodyError(f"{what}{told(error)}")
    finally:
        if watched:
            signal.signal(signal.SIGINT, previous)
    if came:
        raise KeyboardInterrupt
    if failure is not None:
        raise failure from None


@contextmanager
def streams_kept() -> Iterator[None]:
    """Give foreign code streams of its own, so that it may close them; what it prints goes to stderr."""
    names = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")
    own = {name: getattr(sys, name) for name in names}
    kept = {number: os.dup(number) for number in (0, 1, 2) if _is_open(number)}
    stand_in = _stand_in(kept)
    for name in ("stdout", "stderr", "__stdout__", "__stderr__"):
        setattr(sys, name, stand_in)
    try:
        yield
    finally:
        for name, stream in own.items():
            setattr(sys, name, stream)
        for number, copy in kept.items():
            os.dup2(copy, number)
            os.close(copy)
        with contextlib.suppress(ValueError, OSError):
            stand_in.flush()


_stand_ins: list[TextIO] = []
"""The one that is in use; kept open, for a logger that is set up at an import holds it."""


def _stand_in(kept: dict[int, int]) -> TextIO:
    if not _stand_ins or _stand_ins[-1].closed:
        number = os.dup(kept[2]) if 2 in kept else os.open(os.devnull, os.O_WRONLY)
        _stand_ins[:] = [open(number, "w", encoding="utf-8", errors="replace", buffering=1)]  # noqa: SIM115
    return _stand_ins[-1]


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def points_of(group: str) -> tuple[list[EntryPoint], list[tuple[str, str]]]:
    """All entry points of a group, and the distributions whose own lists cannot be read, each with the reason."""
    try:
        return list(entry_points(group=group)), []
    except Exception:  # one unreadable list hides all others, so each distribution is asked by itself
        points: list[EntryPoint] = []
        unreadable: list[tuple[str, str]] = []
        for index, distribution in enumerate(distributions()):
            try:
                points += [point for point in distribution.entry_points if point.group == group]
            except Exception as error:
                unreadable.append((_name_of(distribution, str(index)), told(error)))
        return points, unreadable


def source_of(point: EntryPoint) -> tuple[str, str | None]:
    """Where an entry point comes from, ``distribution (module:name)``, and the distribution's version."""
    name, version = _name_of(point.dist, ""), None
    with contextlib.suppress(Exception):
        version = str(point.dist.version) if point.dist else None
    return (f"{name} ({point.value})" if name else str(point.value)), version


def _name_of(distribution: Any, otherwise: str) -> str:
    try:
        return str(distribution.name) if distribution is not None else otherwise
    except Exception:  # its metadata is missing or damaged
        return otherwise


def examined(look: Callable[[], Any]) -> tuple[Any, str | None]:
    """What ``look`` returns, or the one line of why it fails; its streams and its exits are its own."""
    try:
        with streams_kept(), contained():
            return look(), None
    except MelodyError as error:
        return None, str(error)
