"""Where a stage's windows lie: striding ones that keep an overlap as prefix, or independent ones for one batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from melody.pipeline.plan import whole

WINDOWS_AT_ONCE = 16
"""Of one clip, in a batch; ours, for the memory of their caches."""


@dataclass(frozen=True)
class Window:
    """Places that a stage sees at once, from ``begin`` to ``end``, those before ``known`` there already."""

    begin: int
    known: int
    end: int

    @property
    def new(self) -> int:
        """How many places it makes."""
        return self.end - self.known


def striding(known: int, total: int, window: float, stride: float) -> list[Window]:
    """Windows one after the other, each beginning with the last ``window - stride`` places before it, the overlap.

    The last is clipped to ``total``. Where a stride holds no whole number of places, ends are rounded and not steps, as
    in ``melody.pipeline.plan.WindowPlan``.

    Args:
        known: places at the beginning that are there already; those before the overlap are not seen.

    >>> striding(0, 1300, 500, 250)[-1]
    Window(begin=1000, known=1250, end=1300)
    """
    first = max(0, known - math.floor(window - stride + 1e-9))
    windows, index = [], 0
    while known < total:
        end = whole(first + window + index * stride)
        if end > known:
            windows.append(Window(end - whole(window), known, min(end, total)))
            known = windows[-1].end
        index += 1
    return windows


def independent(known: int, total: int, window: float) -> list[list[Window]]:
    """The fewest windows without overlap over the places from ``known`` on, all of one length, in batches.

    If they do not divide the places evenly, the last begins a little earlier, and makes some places twice.

    >>> independent(0, 500, 150)
    [[Window(begin=0, known=0, end=125), Window(begin=125, known=125, end=250), Window(begin=250, known=250, end=375), \
Window(begin=375, known=375, end=500)]]
    """
    places = total - known
    if not places:
        return []
    count = whole(places / window)
    length = -(-places // count)
    begins = [min(known + index * length, total - length) for index in range(count)]
    windows = [Window(begin, begin, begin + length) for begin in begins]
    return [windows[first : first + WINDOWS_AT_ONCE] for first in range(0, count, WINDOWS_AT_ONCE)]
