"""MusicLM-style text to music (arXiv 2301.11325): semantic, coarse and fine tokens, then the codec.

Passes by stage and second of audio, one pass a token: 25 + 200 + 400 (Table 3), where the fine stage's windows come
one after the other (``fine_windows="sequential"``). By default they are rows of one batch, which makes 10 s in 250 +
2,000 + 1,000 = 3,250 passes: four windows of 2.5 s, the fewest of at most 3 s and of one length. Another way to count
10 s is 7,050, with a last window of 3 s that is not clipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from melody.baselines.base import PresetSystem
from melody.baselines.musiclm.drawing import TokenGenerator
from melody.baselines.musiclm.preset import MusicLmPreset
from melody.baselines.musiclm.windows import independent
from melody.baselines.musiclm.work import work_of
from melody.conditioning.rvq import ResidualVectorQuantizer
from melody.conditioning.semantic import TOKEN_RATE
from melody.data.audio import AudioInput, as_mono, resampled
from melody.errors import MelodyError, did_you_mean
from melody.lm.multi_stream import MultiStream
from melody.pipeline.editing import MARGIN_S, append
from melody.pipeline.plan import whole
from melody.pipeline.prompts import Prompt, read_prompt
from melody.pipeline.settings import Settings, check_duration
from melody.protocols import CallCost, Generation, JointEmbedder, SemanticTokenizer, TokenCodec
from melody.registry import systems

FineWindows = Literal["batched", "sequential"]


@systems.register("musiclm")
class MusicLmSystem(PresetSystem):
    """MusicLM-style system: three decoder-only Transformers over a codec with residual quantisation."""

    name = "musiclm"
    preset_type = MusicLmPreset
    capabilities: ClassVar[frozenset[str]] = frozenset({"audio-continuation", "long-form"})
    options: ClassVar[frozenset[str]] = frozenset({"fine_windows"})

    preset: MusicLmPreset
    codec: TokenCodec
    joint_embedder: JointEmbedder
    rvq: ResidualVectorQuantizer
    semantic_tokenizer: SemanticTokenizer
    language_model: Any
    coarse: MultiStream
    fine: MultiStream

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[str], *, duration_s: float, seeds: Sequence[int], **options: Any
    ) -> Generation:
        """One clip of ``duration_s`` for each prompt.

        Args:
            options: ``fine_windows``, ``batched`` (the default: independent windows, rows of one batch) or
                ``sequential`` (one after the other, each with an overlap as prefix).
        Raises:
            MelodyError: a bad prompt, duration, seed or option.
        """
        self.check_options(options)
        duration = check_duration(duration_s)
        prompt = read_prompt(prompts, None, self.joint_embedder)
        drawing = self._drawing(prompt, seeds, options)
        tokens = torch.zeros(len(prompt), 0, dtype=torch.int64, device=self.device)
        acoustic = tokens.new_zeros(len(prompt), 0, self.codec.num_levels)
        waveform = self._composed(drawing, self._prefix(drawing, prompt), tokens, acoustic, duration)
        waveform = waveform[..., : max(1, round(duration * self.sample_rate))]
        return Generation(waveform, self.sample_rate, drawing.meter.trace)

    @torch.inference_mode()
    def continue_from(
        self,
        audio: AudioInput,
        prompts: Sequence[str] | None = None,
        *,
        duration_s: float,
        seeds: Sequence[int],
        **options: Any,
    ) -> Generation:
        """Go on where given audio ends: its semantic and acoustic tokens are every stage's prefix.

        Args:
            audio: a file, or ``(samples, rate)``; mixed to mono, brought to the system's rate.
            prompts: texts; without them, the audio is its own prompt.
            duration_s: seconds of new audio.
            options: as of ``generate``.
        Returns:
            The given audio and what follows, ``(B, 1, T)``. The given samples are kept as they are, but for their last
            20 ms, where they fade into the decoder's reconstruction of them, which runs on into the new audio.
        Raises:
            MelodyError: as ``generate``; audio that is unreadable, empty, or holds NaN.
        """
        self.check_options(options)
        duration = check_duration(duration_s)
        given = as_mono(audio, self.sample_rate, "the audio to continue")
        own = (given, self.sample_rate) if prompts is None else None
        prompt = read_prompt(prompts, own, self.joint_embedder)
        drawing = self._drawing(prompt, seeds, options)
        tokens, acoustic = self._known(drawing, given)
        known = acoustic.shape[1] * self.codec.hop_length
        decoded = self._composed(drawing, self._prefix(drawing, prompt), tokens, acoustic, duration)
        decoded = decoded[..., : known + max(1, round(duration * self.sample_rate))]
        return Generation(append(given, decoded, known, self.sample_rate), self.sample_rate, drawing.meter.trace)

    def work(self, duration_s: float, **options: Any) -> list[CallCost]:
        """Tokens of the three stages at several lengths of the cache, and the codec's decoding.

        Raises:
            MelodyError: a bad duration or option.
        """
        self.check_options(options)
        return work_of(self.preset, self.parts, check_duration(duration_s), _fine_windows(**options))

    def passes(self, tokens: int, frames: int, known_frames: int, fine_windows: str) -> dict[str, int]:
        """Forward passes by formula: (25 + 200 + 400)·T with sequential fine windows (Table 3), and fewer with batched.

        Args:
            tokens: new semantic tokens.
            frames: of the codec, in all; known_frames: those that are there already.
        """
        levels, new = self.preset.coarse.num_levels, frames - known_frames
        fine = new
        if fine_windows == "batched":
            window = self.preset.fine.window_s * TOKEN_RATE * self.preset.frames_per_token
            fine = sum(batch[0].new for batch in independent(known_frames, frames, window))
        return {"semantic": tokens, "coarse": new * levels, "fine": fine * (self.codec.num_levels - levels)}

    def _use(self, parts: dict[str, Any]) -> None:
        for part, module in parts.items():
            setattr(self, part, module)
        self.codec.remove_weight_norm()
        self.sample_rate = self.codec.sample_rate

    def _drawing(self, prompt: Prompt, seeds: Sequence[int], options: dict[str, Any]) -> TokenGenerator:
        settings = Settings.of(self.melody.generation, len(prompt), seeds=list(seeds))
        return TokenGenerator(self.preset, self.parts, self.device, settings, _fine_windows(**options))

    def _prefix(self, drawing: TokenGenerator, prompt: Prompt) -> Tensor:
        with drawing.meter.timed("joint_embedder"):
            return self.rvq.encode(prompt.embed(self.joint_embedder, self.device))

    def _composed(
        self, drawing: TokenGenerator, prefix: Tensor, tokens: Tensor, acoustic: Tensor, duration: float
    ) -> Tensor:
        """Semantic tokens and acoustic frames so far, and seconds of new audio -> the waveform of all of it."""
        levels, ratio = self.preset.coarse.num_levels, self.preset.frames_per_token
        known = acoustic.shape[1]
        seconds = tokens.shape[1] / TOKEN_RATE + duration
        total, frames = whole(seconds * TOKEN_RATE), whole(seconds * TOKEN_RATE * ratio)
        semantic = drawing.semantic(prefix, tokens, total)
        coarse = drawing.coarse(prefix, semantic, acoustic[..., :levels], frames)
        fine = drawing.fine(coarse, acoustic[..., levels:])
        drawing.meter.check_passes(self.passes(total - tokens.shape[1], frames, known, drawing.fine_windows))
        with drawing.meter.timed("codec"):
            return self.codec.decode(torch.cat([coarse, fine], dim=2)).clamp(-1, 1)

    def _known(self, drawing: TokenGenerator, given: Tensor) -> tuple[Tensor, Tensor]:
        """Semantic tokens ``(B, K)`` and frames ``(B, K * ratio, levels)`` of the end of ``given`` ``(T,)``.

        As long as the longest overlap of the stages, and aligned to the end, where the new audio begins.
        """
        stages = (self.preset.semantic, self.preset.coarse, self.preset.fine)
        overlap = max(stage.window_s - stage.stride_s for stage in stages)
        hop, ratio = self.codec.hop_length, self.preset.frames_per_token
        count = min(len(given) // (hop * ratio), int(overlap * TOKEN_RATE + 1e-9))
        if not count:
            empty = torch.zeros(drawing.rows, 0, dtype=torch.int64, device=self.device)
            return empty, empty.new_zeros(drawing.rows, 0, self.codec.num_levels)
        samples = count * ratio * hop
        before = min(round(MARGIN_S * self.codec.frame_rate), (len(given) - samples) // hop)
        piece = given[len(given) - samples - before * hop :].to(self.device)
        with drawing.meter.timed("codec"):
            acoustic = self.codec.encode(piece[None, None])[:, before:]
        heard = resampled(given[len(given) - samples :], self.sample_rate, self.semantic_tokenizer.sample_rate)
        with drawing.meter.timed("semantic_tokenizer"):
            tokens = self.semantic_tokenizer.tokenize(heard.to(self.device)[None, None])[:, :count]
        return tokens.expand(drawing.rows, -1), acoustic.expand(drawing.rows, -1, -1)


def _fine_windows(fine_windows: str = "batched") -> str:
    if fine_windows not in get_args(FineWindows):
        raise MelodyError(f"unknown fine_windows {fine_windows!r}{did_you_mean(fine_windows, get_args(FineWindows))}")
    return fine_windows
