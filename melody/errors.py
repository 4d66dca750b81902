"""The one error that a user can mend, and the nearest valid name for it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MelodyError(Exception):
    """Bad input: the message is one line that says what, where, and what was expected.

    The command line prints it without a stack trace and exits with code 2.
    """


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'? (valid: a, b, x)"`` for an unknown name.

    >>> did_you_mean("dddim", ["ddim", "heun"])
    "; did you mean 'ddim'? (valid: ddim, heun)"
    """
    options = sorted(valid)
    if not options:
        return " (there are none)"
    nearest = difflib.get_close_matches(name, options, n=1, cutoff=0.4)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return f"{hint} (valid: {', '.join(options)})"
