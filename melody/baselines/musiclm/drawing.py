"""One call of the system: its random streams, its clock and counters, and the tokens of its three stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from melody.baselines.musiclm.preset import AcousticStage, MusicLmPreset
from melody.baselines.musiclm.windows import Window, independent, striding
from melody.conditioning.semantic import TOKEN_RATE
from melody.lm.multi_stream import MultiStream
from melody.pipeline.meter import PassCounter
from melody.pipeline.settings import Settings
from melody.pipeline.taken import token_options


class TokenGenerator:
    """The stages as one call uses them: seeded, timed and counted.

    Rows are clips. What a row draws comes from its seed, the stage and the window alone.

    Args:
        parts: the system's, by name.
    """

    def __init__(
        self,
        preset: MusicLmPreset,
        parts: Mapping[str, Any],
        device: torch.device,
        settings: Settings,
        fine_windows: str,
    ) -> None:
        self.preset, self.parts, self.device = preset, parts, device
        self.settings, self.fine_windows = settings, fine_windows
        self.rows = len(settings.seeds)
        self.ratio = preset.frames_per_token
        self.meter = PassCounter(device, self.rows)

    def semantic(self, prefix: Tensor, known: Tensor, total: int) -> Tensor:
        """MuLan tokens ``(B, P)``, semantic tokens so far ``(B, K)`` -> ``(B, total)``."""
        stage, model = self.preset.semantic, self.parts["language_model"]
        options = token_options(
            model,
            f"{self.preset.title} [semantic]",
            temperature=stage.temperature,
            top_k=stage.top_k,
            top_p=stage.top_p,
            guidance_scale=stage.guidance_scale,
        )
        # The stream is MeLoDy's own, so that with its language model the tokens are those that it draws.
        streams = self.settings.generators("tokens", self.device)
        tokens = known
        with self.meter.metered("semantic", model):
            for window in striding(known.shape[1], total, stage.window_s * TOKEN_RATE, stage.stride_s * TOKEN_RATE):
                context = tokens[:, window.begin : window.known]
                self.meter.trace.prefill_tokens += prefix.shape[1] + context.shape[1]
                new = model.generate(
                    prefix,
                    window.new,
                    semantic_tokens=context if context.shape[1] else None,
                    **options,
                    generator=streams,
                )
                tokens = torch.cat([tokens, new], dim=1)
        return tokens

    def coarse(self, prefix: Tensor, semantic: Tensor, known: Tensor, total: int) -> Tensor:
        """MuLan tokens, semantic tokens ``(B, N)``, frames so far ``(B, K, levels)`` -> ``(B, total, levels)``."""
        stage, frames = self.preset.coarse, known
        with self.meter.metered("coarse", self.parts["coarse"]):
            for index, window in enumerate(self._striding(stage, known.shape[1], total)):
                heard = semantic[:, window.begin // self.ratio : -(-window.end // self.ratio)]
                given = [prefix[:, None], heard[..., None]]
                frames = self._extend("coarse", stage, given, frames, window, index)
        return frames

    def fine(self, coarse: Tensor, known: Tensor) -> Tensor:
        """Coarse frames ``(B, total, levels)``, fine frames so far -> fine frames ``(B, total, further levels)``."""
        stage, total = self.preset.fine, coarse.shape[1]
        frames = known
        if self.fine_windows == "batched":
            with self.meter.timed("fine"):
                return self._fine_at_once(stage, coarse, known)
        with self.meter.metered("fine", self.parts["fine"]):
            for index, window in enumerate(self._striding(stage, known.shape[1], total)):
                given = [coarse[:, window.begin : window.end]]
                frames = self._extend("fine", stage, given, frames, window, index)
        return frames

    def _fine_at_once(self, stage: AcousticStage, coarse: Tensor, known: Tensor) -> Tensor:
        """All windows of a clip as rows of one batch: as many passes as one window takes."""
        total, index = coarse.shape[1], 0
        frames = torch.cat([known, known.new_zeros(self.rows, total - known.shape[1], known.shape[2])], dim=1)
        for windows in independent(known.shape[1], total, stage.window_s * self._frame_rate):
            given = torch.stack([coarse[:, w.begin : w.end] for w in windows], dim=1).flatten(0, 1)  # (B * W, n, l)
            streams = [
                stream
                for row in range(self.rows)
                for stream in (self._streams("fine", index + w)[row] for w in range(len(windows)))
            ]
            self.meter.trace.prefill_tokens += len(windows) * given[0].numel()
            with self.meter.counted("fine", self.parts["fine"], len(windows)):
                drawn = self._draw(self.parts["fine"], stage, [given], windows[0].new, None, streams)
            for window, new in zip(windows, drawn.unflatten(0, (self.rows, -1)).unbind(1), strict=True):
                frames[:, window.begin : window.end] = new
            index += len(windows)
        return frames

    def _extend(
        self, part: str, stage: AcousticStage, given: list[Tensor], frames: Tensor, window: Window, index: int
    ) -> Tensor:
        """Frames with those that a window makes ``(B, window.end, levels)``."""
        context = frames[:, window.begin : window.known]
        self.meter.trace.prefill_tokens += sum(stream[0].numel() for stream in [*given, context])
        model = self.parts[part]
        new = self._draw(model, stage, given, window.new, context, self._streams(part, index))
        return torch.cat([frames, new], dim=1)

    def _draw(
        self,
        model: MultiStream,
        stage: AcousticStage,
        given: list[Tensor],
        count: int,
        known: Tensor | None,
        streams: list[torch.Generator],
    ) -> Tensor:
        return model.generate(
            given,
            count,
            known=known,
            temperature=stage.temperature,
            top_k=stage.top_k,
            top_p=stage.top_p,
            generators=streams,
        )

    def _striding(self, stage: AcousticStage, known: int, total: int) -> list[Window]:
        return striding(known, total, stage.window_s * self._frame_rate, stage.stride_s * self._frame_rate)

    @property
    def _frame_rate(self) -> int:
        return int(TOKEN_RATE * self.ratio)

    def _streams(self, part: str, window: int) -> list[torch.Generator]:
        """One a row."""
        return self.settings.generators(f"musiclm {part} {window}", self.device)
