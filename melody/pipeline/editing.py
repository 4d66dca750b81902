"""Given audio: what the networks know of it, and how new audio is set into it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from melody.data.audio import resampled
from melody.errors import MelodyError
from melody.pipeline.plan import WindowPlan
from melody.pipeline.run import GenerationCall

MARGIN_S = 1.0
"""Ours: audio on both sides of what is encoded, so that its latents are those of the whole file, wherever it is cut."""
FADE_S = 0.02
"""Ours: length of the cross-fade from given samples to decoded ones, outside of what is new: no click, no smear."""


@dataclass(frozen=True)
class Known:
    """The end of a file as the networks know it: tokens ``(1, N)``, latents ``(1, L, D)``, and its seconds."""

    tokens: Tensor
    latents: Tensor
    duration_s: float

    def repeated(self, rows: int) -> tuple[Tensor, Tensor]:
        """Tokens and latents for so many rows."""
        return self.tokens.expand(rows, -1), self.latents.expand(rows, -1, -1)


def known_end(run: GenerationCall, given: Tensor, plan: WindowPlan) -> Known:
    """The last T_ST − M_ST tokens and L − L_M latents of ``given`` ``(T,)``, fewer if it is shorter (Algorithm 2).

    Both are aligned to the file's end, where the new audio begins; at its beginning, less than a frame is left out.
    """
    codec = run.networks.codec
    frames = min(len(given) // codec.hop_length, plan.segment_frames - plan.chunk_frames)
    samples = frames * codec.hop_length
    begin = len(given) - samples
    latents = encode_span(run, given, begin, len(given))
    count = math.floor(frames / plan.frame_rate * plan.token_rate + 1e-9)
    tokens = tokens_of(run, given[begin:])[:, :count]  # a tokenizer of another rate may hear one more
    return Known(tokens, latents, samples / codec.sample_rate)


def encode_span(run: GenerationCall, given: Tensor, begin: int, end: int) -> Tensor:
    """Latents ``(1, L, D)`` of samples ``begin`` to ``end`` of ``given`` ``(T,)``, heard in their surroundings."""
    codec, device = run.networks.codec, run.networks.device
    hop = codec.hop_length
    margin = math.ceil(MARGIN_S * codec.frame_rate)
    before = min(margin, begin // hop)
    if begin == end:
        return torch.zeros(1, 0, codec.latent_dim, device=device)
    piece = given[begin - before * hop : end + margin * hop].to(device)
    with run.meter.timed("codec"):
        return codec.encode(piece[None, None])[:, before : before + -(-(end - begin) // hop)]


def tokens_of(run: GenerationCall, given: Tensor) -> Tensor:
    """Semantic tokens ``(1, N)`` of ``given`` ``(T,)`` at the codec's rate, T maybe 0."""
    networks, tokenizer = run.networks, run.networks.semantic_tokenizer
    if not len(given):
        return torch.zeros(1, 0, dtype=torch.int64, device=networks.device)
    heard = resampled(given, networks.sample_rate, tokenizer.sample_rate).to(networks.device)
    with run.meter.timed("semantic_tokenizer"):
        return tokenizer.tokenize(heard[None, None])


def append(given: Tensor, decoded: Tensor, known_samples: int, sample_rate: int) -> Tensor:
    """Given samples ``(T,)`` and what follows: ``(B, 1, T + new)``, given to the bit but for the cross-fade at its end.

    ``decoded`` ``(B, 1, known_samples + new)`` begins so many samples before the end of ``given``.
    """
    end = len(given)
    # A decoder need not keep the phase, so it takes over gradually, while the given audio still sounds.
    fade = min(round(FADE_S * sample_rate), known_samples)
    kept = given.to(decoded).expand(len(decoded), 1, -1)
    rise = _rise(fade, decoded)
    joint = torch.lerp(kept[..., end - fade :], decoded[..., known_samples - fade : known_samples], rise)
    return torch.cat([kept[..., : end - fade], joint, decoded[..., known_samples:]], dim=-1)


@dataclass(frozen=True)
class Gap:
    """What is to be made anew, and the window around it that the networks see: samples and frames of the file."""

    begin: int
    end: int
    begin_frame: int
    end_frame: int
    window_begin_frame: int
    window_end_frame: int

    @classmethod
    def of(cls, span_s: Sequence[float], samples: int, sample_rate: int, hop_length: int, plan: WindowPlan) -> Gap:
        """Raises ``MelodyError``: not two numbers in order in the file, nothing left, more than a segment allows."""
        begin_s, end_s = check_span(span_s)
        duration_s = samples / sample_rate
        if end_s > duration_s + 0.5 / sample_rate:
            raise MelodyError(f"cannot inpaint {_span(begin_s, end_s)}: the audio ends at {duration_s:g} s")
        longest_s = plan.segment_s * (1 - 1 / max(2, plan.chunks))
        if end_s - begin_s > longest_s:
            raise MelodyError(
                f"cannot inpaint {_span(begin_s, end_s)}: it is {end_s - begin_s:g} s long, expected at most "
                f"{longest_s:g} s, so that a part of a segment remains to go by"
            )
        begin, end = round(begin_s * sample_rate), min(round(end_s * sample_rate), samples)
        if begin == end:
            raise MelodyError(f"cannot inpaint {_span(begin_s, end_s)}: no sample lies in it")
        if end - begin == samples:
            raise MelodyError(
                f"cannot inpaint {_span(begin_s, end_s)}: that is all of the audio, and nothing remains to go by"
            )
        first, last, frames = begin // hop_length, -(-end // hop_length), -(-samples // hop_length)
        length = min(plan.segment_frames, frames)
        window = min(max(0, (first + last - length) // 2), frames - length)
        return cls(begin, end, first, last, window, window + length)


def check_span(span_s: Sequence[float]) -> tuple[float, float]:
    """Two numbers of seconds, the first 0 or more and the second larger; raises ``MelodyError``."""
    if len(span_s) != 2 or not all(isinstance(bound, int | float) and math.isfinite(bound) for bound in span_s):
        raise MelodyError(f"cannot inpaint {span_s!r}: expected where it begins and ends, in seconds")
    begin_s, end_s = span_s
    if begin_s < 0:
        raise MelodyError(f"cannot inpaint {_span(begin_s, end_s)}: it begins before the audio does")
    if begin_s >= end_s:
        what = "it is empty" if begin_s == end_s else "it ends before it begins"
        raise MelodyError(f"cannot inpaint {_span(begin_s, end_s)}: {what}; expected BEGIN:END in seconds")
    return float(begin_s), float(end_s)


def parse_span(text: str) -> tuple[float, float]:
    """``3.0:6.5`` as two numbers of seconds; raises ``MelodyError`` for anything else."""
    try:
        begin, end = (float(bound) for bound in text.split(":"))
    except ValueError:
        raise MelodyError(f"cannot inpaint {text!r}: expected BEGIN:END in seconds, as in 3.0:6.5") from None
    return check_span((begin, end))


def inpainted_latents(run: GenerationCall, prefix: Tensor, given: Tensor, gap: Gap, plan: WindowPlan) -> Tensor:
    """Latents ``(B, L, D)`` of the gap's window: noise in the gap, angle 0 elsewhere, as in appendix A of the paper.

    Outside the gap they are those of the file, to the bit. The tokens are estimated from what remains (the paper says
    no more; this is ours): those before and behind the gap are heard apart, so that nothing in the gap bears on them,
    and the language model draws the gap's own from those before it.
    """
    hop, origin = run.networks.codec.hop_length, gap.window_begin_frame
    end = min(gap.window_end_frame * hop, len(given))
    latents = encode_span(run, given, origin * hop, end).expand(run.rows, -1, -1)
    tokens = _gap_tokens(run, prefix, given, gap, plan)
    frames = torch.arange(latents.shape[1], device=latents.device) + origin
    known = (frames < gap.begin_frame) | (frames >= gap.end_frame)
    noise = torch.zeros_like(latents)
    noise[:, ~known] = run.noise(gap.end_frame - gap.begin_frame)
    filled = run.denoise(tokens, torch.where(known[:, None], latents, noise), known)
    settings = run.settings
    denoiser = settings.num_steps * settings.sampler.evaluations_per_step
    run.meter.check_passes({"language_model": run.totals["language_model"], "denoiser": denoiser})
    return filled


def _gap_tokens(run: GenerationCall, prefix: Tensor, given: Tensor, gap: Gap, plan: WindowPlan) -> Tensor:
    first, last = gap_tokens(gap, plan)
    rate, hop = run.networks.sample_rate, run.networks.codec.hop_length
    origin = gap.window_begin_frame * hop
    before = tokens_of(run, given[origin : gap.begin_frame * hop])[:, :first].expand(run.rows, -1)
    count = last - before.shape[1]
    run.totals = {"language_model": count, "denoiser": run.settings.num_steps}
    drawn = run.draw_tokens(prefix, before, count)
    begin = origin + round(last / plan.token_rate * rate)
    behind = tokens_of(run, given[begin : gap.window_end_frame * hop]).expand(run.rows, -1)
    return torch.cat([before, drawn, behind], dim=1)


def gap_tokens(gap: Gap, plan: WindowPlan) -> tuple[int, int]:
    """First token of the window that touches the gap, and the first behind it."""
    ratio = plan.token_rate / plan.frame_rate
    first = math.floor((gap.begin_frame - gap.window_begin_frame) * ratio + 1e-9)
    last = math.ceil((gap.end_frame - gap.window_begin_frame) * ratio - 1e-9)
    return first, last


def fill_gap(given: Tensor, decoded: Tensor, gap: Gap, hop_length: int, sample_rate: int) -> Tensor:
    """Given samples ``(T,)`` with the gap filled, ``(B, 1, T)``: to the bit but for the gap and cross-fades before and
    behind it. ``decoded`` ``(B, 1, T')`` is the window around it.
    """
    filled = given.to(decoded).repeat(len(decoded), 1, 1)
    origin = gap.window_begin_frame * hop_length
    window_end = min(gap.window_end_frame * hop_length, len(given))
    begin_fade = min(round(FADE_S * sample_rate), gap.begin - origin)
    end_fade = min(round(FADE_S * sample_rate), window_end - gap.end)
    begin, end = gap.begin - begin_fade, gap.end + end_fade
    weight = torch.cat(
        [
            _rise(begin_fade, decoded),
            torch.ones(gap.end - gap.begin, device=decoded.device, dtype=decoded.dtype),
            _rise(end_fade, decoded).flip(0),
        ]
    )
    filled[..., begin:end] = torch.lerp(filled[..., begin:end], decoded[..., begin - origin : end - origin], weight)
    return filled


def _rise(length: int, like: Tensor) -> Tensor:
    """Half a period of a raised cosine from 0 to 1 ``(length,)``."""
    phase = (torch.arange(length, device=like.device, dtype=like.dtype) + 0.5) / max(1, length)
    return 0.5 - 0.5 * torch.cos(math.pi * phase)


def _span(begin_s: float, end_s: float) -> str:
    return f"{begin_s:g}:{end_s:g}"
