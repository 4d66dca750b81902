"""Systems with random weights, at any size: for counts and speeds, which do not depend on the values of weights."""

from __future__ import annotations

import inspect
from typing import Any

from melody.config import Preset
from melody.errors import MelodyError
from melody.protocols import System
from melody.registry import systems
from melody.reproduce.systems import OWN

PROMPT = (
    "a slow and calm piano piece in a minor key with soft strings, a quiet bass and a steady beat that comes in late, "
    "warm and a little sad"
)
"""What every system is counted and timed with: a caption of two lines."""


def why_not(name: str) -> str:
    """Why a system cannot be built with random weights; empty if it can."""
    found = {entry.name: entry for entry in systems.entries()}.get(name)
    if found is None:
        return f"no system {name!r} is registered"
    if found.error:
        return f"system {name!r} cannot be used: {found.error}"
    if not hasattr(found.component, "random"):
        return f"system {name!r} cannot be built with random weights: it has no networks of its own"
    return systems.lacks(name)


def named_by_preset(name: str) -> bool:
    """Whether a system has our presets' sizes; a public model has its own."""
    return "preset" in inspect.signature(systems.get(name).random).parameters


def random_system(name: str, preset: Preset, device: str) -> System:
    """A system at a preset's size, or a public model at its full one; on the device ``meta`` it has shapes only.

    Raises:
        MelodyError: no such system, no such preset of it, a library that it needs is missing.
    """
    if reason := why_not(name):
        raise MelodyError(reason)
    size: tuple[Any, ...] = (preset if name == OWN else preset.name,) if named_by_preset(name) else ()
    built: System = systems.get(name).random(*size, device=device)
    return built


def free_bytes(device: str) -> float:
    """Memory that can be had on a device; infinite where it is not known."""
    import torch

    if device.startswith("cuda"):
        return float(torch.cuda.mem_get_info(torch.device(device))[0])
    try:
        with open("/proc/meminfo", encoding="utf-8") as lines:
            found = {line.partition(":")[0]: line.split()[1] for line in lines}
        return 1024.0 * int(found["MemAvailable"])
    except (OSError, KeyError):
        return float("inf")
