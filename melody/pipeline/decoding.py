"""Latents that come piece by piece to a waveform without seams."""

from __future__ import annotations

import torch
from torch import Tensor

from melody.protocols import Codec


class PiecewiseDecoder:
    """Decode latents in pieces: put together, the pieces are what the codec makes of the whole, to rounding.

    A frame is decoded once its context on both sides is known, so what comes out ends ``decoder_context_frames`` before
    what went in, until the last piece. Only the frames that are still needed are kept. A codec without such a number
    gets all its latents at the end, in one call.
    """

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.context = codec.decoder_context_frames
        self._held: Tensor | None = None
        self._begin = 0  # of what is held: the frames before it are not needed any more
        self._decoded = 0  # frames that came out already

    def push(self, latents: Tensor, *, last: bool = False) -> Tensor:
        """Further latents ``(B, L, D)``, any L -> the waveform that is certain now, ``(B, 1, T)``, T maybe 0."""
        held = latents if self._held is None else torch.cat([self._held, latents], dim=1)
        end = self._begin + held.shape[1]
        ready = end if last else self._ready(end)
        if ready <= self._decoded:
            self._held = held
            return latents.new_zeros(len(latents), 1, 0)
        hop = self.codec.hop_length
        context = end if self.context is None else self.context
        to = min(ready + context, end) - self._begin
        waveform = self.codec.decode(held[:, :to])
        waveform = waveform[..., (self._decoded - self._begin) * hop : (ready - self._begin) * hop]
        drop = max(0, ready - context - self._begin)
        self._held, self._begin, self._decoded = held[:, drop:].clone(), self._begin + drop, ready
        return waveform

    def _ready(self, end: int) -> int:
        return 0 if self.context is None else end - self.context
