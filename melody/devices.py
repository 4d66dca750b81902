"""The device that a name means, checked before anything is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from melody.errors import MelodyError

if TYPE_CHECKING:
    import torch


def device_of(name: str) -> torch.device:
    """Return the device of that name; raises ``MelodyError`` for an unknown name, or a device that is not here."""
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        raise MelodyError(f"unknown device {name!r}: expected cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise MelodyError(f"unknown device {name!r}: expected cpu, cuda or cuda:N")
    if device.type == "cpu":
        return device
    if not torch.cuda.is_available():
        raise MelodyError(f"device {name!r} is not available: torch sees no CUDA device here")
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        raise MelodyError(f"device {name!r} is not available: torch sees {count} here, up to cuda:{count - 1}")
    return device


def place_of(part: object) -> torch.device:
    """Where a part's weights lie; the CPU for a part without weights, be it a network or not."""
    import torch

    weights = part.parameters() if isinstance(part, torch.nn.Module) else ()
    return next((weight.device for weight in weights), torch.device("cpu"))


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done all that it was given; other devices are never behind."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
