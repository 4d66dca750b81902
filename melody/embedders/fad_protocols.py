"""How the field computes "the" Fréchet audio distance: four protocols, each a row of one table, and what a row does.

The same audio moves between protocols, so the protocol is part of a number's name: an embedder that follows one
carries it in its own (``vggish-google``). What a row says is what runs: ``prepared`` and ``windows`` below are the
only places that scale samples and cut windows for the embedders that follow it.

Version 1. Sources: google-fad is Kilgour et al. 2019 (arXiv 1812.08466) and the program that its authors published;
torchvggish-fad the port of VGGish to torch, and frechet-audio-distance, which calls it and strips the last ReLU
(``torchvggish-fad-stripped``); fadtk-clap Gui et al. 2024 (arXiv 2311.01616) and their toolkit; ``embedded`` is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from melody.errors import MelodyError, did_you_mean

PEAK_FLOOR = 0.1
"""google-fad divides by no less, so that near silence stays near silence (20 dB at most)."""
INT16_PEAK = 32_767.0


@dataclass(frozen=True)
class FadProtocol:
    """One way to come from a clip to the vectors whose mean and covariance are compared."""

    name: str
    sample_rate: int
    """In Hz; what is at another rate is resampled before."""
    window_s: float
    """Seconds between the first and the last frame's centre of what the network hears at once."""
    cut_s: float
    """Seconds of samples that are cut for a window: it covers the last frame's whole analysis window."""
    hop_s: float
    last: Literal["dropped", "padded"]
    """Of a last part shorter than ``cut_s``: left out, or filled with zeros (then a window begins at every hop)."""
    peak_normalised: bool = False
    """Divide a clip by max(0.1, its largest sample): the largest, not the largest magnitude, as published."""
    int16: bool = False
    """Clip to [-1, 1] and round towards zero to 16 bits, as fadtk does."""
    relu: bool = False
    """Embedding taken after the network's last ReLU."""
    ddof: int = 1
    """Of the covariance."""


GOOGLE = FadProtocol("google-fad", 16_000, 0.96, 1.0, 0.5, "dropped", peak_normalised=True)
TORCHVGGISH = FadProtocol("torchvggish-fad", 16_000, 0.96, 0.975, 0.96, "dropped", relu=True)
TORCHVGGISH_STRIPPED = FadProtocol("torchvggish-fad-stripped", 16_000, 0.96, 0.975, 0.96, "dropped")
FADTK_CLAP = FadProtocol("fadtk-clap", 48_000, 10.0, 10.0, 1.0, "padded", int16=True)
EMBEDDED = FadProtocol("embedded", 24_000, 1.0, 1.0, 0.5, "dropped")

PROTOCOLS: dict[str, FadProtocol] = {
    protocol.name: protocol for protocol in (GOOGLE, TORCHVGGISH, TORCHVGGISH_STRIPPED, FADTK_CLAP, EMBEDDED)
}


def fad_protocol(name: str) -> FadProtocol:
    """The protocol of that name; raises ``MelodyError`` with the nearest one."""
    if name not in PROTOCOLS:
        raise MelodyError(f"unknown FAD protocol {name!r}{did_you_mean(name, PROTOCOLS)}")
    return PROTOCOLS[name]


def prepared(waveform: Tensor, protocol: FadProtocol) -> Tensor:
    """A clip ``(T,)`` at the protocol's rate, scaled and rounded as it asks; float32."""
    samples = waveform.float()
    if protocol.peak_normalised:
        samples = samples / max(PEAK_FLOOR, float(samples.max()))
    if protocol.int16:
        samples = samples.clamp(-1, 1).mul_(INT16_PEAK).trunc_().div_(INT16_PEAK)
    return samples


def windows(waveform: Tensor, protocol: FadProtocol) -> Tensor:
    """Cut a clip ``(T,)``, T > 0, into ``(windows, cut)``, as a view where it can be.

    A clip shorter than one window is padded with zeros to one, where the published programs fail (ours).

    >>> import torch
    >>> windows(torch.zeros(24_000 * 2 + 11_999), EMBEDDED).shape
    torch.Size([3, 24000])
    """
    cut, hop = (round(seconds * protocol.sample_rate) for seconds in (protocol.cut_s, protocol.hop_s))
    last_begin = (-(-len(waveform) // hop) - 1) * hop if protocol.last == "padded" else 0
    lack = last_begin + cut - len(waveform)
    return (F.pad(waveform, (0, lack)) if lack > 0 else waveform).unfold(0, cut, hop)
