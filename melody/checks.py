"""What every metric and embedder refuses: numbers that are not finite, and shapes that do not belong together."""

from __future__ import annotations

import torch
from torch import Tensor

from melody.errors import MelodyError

CHECKED_AT_ONCE = 1 << 22


def check_finite(values: Tensor, name: str) -> None:
    """Raise ``MelodyError`` if ``values`` holds a NaN or an infinity."""
    parts = values.reshape(-1).split(CHECKED_AT_ONCE)  # the masks of an hour of audio take several times its memory
    bad = sum(int((~torch.isfinite(part)).sum()) for part in parts)
    if bad:
        raise MelodyError(f"{name}: {bad} of {values.numel()} values are NaN or infinite; expected finite numbers")


def check_clip(waveform: Tensor, name: str) -> None:
    """Raise ``MelodyError`` unless ``waveform`` is a mono clip ``(T,)``, T > 0, of finite numbers."""
    if waveform.ndim != 1 or len(waveform) == 0:
        raise MelodyError(f"{name}: the waveform has shape {tuple(waveform.shape)}; expected mono (T,) with T > 0")
    check_finite(waveform, f"{name}: the waveform")


def check_audible(rows: Tensor, name: str, least: float = 0.0) -> None:
    """Raise ``MelodyError`` unless every row ``(B, T)`` has a value beyond ``least`` in magnitude."""
    silent = [row for row, loudest in enumerate(rows.abs().amax(dim=1).tolist()) if loudest <= least]
    if silent:
        which = f" of row {silent[0] + 1} of {len(rows)}" if len(rows) > 1 else ""
        raise MelodyError(f"{name}{which} is silent or constant; expected a signal")


def check_same_shape(preds: Tensor, target: Tensor, name: str) -> None:
    """Raise ``MelodyError`` unless both tensors have one shape and at least one element."""
    if preds.shape != target.shape:
        raise MelodyError(
            f"{name}: preds have shape {tuple(preds.shape)}, target {tuple(target.shape)}; expected the same"
        )
    if preds.numel() == 0:
        raise MelodyError(f"{name}: got an empty tensor of shape {tuple(preds.shape)}; expected at least one element")


def check_scored(count: float, name: str) -> None:
    """Raise ``MelodyError`` if a metric is asked for its value before it has seen anything."""
    if count < 1:
        raise MelodyError(f"{name}: nothing was scored; expected at least one update")
