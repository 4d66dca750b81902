"""Tokens and latents of a piece in the making, window by window (Algorithms 1 and 2)."""

from __future__ import annotations

import torch
from torch import Tensor

from melody.pipeline.editing import Known
from melody.pipeline.plan import Window, WindowPlan
from melody.pipeline.run import GenerationCall


class WindowedGenerator:
    """Algorithm 1 on the first window, Algorithm 2 on each that follows; holds no more than a window's content.

    Args:
        prefix: MuLan tokens of the prompts ``(B, P)``; they may be replaced between windows.
        plan: says how Algorithm 2 is read: ``fixed`` holds known frames, ``as-printed`` turns them with the others
            (Eq. 29 and 32 on all of z), while the network is told that they are at angle 0.
        known: what the piece begins with; nothing if not given.
    """

    def __init__(self, run: GenerationCall, prefix: Tensor, plan: WindowPlan, known: Known | None = None) -> None:
        self.run, self.prefix, self.plan = run, prefix, plan
        self.tokens = prefix.new_zeros(len(prefix), 0)
        self.latents = run.noise(0)
        if known is not None:
            self.tokens, self.latents = known.repeated(len(prefix))
        self._begin_token = self._begin_frame = 0
        self._given_out = 0  # frames, in ``fixed``

    def advance(self, window: Window) -> Tensor:
        """Make what the window holds beyond what is known; returns the frames that are final now ``(B, n, D)``.

        As printed, a frame is final when it leaves the window (the saved chunk); fixed, as soon as it is made.
        """
        self._extend_tokens(window)
        saved, kept = self.latents.tensor_split([window.begin_frame - self._begin_frame], dim=1)
        known = torch.arange(window.end_frame - window.begin_frame, device=kept.device) < kept.shape[1]
        noise = self.run.noise(len(known) - kept.shape[1])
        as_printed = self.plan.continuation == "as-printed"
        self.latents = self.run.denoise(self.tokens, torch.cat([kept, noise], dim=1), known, rotate_known=as_printed)
        self._begin_frame = window.begin_frame
        if as_printed:
            return saved
        fresh = self.latents[:, self._given_out - window.begin_frame :]
        self._given_out = window.end_frame
        return fresh

    def finish(self) -> Tensor:
        """The frames that are left when no window follows ``(B, n, D)``."""
        return self.latents if self.plan.continuation == "as-printed" else self.latents[:, :0]

    def _extend_tokens(self, window: Window) -> None:
        """The last T_ST − M_ST tokens and the prefix, and as many new ones as the window wants (Algorithm 2)."""
        context = self.tokens[:, window.begin_token - self._begin_token :]
        count = window.end_token - window.begin_token - context.shape[1]
        self.tokens = torch.cat([context, self.run.draw_tokens(self.prefix, context, count)], dim=1)
        self._begin_token = window.begin_token
