"""Where the sampler's runs begin and end, and what they cost by formula (Algorithms 1 and 2, Table 3)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from melody.config import Preset
from melody.errors import MelodyError, did_you_mean

Continuation = Literal["fixed", "as-printed"]
"""How Algorithm 2 is read: known frames ``fixed``, its evident intent, or turned with all others, ``as-printed``."""


@dataclass(frozen=True)
class Window:
    """What one run of the sampler sees, counted from the beginning of the music."""

    begin_frame: int
    end_frame: int
    begin_token: int
    end_token: int


@dataclass(frozen=True)
class WindowPlan:
    """The windows of a piece: one segment at first (Algorithm 1), then a chunk more at a time (Algorithm 2).

    Where a chunk holds no whole number of tokens or frames (2.5 s hold 62.5 tokens), ``as-printed`` rounds each up,
    M_ST = ⌈T_ST / M⌉ and L_M = ⌈L / M⌉, so that tokens gain on the frames by half a token a call. ``fixed`` rounds the
    places in time and not the steps: 62 and 63 tokens in turn, which never run ahead. Either way a window holds
    L frames and T_ST tokens, as in training.
    """

    segment_s: float
    chunks: int
    token_rate: float
    frame_rate: float
    continuation: Continuation = "fixed"

    @classmethod
    def of(cls, preset: Preset, token_rate: float, frame_rate: float, continuation: str = "fixed") -> WindowPlan:
        """Raises ``MelodyError`` for an unknown reading of Algorithm 2."""
        if continuation not in get_args(Continuation):
            hint = did_you_mean(continuation, get_args(Continuation))
            raise MelodyError(f"unknown continuation {continuation!r}{hint}")
        settings = preset.generation
        return cls(settings.segment_s, settings.chunks, token_rate, frame_rate, continuation)  # type: ignore[arg-type]

    @property
    def segment_frames(self) -> int:
        """L."""
        return whole(self.segment_s * self.frame_rate)

    @property
    def segment_tokens(self) -> int:
        """T_ST."""
        return whole(self.segment_s * self.token_rate)

    @property
    def chunk_frames(self) -> int:
        """L_M = ⌈L / M⌉ (Algorithm 2)."""
        return -(-self.segment_frames // self.chunks)

    @property
    def chunk_tokens(self) -> int:
        """M_ST = ⌈T_ST / M⌉ (Algorithm 2)."""
        return -(-self.segment_tokens // self.chunks)

    def windows(self, duration_s: float | None = None) -> Iterator[Window]:
        """The windows that hold a duration, or windows for ever."""
        if duration_s is not None and duration_s <= self.segment_s:
            yield Window(0, whole(duration_s * self.frame_rate), 0, whole(duration_s * self.token_rate))
            return
        count = None if duration_s is None else self.count(duration_s)
        for index in itertools.count() if count is None else range(count):
            yield self._printed(index) if self.continuation == "as-printed" else self._in_time(index)

    def _printed(self, index: int) -> Window:
        frame, token = index * self.chunk_frames, index * self.chunk_tokens
        return Window(frame, frame + self.segment_frames, token, token + self.segment_tokens)

    def _in_time(self, index: int) -> Window:
        end_s = self.segment_s + index * self.segment_s / self.chunks
        end_frame = whole(end_s * self.frame_rate)
        end_token = whole(end_s * self.token_rate)
        return Window(end_frame - self.segment_frames, end_frame, end_token - self.segment_tokens, end_token)

    def count(self, duration_s: float) -> int:
        """How many runs of the sampler a duration takes."""
        if duration_s <= self.segment_s:
            return 1
        if self.continuation == "as-printed":
            beyond, step = duration_s * self.frame_rate - self.segment_frames, float(self.chunk_frames)
        else:
            beyond, step = duration_s - self.segment_s, self.segment_s / self.chunks
        return 1 + max(0, whole(beyond / step))

    def passes(
        self,
        runs: int,
        num_steps: int,
        evaluations_per_step: int,
        *,
        duration_s: float | None = None,
        known_tokens: int = 0,
    ) -> dict[str, int]:
        """Forward passes by part of the first ``runs`` windows: a token a pass, an evaluation a pass (Table 3)."""
        if duration_s is not None and duration_s <= self.segment_s:
            tokens = whole(duration_s * self.token_rate)
        elif self.continuation == "as-printed":
            tokens = self.segment_tokens + (runs - 1) * self.chunk_tokens
        else:
            tokens = whole((self.segment_s + (runs - 1) * self.segment_s / self.chunks) * self.token_rate)
        return {"language_model": tokens - known_tokens, "denoiser": runs * num_steps * evaluations_per_step}


def whole(count: float) -> int:
    """The next whole number, where rounding of a duration must not add one: 0.28 s hold 7.000000000000001 at 25 Hz."""
    return math.ceil(count - 1e-9)
