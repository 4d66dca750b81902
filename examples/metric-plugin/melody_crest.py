"""Crest factor: how far peaks stand out, which a limiter takes away."""

from __future__ import annotations

import torch
import torchmetrics

from melody.errors import MelodyError
from melody.protocols import Metric


class Crest(Metric, torchmetrics.Metric):
    """Mean crest factor of clips, in dB: peak over root mean square."""

    version, direction, unit = "1", "none", "dB"
    input_kind = "waveforms"  # so update is given one clip, (1, 1, T)
    tells = frozenset()  # the controls that it claims to tell from music: none
    full_state_update = False

    def __init__(self):
        super().__init__()
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, waveform):
        peak, rms = waveform.abs().amax(dim=(1, 2)), waveform.square().mean(dim=(1, 2)).sqrt()
        if not (waveform.isfinite().all() and peak.all()):
            raise MelodyError("crest: expected finite samples that are not all zero")
        self.total += (20 * torch.log10(peak / rms)).sum()
        self.count += len(waveform)

    def compute(self):
        return self.total / self.count
