"""The one error that a user can mend, the nearest valid name for it, and the one warning."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MelodyError(Exception):
    """Bad input: the message is one line that says what, where, and what was expected.

    The command line prints it without a stack trace and exits with code 2.
    """


class StorageError(MelodyError):
    """A store or a file of ours that cannot be read or written: it ends the run, and is no fault of what is measured.

    Whoever turns errors into a reason beside one clip, number or unit lets this one through.
    """


class MelodyWarning(UserWarning):
    """Something that goes on, and may not do what was meant; the command line prints it as one line on stderr."""


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'? (valid: a, b, x)"`` for an unknown name.

    >>> did_you_mean("dddim", ["ddim", "heun"])
    "; did you mean 'ddim'? (valid: ddim, heun)"
    >>> did_you_mean("FAD", ["fad", "kad"])
    "; did you mean 'fad'? (valid: fad, kad)"
    """
    options = sorted(valid)
    if not options:
        return " (there are none)"
    by_lower_case = {option.lower(): option for option in options}
    nearest = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.4)
    hint = f"; did you mean {by_lower_case[nearest[0]]!r}?" if nearest else ""
    return f"{hint} (valid: {', '.join(options)})"


def one_line(error: BaseException) -> str:
    """An exception as one line: a user error's message, or the type and message of anything else."""
    try:
        message = " ".join(str(error).split())[:400]
    except Exception:  # another project's error may fail to say what it is
        message = ""
    if isinstance(error, MelodyError):
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
