"""A size that memory cannot hold is told before it is allocated."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from melody.errors import MelodyError

T = TypeVar("T")
FREELY = 64 << 20
"""Bytes up to which nothing is estimated: what a build has allocated when it turns out to be a large one."""
CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""Limit and use of a container, as Linux tells them."""


def available_bytes() -> float:
    """Memory that a process can still have: the system's, or less in a container; infinite where nothing tells."""
    left = [free for limit, used in CGROUPS if (free := _number(limit) - _number(used, 0.0)) > 0]
    return min([_free(), *left])


def within_memory(build: Callable[[], T], what: str) -> T:
    """Call ``build``, which may be called again, unless its tensors need more memory than there is.

    A small build runs once. One that passes ``FREELY`` is first run on the meta device, where nothing is allocated; the
    random stream is put back, so that the numbers are those of one build.

    Raises:
        MelodyError: more bytes than are available, or the allocator's own refusal.
    """
    stream, ledger = torch.get_rng_state(), _Ledger(FREELY, ("cpu",))
    try:
        with ledger:
            return build()
    except Exception:  # a library may turn the ledger's error into one of its own
        if ledger.bytes <= ledger.limit:
            raise
    torch.set_rng_state(stream)
    free = available_bytes()
    needed = _needed(build, free)
    if needed > free:
        raise MelodyError(f"{what}: it needs more than {_shown(needed)} of memory, and {_shown(free)} are free")
    torch.set_rng_state(stream)
    try:
        return build()
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise MelodyError(f"{what}: there is not enough memory for its {_shown(needed)}") from None
        raise


def _needed(build: Callable[[], Any], limit: float) -> float:
    """Bytes that a build asks for, counted until they pass the limit."""
    ledger = _Ledger(limit, ("cpu", "meta"))
    try:
        with torch.device("meta"), ledger:
            build()
    except MelodyError:
        raise
    except Exception:  # what cannot be built without values says nothing here
        return ledger.bytes if ledger.bytes > limit else 0.0
    return ledger.bytes


class _PassedError(Exception):
    """A build has asked for more than its limit."""


class _Ledger(TorchDispatchMode):
    """Counts the bytes of tensors that are made from a size, before they are made."""

    def __init__(self, limit: float, devices: tuple[str, ...]) -> None:
        super().__init__()
        self.limit, self.devices, self.bytes = limit, devices, 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        position = _place_of_size(func)
        if position is not None and _device(args, given) in self.devices:
            size = given["size"] if "size" in given else args[position]
            dtype = given.get("dtype") or torch.get_default_dtype()
            self.bytes += math.prod(size) * dtype.itemsize
            if self.bytes > self.limit:
                raise _PassedError
        return func(*args, **given)


@lru_cache(maxsize=1024)
def _place_of_size(func: Any) -> int | None:
    """Position of the argument ``size`` of what makes a tensor; ``None`` of what does not."""
    names = [argument.name for argument in func._schema.arguments]
    return names.index("size") if "size" in names and "device" in names else None


def _device(args: Any, kwargs: Any) -> str:
    device = kwargs.get("device")
    if device is None and args and isinstance(args[0], torch.Tensor):
        device = args[0].device
    return "cpu" if device is None else torch.device(device).type


def _free() -> float:
    with suppress(OSError, ValueError):  # not Linux
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return math.inf


def _number(path: str, otherwise: float = math.inf) -> float:
    try:
        return float(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError):  # not there, or "max"
        return otherwise


def _shown(count: float) -> str:
    return f"{count / 1e9:,.1f} GB"
