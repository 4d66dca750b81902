"""What one clip of the MusicLM-style system is made of: calls of each network at stated shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from melody.baselines.musiclm.preset import MusicLmPreset, Windows
from melody.baselines.musiclm.windows import independent, striding
from melody.conditioning.semantic import TOKEN_RATE
from melody.lm.decoder_only import DecoderOnly
from melody.lm.multi_stream import MultiStream
from melody.pipeline.plan import whole
from melody.pipeline.work import prompt_work, spread
from melody.protocols import CallCost


def work_of(preset: MusicLmPreset, parts: Mapping[str, Any], duration_s: float, fine_windows: str) -> list[CallCost]:
    """The calls of one clip, in the order in which they are made."""
    tokens, frames = whole(duration_s * TOKEN_RATE), whole(duration_s * TOKEN_RATE * preset.frames_per_token)
    return [
        *prompt_work(parts["joint_embedder"], parts["rvq"]),
        *_semantic(preset, parts["language_model"], tokens),
        *_coarse(preset, parts["coarse"], parts["rvq"].num_levels, frames),
        *_fine(preset, parts["fine"], frames, fine_windows),
        _decoding(parts["codec"], frames),
    ]


def _decoding(codec: Any, frames: int) -> CallCost:
    held: list[Tensor] = []

    def setup() -> None:
        held[:] = [torch.zeros(1, frames, codec.num_levels, dtype=torch.int64, device=_device(codec))]

    return CallCost("codec", "decode", f"{frames} frames", 1, codec, lambda: codec.decode(*held), setup, once=True)


def _semantic(preset: MusicLmPreset, model: Any, total: int) -> Iterator[CallCost]:
    stage = preset.semantic
    if not isinstance(model, DecoderOnly):  # its role does not say what a pass is
        return
    rows = 1 if stage.guidance_scale == 1 else 2
    calls = _TokenCalls("semantic", model, rows)
    windows = striding(0, total, stage.window_s * TOKEN_RATE, stage.stride_s * TOKEN_RATE)
    yield from calls.of(Counter((model.num_prefix_tokens + w.known - w.begin, w.new) for w in windows))


def _coarse(preset: MusicLmPreset, model: MultiStream, prefix: int, frames: int) -> Iterator[CallCost]:
    ratio, levels = preset.frames_per_token, preset.coarse.num_levels
    calls = _TokenCalls("coarse", model, 1)
    windows = striding(0, frames, *_places(preset.coarse, ratio))
    yield from calls.of(
        Counter(
            (
                prefix + -(-w.end // ratio) - w.begin // ratio + (w.known - w.begin) * levels,
                w.new * levels,
            )
            for w in windows
        )
    )


def _fine(preset: MusicLmPreset, model: MultiStream, frames: int, fine_windows: str) -> Iterator[CallCost]:
    coarse, levels = preset.coarse.num_levels, model.num_levels
    window, stride = _places(preset.fine, preset.frames_per_token)
    if fine_windows == "sequential":
        calls = _TokenCalls("fine", model, 1)
        windows = striding(0, frames, window, stride)
        yield from calls.of(
            Counter(((w.end - w.begin) * coarse + (w.known - w.begin) * levels, w.new * levels) for w in windows)
        )
        return
    batches = Counter((len(batch), batch[0].new) for batch in independent(0, frames, window))
    for (rows, length), times in batches.items():
        calls = _TokenCalls("fine", model, rows, windows=rows)
        yield from calls.of(Counter({(length * coarse, length * levels): times}))


def _places(stage: Windows, ratio: int) -> tuple[float, float]:
    """Window and stride in frames."""
    return stage.window_s * TOKEN_RATE * ratio, stage.stride_s * TOKEN_RATE * ratio


def _device(network: Any) -> torch.device:
    """Where a network is now: it may be moved between calls."""
    device: torch.device = next(network.parameters()).device
    return device


class _TokenCalls:
    """Calls of one network for one token each, after a first that takes in all that is given.

    Their caches share memory: a call finds as much in the cache as it says, whatever it holds.
    """

    def __init__(self, part: str, model: Any, rows: int, windows: int = 1) -> None:
        self.part, self.model, self.rows, self.windows = part, model, rows, windows
        self._cache: Any = None
        self._capacity = 0

    def of(self, windows: Counter[tuple[int, int]]) -> Iterator[CallCost]:
        """Work of windows, by (tokens that are given and known, new tokens): how many there are."""
        self._capacity = max(given + new for given, new in windows)
        for (given, new), times in windows.items():
            yield self._work("first token", given, 0, times, prefill=given * times * self._clips)
            for cached, calls in spread(given, new - 1):
                yield self._work("one token", 1, cached, calls * times)

    @property
    def _clips(self) -> int:
        """Rows that read what is given anew; the two halves of guidance count once, as in ``GenerationStats``."""
        return self.rows if isinstance(self.model, MultiStream) else 1

    def _work(self, name: str, tokens: int, cached: int, calls: int, prefill: int = 0) -> CallCost:
        held: list[Any] = []

        def setup() -> None:
            device = _device(self.model)
            rows = torch.zeros(self.rows, tokens, dtype=torch.int64, device=device)
            where = (torch.arange(cached, cached + tokens, device=device), 0)
            self._fill(cached)
            held[:] = [rows, *(where if isinstance(self.model, MultiStream) else ()), self._cache]

        return CallCost(
            part=self.part,
            name=name,
            shape=f"{tokens} tokens after {cached} in the cache, {self.rows} rows",
            calls=calls,
            module=self.model,
            run=lambda: self.model(*held),
            setup=setup,
            rows=self.rows,
            windows=self.windows,
            prefill_tokens=prefill,
        )

    def _fill(self, cached: int) -> None:
        """A cache with so many tokens in it."""
        if isinstance(self.model, MultiStream):
            if self._cache is None or self._cache.keys.device != _device(self.model):
                self._cache = self.model.empty_cache(self.rows, self._capacity)
                self._cache.keys.zero_()
                self._cache.values.zero_()
            self._cache.length = cached
            return
        self._cache = self.model.empty_cache(self.rows, self._capacity)
        if cached:
            self.model(torch.zeros(self.rows, cached, dtype=torch.int64, device=_device(self.model)), self._cache)
