"""Waveforms as the embedders take them: checked, and cut into windows of one length."""

from __future__ import annotations

import torch
from torch import Tensor

from melody.errors import MelodyError

WINDOWS_AT_ONCE = 64
"""Ours: an hour of audio is embedded in groups of so many windows, and not in one batch of 360."""


def check_waveform(waveform: Tensor, where: str) -> None:
    """Raise ``MelodyError`` unless ``waveform`` is ``(B, 1, T)`` with B, T >= 1, floating-point and finite."""
    if waveform.ndim != 3 or waveform.shape[1] != 1:
        raise MelodyError(
            f"{where}: the waveform has shape {tuple(waveform.shape)}, expected (batch, 1, samples), mono"
        )
    if waveform.numel() == 0:
        raise MelodyError(f"{where}: the waveform has shape {tuple(waveform.shape)}: expected at least one sample")
    if not waveform.is_floating_point():
        raise MelodyError(f"{where}: the waveform holds {waveform.dtype}, expected floating-point values in [-1, 1]")
    if not torch.isfinite(waveform).all():
        raise MelodyError(f"{where}: the waveform holds NaN or infinity")


def cut_windows(waveform: Tensor, length: int) -> Tensor:
    """Cut ``(B, T)`` into windows ``(B, W, length)``.

    Longer audio is covered by windows side by side, the last one moved back so that it ends with the audio; shorter
    audio is repeated until it fills a window, so that a tower trained on full windows meets no silence (ours).

    >>> cut_windows(torch.arange(5.0)[None], 2)
    tensor([[[0., 1.],
             [2., 3.],
             [3., 4.]]])
    >>> cut_windows(torch.arange(2.0)[None], 5)
    tensor([[[0., 1., 0., 1., 0.]]])
    """
    samples = waveform.shape[1]
    if samples <= length:
        repeats = -(-length // samples)
        return waveform.repeat(1, repeats)[:, None, :length]
    starts = [*range(0, samples - length, length), samples - length]
    return torch.stack([waveform[:, start : start + length] for start in starts], dim=1)


def unit_gain(waveform: Tensor) -> Tensor:
    """Scale each row ``(…, T)`` to a root mean square of 1, so that loudness says nothing; silence stays silence."""
    rms = waveform.square().mean(dim=-1, keepdim=True).sqrt()
    return waveform / rms.clamp(min=SILENCE_RMS)


SILENCE_RMS = 1e-4
"""-80 dB of full scale: below it a row is left near silence (ours)."""
