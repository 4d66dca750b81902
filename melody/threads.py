"""How many threads torch's operations get in a command: one, and every core that is free where music is made.

Torch's threads spin while they wait for each other. Beside another busy process two threads on two cores took a hundred
times as long as one, and where operations are small the second thread buys little. So a command (never the library)
computes with one thread; ``every_free_core`` raises the number around work whose bits do not depend on it, and
``adapt``, called between that work's steps, lowers it when others need the cores and raises it again.
``--threads N`` and ``OMP_NUM_THREADS`` fix the number.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INTERVAL_S = 0.2
"""Time between two looks at what others use."""
ROUNDING = 0.25
"""Of a core: so much use by others is not counted as a core less."""
CGROUPS = Path("/sys/fs/cgroup")


class _Policy:
    """What this process is told: ``adaptive`` in a command, and neither when it is a library."""

    adaptive = False
    raised = False
    last: tuple[float, float, float] | None = None
    """Monotonic seconds, seconds that all processes used, and this one's, at the last look."""


def govern() -> None:
    """Begin a command: one thread, unless ``OMP_NUM_THREADS`` says how many. Call it before torch is imported."""
    if os.environ.get("OMP_NUM_THREADS"):
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    _Policy.adaptive = True
    _Policy.last = _sample()
    if "torch" in sys.modules:
        _set(1)


def fix(count: int) -> None:
    """Compute with ``count`` threads from here on, whatever others do."""
    _Policy.adaptive = False
    os.environ["OMP_NUM_THREADS"] = str(count)
    if "torch" in sys.modules:
        _set(count)


def fix_patiently() -> None:
    """Compute with every core, by threads that sleep when they wait: for training, whose bits depend on their number.

    Where ``--threads`` or ``OMP_NUM_THREADS`` say how many, or torch is loaded, nothing changes.
    """
    if not _Policy.adaptive or "torch" in sys.modules:
        return
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    fix(cores())


@contextmanager
def every_free_core() -> Iterator[None]:
    """Give the work inside every core that nobody else uses; its bits must not depend on the number of threads."""
    if not _Policy.adaptive or _Policy.raised:
        yield
        return
    _Policy.raised = True
    try:
        _set(_free_cores())
        yield
    finally:
        _Policy.raised = False
        _set(1)


@contextmanager
def every_core() -> Iterator[None]:
    """Give the work inside every core, free or not: for timings, which must not change their number on the way."""
    if not _Policy.adaptive:
        yield
        return
    _Policy.adaptive = False
    _set(cores())
    try:
        yield
    finally:
        _Policy.adaptive = True
        _set(1)


def adapt() -> None:
    """Between two steps inside ``every_free_core``: look what is free, a few times a second."""
    if not _Policy.raised or _Policy.last is None or time.monotonic() - _Policy.last[0] < INTERVAL_S:
        return
    _set(_free_cores())


def of_timings() -> int:
    """How many threads a timing in this process gets."""
    if _Policy.adaptive:
        return cores()
    import torch

    return torch.get_num_threads()


def cores() -> int:
    """Cores that this process may use: by its affinity, its control group's quota, and one a physical core."""
    allowed = len(_affinity())
    if _first_line(Path("/sys/devices/system/cpu/smt/active")) == "1":
        allowed = -(-allowed // 2)
    return max(1, min(allowed, int(_quota() or allowed)))


def _free_cores() -> int:
    before, now = _Policy.last, _sample()
    _Policy.last = now
    if before is None or now is None or now[0] <= before[0]:
        return cores()
    others = ((now[1] - before[1]) - (now[2] - before[2])) / (now[0] - before[0])
    return max(1, min(cores(), int(cores() - others + ROUNDING)))


def _set(count: int) -> None:
    import torch

    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


def _sample() -> tuple[float, float, float] | None:
    """Monotonic seconds, seconds that all processes used on our cores, and this one's; ``None`` off Linux."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    ours = {f"cpu{core}" for core in _affinity()}
    ticks = sum(_busy(line.split()[1:]) for line in lines if line.split(" ", 1)[0] in ours)
    return time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), time.process_time()


def _busy(fields: list[str]) -> int:
    """Ticks of one core that were neither idle nor waiting for a disk; guests are in ``user`` already."""
    user, nice, system, _, _, *further = (int(field) for field in fields[:8])
    return user + nice + system + sum(further)


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _quota() -> float | None:
    """Cores' worth of time that the control group grants, if it limits them (versions 2 and 1)."""
    if (line := _first_line(CGROUPS / "cpu.max")) is not None:
        granted, period = line.split()
    else:
        granted, period = (_first_line(CGROUPS / f"cpu/cpu.cfs_{name}_us") or "-1" for name in ("quota", "period"))
    return None if granted in ("max", "-1") else int(granted) / int(period)


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").splitlines()[0]
    except (OSError, IndexError):
        return None
