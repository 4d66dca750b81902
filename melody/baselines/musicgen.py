"""MusicGen (Copet et al. 2023, arXiv 2306.05284) through transformers' classes, drawn with one random stream a row.

One Transformer draws the codebooks of EnCodec at 32 kHz, each a step after the one before (the delay pattern): F frames
take F + 3 passes. The loop is ours, for transformers' has one random stream for all rows; networks, delay pattern and
guidance are transformers'. Sampling is the published: top 250, temperature 1, guidance 3 (generation_config.json).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from melody.baselines.public_models import (
    TEXT_TOKENS,
    Published,
    check_call,
    content_hash,
    counted,
    load_part,
    load_text,
    model_folder,
    mono,
    random_weights,
    settle,
    t5_letters,
    versions,
)
from melody.devices import device_of
from melody.errors import MelodyError, did_you_mean
from melody.pipeline.work import spread
from melody.protocols import CallCost, Generation, System
from melody.registry import systems

MODEL = Published("musicgen", "MusicGen", "facebook/musicgen-small (-medium, -large)", "CC-BY-NC 4.0")
SIZES = {"small": (1024, 24, 16), "medium": (1536, 48, 24), "large": (2048, 48, 32)}
"""Width, layers and heads: transformers' conversion script of the published checkpoints; heads of medium and large
(64 wide) recalled. Printed sizes: 300M, 1.5B, 3.3B."""
T5_BASE = {"d_model": 768, "d_ff": 3072, "d_kv": 64, "num_layers": 12, "num_heads": 12, "vocab_size": 32128}
ENCODEC_32KHZ: dict[str, Any] = {
    "sampling_rate": 32_000,
    "upsampling_ratios": [8, 5, 4, 4],
    "num_filters": 64,
    "codebook_size": 2048,
    "target_bandwidths": [2.2],
    "use_causal_conv": False,
    "use_conv_shortcut": False,
}
"""facebook/encodec_32khz: 50 Hz, 4 codebooks of 2,048 (MusicGen, arXiv 2306.05284, section 3); the rest recalled."""
TOP_K = 250


def _keep_sizes(codec: nn.Module) -> None:
    """EnCodec reads the sizes of its convolutions out of buffers, which hold no values on the meta device."""
    for module in codec.modules():
        if "padding_total" in dict(module.named_buffers(recurse=False)):
            conv: Any = module.conv
            stride, kernel_size = conv.stride[0], (conv.kernel_size[0] - 1) * conv.dilation[0] + 1
            sizes = {"stride": stride, "kernel_size": kernel_size, "padding_total": kernel_size - stride}
            for name, size in sizes.items():
                setattr(module, name, torch.tensor(size))


@systems.register("musicgen")
class MusicGenSystem(System):
    """MusicGen by transformers; stereo checkpoints are mixed to mono.

    Args:
        weights: a folder as ``save_pretrained`` writes it, or a hub id such as ``facebook/musicgen-small``.
    Raises:
        MelodyError: weights that are missing, pickled, or do not fit.
    """

    name = "musicgen"
    weights_from = MODEL.source
    capabilities: ClassVar[frozenset[str]] = frozenset()
    options: ClassVar[frozenset[str]] = frozenset({"guidance_scale"})
    longest_s = 30.0

    _facts: dict[str, Any]

    def __init__(self, weights: str | Path, device: str = "cpu") -> None:
        folder = model_folder(weights, MODEL)
        transformers = import_module("transformers")
        torch_device = device_of(device)
        model = load_part(transformers.MusicgenForConditionalGeneration, folder, MODEL)
        self._use(model.to(torch_device), load_text(transformers.T5Tokenizer, folder, MODEL))
        self._facts = {"weights": content_hash(folder)}

    @classmethod
    def random(cls, size: str = "small", *, seed: int = 0, device: str = "cpu") -> MusicGenSystem:
        """A published size with random weights and a tokenizer of letters; ``device="meta"`` has shapes only."""
        if size not in SIZES:
            raise MelodyError(f"unknown size {size!r} of MusicGen{did_you_mean(size, SIZES)}")
        transformers = import_module("transformers")
        width, layers, heads = SIZES[size]
        config = transformers.MusicgenConfig(
            text_encoder=transformers.T5Config(**T5_BASE).to_dict(),
            audio_encoder=transformers.EncodecConfig(**ENCODEC_32KHZ).to_dict(),
            decoder=transformers.MusicgenDecoderConfig(
                hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, ffn_dim=4 * width
            ).to_dict(),
        )
        with random_weights(seed, device):
            model = transformers.MusicgenForConditionalGeneration(config)
        _keep_sizes(model.audio_encoder)
        system = cls.__new__(cls)
        system._use(model.eval().requires_grad_(False), t5_letters(512))
        system._facts = {"random": size, "seed": seed}
        return system

    def _use(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer, self.lock = model, tokenizer, Lock()
        self.decoder_config = model.decoder.config
        codec = model.audio_encoder.config
        self.sample_rate = codec.sampling_rate
        self.hop_length = math.prod(codec.upsampling_ratios)
        self.channels = self.decoder_config.audio_channels
        self.delayed = self.decoder_config.num_codebooks // self.channels - 1

    def identity(self) -> dict[str, Any]:
        """Hash of the files or the random size, and the libraries' versions."""
        return {**self._facts, "top_k": TOP_K, **versions("transformers")}

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[str],
        *,
        duration_s: float,
        seeds: Sequence[int],
        guidance_scale: float = 3.0,
        **others: Any,
    ) -> Generation:
        """One clip a prompt; row r is what its prompt and seed give alone, to rounding.

        Raises:
            MelodyError: a duration beyond 30 s, which the model was trained for; counts that differ from the formula.
        """
        self.check_options(others)
        check_call(self.name, prompts, duration_s, seeds, self.longest_s)
        frames = self._frames(duration_s)
        with self.lock:  # which pads by a setting of its own
            text = self.tokenizer(list(prompts), padding=True, return_tensors="pt").to(self.model.device)
        parts = {
            "text_encoder": self.model.text_encoder,
            "language_model": self.model.decoder,
            "codec": self.model.audio_encoder.decoder,
        }
        guided = guidance_scale > 1
        with counted(parts, len(prompts)) as trace:
            states, mask = self._encode(text.input_ids, text.attention_mask, guided)
            codes = self._draw(states, mask, frames, seeds, guidance_scale if guided else None)
            waveform = self._decode(codes)
        trace.weighted_passes["language_model"] = trace.passes["language_model"] * (1 + guided)
        trace.prefill_tokens = text.input_ids.shape[1]
        settle(trace, {"language_model": frames + self.delayed}, {"text_encoder": 1, "codec": self.channels})
        return Generation(mono(waveform, round(duration_s * self.sample_rate), self.name), self.sample_rate, trace)

    def work(self, duration_s: float, *, guidance_scale: float = 3.0, **others: Any) -> list[CallCost]:
        """The text once, a pass a token at a few lengths of the cache, and the codec once."""
        self.check_options(others)
        frames, rows = self._frames(duration_s), 1 + (guidance_scale > 1)
        held: list[Any] = []
        encoder, decoder = self.model.text_encoder, self.model.audio_encoder.decoder

        def text() -> None:
            held[:] = [torch.ones(1, TEXT_TOKENS, dtype=torch.long, device=next(encoder.parameters()).device)]

        def latents() -> None:
            weight = next(decoder.parameters())
            held[:] = [weight.new_zeros(1, self.model.audio_encoder.config.hidden_size, frames)]

        return [
            CallCost(
                "text_encoder", "text", f"{TEXT_TOKENS} tokens", 1, encoder, lambda: encoder(*held), text, once=True
            ),
            *self._token_work(frames + self.delayed, rows),
            CallCost(
                "codec",
                "decode",
                f"{frames} frames",
                self.channels,
                decoder,
                lambda: decoder(*held),
                latents,
                once=True,
            ),
        ]

    def _token_work(self, count: int, rows: int) -> Iterator[CallCost]:
        """The first pass computes the keys and values of the text; the others find them in the cache."""
        for cached, calls in [(0, 1), *spread(1, count - 1)]:
            held: dict[str, Any] = {}

            def setup(cached: int = cached, held: dict[str, Any] = held) -> None:
                held.update(self._token_inputs(cached, rows))

            def run(held: dict[str, Any] = held) -> Any:
                return self.model.decoder(**held)

            name = "first token" if cached == 0 else "one token"
            shape = f"after {cached} tokens in the cache, {TEXT_TOKENS} of text, {rows} rows"
            prefill = TEXT_TOKENS if cached == 0 else 0
            yield CallCost(
                "language_model", name, shape, calls, self.model.decoder, run, setup, rows, prefill_tokens=prefill
            )

    def _token_inputs(self, cached: int, rows: int) -> dict[str, Any]:
        from transformers import DynamicCache, EncoderDecoderCache

        config, weight = self.decoder_config, next(self.model.decoder.parameters())
        heads, width = config.num_attention_heads, config.hidden_size
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        for layer in range(config.num_hidden_layers if cached else 0):
            for part, length in ((cache.self_attention_cache, cached), (cache.cross_attention_cache, TEXT_TOKENS)):
                states = weight.new_zeros(rows, heads, length, width // heads)
                part.update(states, states.clone(), layer)
            cache.is_updated[layer] = True
        return {
            "input_ids": torch.zeros(rows * config.num_codebooks, 1, dtype=torch.long, device=weight.device),
            "encoder_hidden_states": weight.new_zeros(rows, TEXT_TOKENS, width),
            "past_key_values": cache,
            "use_cache": True,
        }

    def _frames(self, duration_s: float) -> int:
        """Codec frames of a duration; fewer than there are codebooks cannot be delayed."""
        frames: int = math.ceil(duration_s * self.sample_rate / self.hop_length - 1e-9)
        return max(frames, int(self.decoder_config.num_codebooks))

    def _encode(self, ids: Tensor, mask: Tensor, guided: bool) -> tuple[Tensor, Tensor]:
        """States ``(B or 2 B, N, width)`` and mask of the texts, and of nothing behind them, for guidance."""
        states = self.model.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        if guided:
            states = torch.cat([states, torch.zeros_like(states)])
            mask = torch.cat([mask, torch.zeros_like(mask)])
        if hasattr(self.model, "enc_to_dec_proj"):
            states = self.model.enc_to_dec_proj(states)
        return states * mask[..., None], mask

    def _draw(
        self, states: Tensor, mask: Tensor, frames: int, seeds: Sequence[int], guidance_scale: float | None
    ) -> Tensor:
        """Codes ``(B, codebooks, frames)``."""
        decoder, rows = self.model.decoder, len(seeds)
        codebooks, steps, pad = decoder.num_codebooks, frames + self.delayed, self.decoder_config.pad_token_id
        streams = [torch.Generator().manual_seed(seed) for seed in seeds]
        begin = torch.full((rows * codebooks, 1), pad, dtype=torch.long, device=states.device)
        tokens, pattern = decoder.build_delay_pattern_mask(begin, pad_token_id=pad, max_length=steps + 1)
        cache = None
        for _ in range(steps):
            last = decoder.apply_delay_pattern_mask(tokens, pattern)[:, -1:]
            made = decoder(
                input_ids=last if guidance_scale is None else last.repeat(2, 1),
                encoder_hidden_states=states,
                encoder_attention_mask=mask,
                past_key_values=cache,
                use_cache=True,
            )
            cache, logits = made.past_key_values, made.logits[:, -1]
            if guidance_scale is not None:
                with_text, without = logits.chunk(2)
                logits = without + guidance_scale * (with_text - without)
            tokens = torch.cat([tokens, _sample(logits.view(rows, codebooks, -1), streams)], dim=1)
        tokens = decoder.apply_delay_pattern_mask(tokens, pattern)
        codes: Tensor = tokens[tokens != pad].view(rows, codebooks, frames)
        return codes

    def _decode(self, codes: Tensor) -> Tensor:
        """``(B, C, T)``; a stereo checkpoint's codebooks take turns, left and right."""
        sides = [codes[None, :, side :: self.channels] for side in range(self.channels)]
        decode, scales = self.model.audio_encoder.decode, [None] * len(codes)
        return torch.cat([decode(side, audio_scales=scales).audio_values for side in sides], dim=1)


def _sample(logits: Tensor, streams: Sequence[torch.Generator]) -> Tensor:
    """A token of each codebook ``(B · codebooks, 1)`` from logits ``(B, codebooks, V)``, each row by its own stream."""
    k = min(TOP_K, logits.shape[-1])
    best, which = logits.float().topk(k, dim=-1)
    chances = best.softmax(dim=-1).cpu()
    drawn = torch.cat(
        [torch.multinomial(row, 1, generator=stream) for row, stream in zip(chances, streams, strict=True)]
    )
    return which.reshape(-1, k).gather(1, drawn.to(which.device))
