"""Checks of what goes into a codec."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from melody.errors import MelodyError


def check_waveform(codec: nn.Module, waveform: Tensor) -> None:
    """Raise ``MelodyError`` unless the waveform is ``(B, 1, T)``, of the weights' dtype, not empty and finite."""
    check_frames(codec, waveform, "waveform", "(B, 1, T)", waveform.ndim == 3 and waveform.shape[1] == 1)
    check_values(codec, waveform, "waveform")


def check_frames(codec: nn.Module, tensor: Tensor, what: str, expected: str, fits: bool) -> None:
    """Raise ``MelodyError`` unless the shape ``fits`` and has no empty axis."""
    shape = tuple(tensor.shape)
    if not fits or 0 in shape:
        raise MelodyError(f"{type(codec).__name__}: {what} of shape {shape}, expected {expected} without an empty axis")


def check_values(codec: nn.Module, tensor: Tensor, what: str) -> None:
    """Raise ``MelodyError`` unless the values are of the weights' dtype and finite."""
    dtype = next(codec.parameters()).dtype
    if tensor.dtype != dtype:
        raise MelodyError(f"{type(codec).__name__}: {what} of {tensor.dtype}, expected {dtype} as the weights are")
    if not tensor.is_meta and not torch.isfinite(tensor).all():
        raise MelodyError(f"{type(codec).__name__}: {what} holds NaN or infinity")
