"""AudioLDM 2 (Liu et al. 2023, arXiv 2308.05734) through diffusers' AudioLDM2Pipeline.

CLAP and Flan-T5 read the text, GPT-2 draws 8 states from them, a UNet denoises the latents of a mel spectrogram, and a
HiFi-GAN makes the waveform at 16 kHz. Texts are read one at a time: GPT-2's positions count padding, so that in a batch
a text's length would change its neighbours' clips.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import torch
from torch import Tensor

from melody.baselines.public_models import (
    TEXT_TOKENS,
    Published,
    check_call,
    check_steps,
    content_hash,
    counted,
    load_part,
    load_text,
    model_folder,
    mono,
    random_weights,
    roberta_bytes,
    settle,
    t5_letters,
    versions,
)
from melody.devices import device_of
from melody.errors import MelodyError, did_you_mean
from melody.extras import need
from melody.protocols import CallCost, Generation, System
from melody.registry import systems

MODEL = Published("audioldm2", "AudioLDM 2", "cvssp/audioldm2-music", "CC BY-NC-SA 4.0")
SIZES = {"music": 128}
"""Channels of the UNet, by diffusers' conversion script. Printed: UNet 350M, all 1.1B (the model card). The large
checkpoint (750M) is not here: its layout is not in that script."""
FLAN_T5_LARGE: dict[str, Any] = {
    "vocab_size": 32128,
    "d_model": 1024,
    "d_kv": 64,
    "d_ff": 2816,
    "num_layers": 24,
    "num_heads": 16,
    "feed_forward_proj": "gated-gelu",
}
"""google/flan-t5-large; recalled."""
VOCODER: dict[str, Any] = {
    "model_in_dim": 64,
    "sampling_rate": 16_000,
    "upsample_initial_channel": 1024,
    "upsample_rates": [5, 4, 2, 2, 2],
    "upsample_kernel_sizes": [16, 16, 8, 4, 4],
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
    "normalize_before": False,
}
SCHEDULER: dict[str, Any] = {
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
"""Both from diffusers' conversion script."""


@systems.register("audioldm2")
class AudioLDM2System(System):
    """AudioLDM 2 by diffusers, with its DDIM scheduler.

    Args:
        weights: a folder as ``save_pretrained`` writes it, or a hub id such as ``cvssp/audioldm2-music``.
    Raises:
        MelodyError: weights that are missing, pickled, or do not fit; a library that is missing.
    """

    name = "audioldm2"
    needs: ClassVar[tuple[str, ...]] = ("diffusers",)
    weights_from = MODEL.source
    capabilities: ClassVar[frozenset[str]] = frozenset()
    options: ClassVar[frozenset[str]] = frozenset({"num_steps", "guidance_scale"})
    longest_s = 10.24
    """What it was trained for, and diffusers' default."""

    _facts: dict[str, Any]
    pipeline: Any

    def __init__(self, weights: str | Path, device: str = "cpu") -> None:
        folder = model_folder(weights, MODEL)
        diffusers = need("diffusers", MODEL.title)
        transformers = import_module("transformers")
        torch_device = device_of(device)
        kinds = {
            "vae": diffusers.AutoencoderKL,
            "text_encoder": transformers.ClapModel,
            "text_encoder_2": transformers.T5EncoderModel,
            "projection_model": diffusers.AudioLDM2ProjectionModel,
            "language_model": transformers.GPT2LMHeadModel,
            "unet": diffusers.AudioLDM2UNet2DConditionModel,
            "vocoder": transformers.SpeechT5HifiGan,
        }
        networks = {name: load_part(kind, folder / name, MODEL).to(torch_device) for name, kind in kinds.items()}
        others = {
            "tokenizer": transformers.RobertaTokenizer,
            "tokenizer_2": transformers.T5Tokenizer,
            "feature_extractor": transformers.ClapFeatureExtractor,
            "scheduler": diffusers.DDIMScheduler,
        }
        self._use({**networks, **{name: load_text(kind, folder / name, MODEL) for name, kind in others.items()}})
        self._facts = {"weights": content_hash(folder)}

    @classmethod
    def random(cls, size: str = "music", *, seed: int = 0, device: str = "cpu") -> AudioLDM2System:
        """The published size with random weights and tokenizers of letters; ``device="meta"`` has shapes only."""
        if size not in SIZES:
            raise MelodyError(f"unknown size {size!r} of AudioLDM 2{did_you_mean(size, SIZES)}")
        diffusers = need("diffusers", MODEL.title)
        transformers = import_module("transformers")
        with random_weights(seed, device):
            networks = _published(diffusers, transformers, SIZES[size])
        for network in networks.values():
            network.eval().requires_grad_(False)
        system = cls.__new__(cls)
        system._use(
            {
                **networks,
                "tokenizer": roberta_bytes(512),
                "tokenizer_2": t5_letters(128),
                "feature_extractor": transformers.ClapFeatureExtractor(),
                "scheduler": diffusers.DDIMScheduler(**SCHEDULER),
            }
        )
        system._facts = {"random": size, "seed": seed}
        return system

    def _use(self, parts: dict[str, Any]) -> None:
        from diffusers import AudioLDM2Pipeline

        self.lock = Lock()
        self.pipeline = AudioLDM2Pipeline(**parts)
        self.pipeline.set_progress_bar_config(disable=True)
        self.sample_rate = self.pipeline.vocoder.config.sampling_rate
        self.states = getattr(self.pipeline.language_model.config, "max_new_tokens", None) or 8

    def identity(self) -> dict[str, Any]:
        """Hash of the files or the random size, and the libraries' versions."""
        return {**self._facts, **versions("diffusers", "transformers")}

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[str],
        *,
        duration_s: float,
        seeds: Sequence[int],
        num_steps: int = 200,
        guidance_scale: float = 3.5,
        **others: Any,
    ) -> Generation:
        """One clip a prompt; row r is what its prompt and seed give alone, to rounding.

        Texts, and GPT-2's states, are made one prompt at a time, so their calls grow with the batch.

        Raises:
            MelodyError: a duration beyond 10.24 s; counts that differ from the formula.
        """
        self.check_options(others)
        check_call(self.name, prompts, duration_s, seeds, self.longest_s)
        pipe, guided = self.pipeline, guidance_scale > 1
        with self.lock, counted(self._parts(), 1) as trace:  # the scheduler holds the state of a run
            embedded = self._encode(prompts, guided)
            latents = pipe(
                None,
                audio_length_in_s=(self._spectrogram(duration_s) + 1e-3) * self._frame_s,  # rounded down within
                num_inference_steps=check_steps(num_steps),
                guidance_scale=guidance_scale,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                output_type="latent",
                **embedded,
            ).audios
            mel = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
            waveform = pipe.mel_spectrogram_to_waveform(mel)
        texts = len(prompts) * (1 + guided)
        trace.weighted_passes["denoiser"] //= len(prompts)
        trace.prefill_tokens = embedded["prompt_embeds"].shape[1] + 5  # CLAP's vector, and two begins and ends
        once = {"text_encoder": texts, "text_encoder_2": texts, "codec": 1, "vocoder": 1}
        settle(trace, {"language_model": texts * self.states, "denoiser": num_steps}, once)
        made = waveform.reshape(len(prompts), 1, -1)
        return Generation(mono(made, round(duration_s * self.sample_rate), self.name), self.sample_rate, trace)

    def work(
        self, duration_s: float, *, num_steps: int = 200, guidance_scale: float = 3.5, **others: Any
    ) -> list[CallCost]:
        """Texts and states with and without the prompt, a call a step, decoder and vocoder once.

        Left out is the projection of the texts, a product a token.
        """
        self.check_options(others)
        pipe, sides = self.pipeline, 1 + (guidance_scale > 1)
        clap, t5, unet, vae, vocoder = (
            pipe.text_encoder.text_model,
            pipe.text_encoder_2,
            pipe.unet,
            pipe.vae.decoder,
            pipe.vocoder,
        )
        high, wide = self._spectrogram(duration_s), pipe.vocoder.config.model_in_dim
        scale, channels, length = pipe.vae_scale_factor, unet.config.in_channels, pipe.tokenizer.model_max_length

        def ids(module: Any, count: int, *, masked: bool = False) -> Callable[[], dict[str, Any]]:
            def inputs() -> dict[str, Any]:
                weight = _weight(module)
                given: dict[str, Any] = {"input_ids": torch.ones(1, count, dtype=torch.long, device=weight.device)}
                if masked:  # added to the scores as it is; without it CLAP looks at the tokens' values
                    given["attention_mask"] = weight.new_zeros(1, 1, count, count)
                return given

            return inputs

        latent = (channels, high // scale, wide // scale)
        frames, shape = (
            f"{latent[1]} × {latent[2]} latents",
            f"{self.states} states, {TEXT_TOKENS} of text, {sides} rows",
        )
        return [
            _work("text_encoder", "CLAP", f"{length} tokens", sides, clap, ids(clap, length, masked=True), once=True),
            _work("text_encoder_2", "T5", f"{TEXT_TOKENS} tokens", sides, t5, ids(t5, TEXT_TOKENS), once=True),
            *self._states_work(sides),
            _work(
                "denoiser",
                "step",
                f"{frames}, {shape}",
                check_steps(num_steps),
                unet,
                lambda: self._noisy(latent, sides),
                rows=sides,
            ),
            _work("codec", "decode", frames, 1, vae, lambda: {"sample": _weight(vae).new_zeros(1, *latent)}, once=True),
            _work(
                "vocoder",
                "waveform",
                f"{high} frames",
                1,
                vocoder,
                lambda: {"spectrogram": _weight(vocoder).new_zeros(1, high, wide)},
                once=True,
            ),
        ]

    def _states_work(self, sides: int) -> list[CallCost]:
        """The language model's states, each after those before it."""
        read = TEXT_TOKENS + 5
        return [
            _work(
                "language_model",
                "states",
                f"after {cached} in the cache",
                sides,
                self.pipeline.language_model,
                partial(self._state_inputs, cached, read),
                prefill_tokens=0 if cached else sides * read,
            )
            for cached in (0, *range(read, read + self.states - 1))
        ]

    @property
    def _frame_s(self) -> float:
        hop: int = math.prod(self.pipeline.vocoder.config.upsample_rates)
        return hop / self.sample_rate

    def _spectrogram(self, duration_s: float) -> int:
        """Frames, as many as the autoencoder's latents hold."""
        scale: int = self.pipeline.vae_scale_factor
        return math.ceil(duration_s / self._frame_s / scale - 1e-9) * scale

    def _parts(self) -> dict[str, Any]:
        pipe = self.pipeline
        return {
            "text_encoder": pipe.text_encoder.text_model,
            "text_encoder_2": pipe.text_encoder_2,
            "language_model": pipe.language_model,
            "denoiser": pipe.unet,
            "codec": pipe.vae.decoder,
            "vocoder": pipe.vocoder,
        }

    def _encode(self, prompts: Sequence[str], guided: bool) -> dict[str, Tensor]:
        """What the pipeline takes in the place of prompts; texts padded behind their ends, and masked there."""
        pipe = self.pipeline
        rows = [pipe.encode_prompt([prompt], pipe.device, 1, guided, max_new_tokens=self.states) for prompt in prompts]
        longest = max(states.shape[1] for states, _, _ in rows)
        padded = [
            (
                torch.nn.functional.pad(states, (0, 0, 0, longest - states.shape[1])),
                torch.nn.functional.pad(mask, (0, longest - mask.shape[1])),
                made,
            )
            for states, mask, made in rows
        ]
        names, embedded = ("prompt_embeds", "attention_mask", "generated_prompt_embeds"), {}
        for name, parts in zip(names, zip(*padded, strict=True), strict=True):
            if guided:
                embedded[f"negative_{name}"] = torch.cat([part[:1] for part in parts])
            embedded[name] = torch.cat([part[-1:] for part in parts])
        return embedded

    def _state_inputs(self, cached: int, read: int) -> dict[str, Any]:
        from transformers import DynamicCache

        config, weight = self.pipeline.language_model.config, _weight(self.pipeline.language_model)
        cache = DynamicCache()
        for layer in range(config.n_layer if cached else 0):
            states = weight.new_zeros(1, config.n_head, cached, config.n_embd // config.n_head)
            cache.update(states, states.clone(), layer)
        embedded = weight.new_zeros(1, 1 if cached else read, config.n_embd)
        return {"inputs_embeds": embedded, "past_key_values": cache, "use_cache": True, "output_hidden_states": True}

    def _noisy(self, latent: tuple[int, int, int], rows: int) -> dict[str, Any]:
        pipe, weight = self.pipeline, _weight(self.pipeline.unet)
        return {
            "sample": weight.new_zeros(rows, *latent),
            "timestep": weight.new_ones(rows),
            "encoder_hidden_states": weight.new_zeros(rows, self.states, pipe.language_model.config.n_embd),
            "encoder_hidden_states_1": weight.new_zeros(rows, TEXT_TOKENS, pipe.text_encoder_2.config.d_model),
            "encoder_attention_mask_1": torch.ones(rows, TEXT_TOKENS, dtype=torch.long, device=weight.device),
        }


def _work(
    part: str, name: str, shape: str, calls: int, module: Any, inputs: Callable[[], dict[str, Any]], **others: Any
) -> CallCost:
    held: dict[str, Any] = {}

    def setup() -> None:
        held.clear()
        held.update(inputs())

    return CallCost(part, name, shape, calls, module, lambda: module(**held), setup, **others)


def _weight(module: Any) -> Tensor:
    weight: Tensor = next(module.parameters())
    return weight


def _published(diffusers: Any, transformers: Any, channels: int) -> dict[str, Any]:
    """Every network at the published size; CLAP's text tower (RoBERTa base) and GPT-2 are their classes' defaults."""
    gpt2 = transformers.GPT2Config()
    gpt2.max_new_tokens = 8
    blocks = ("CrossAttnDownBlock2D",) * 3
    return {
        "vae": diffusers.AutoencoderKL(
            in_channels=1,
            out_channels=1,
            latent_channels=8,
            block_out_channels=(128, 256, 512),
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
        ),
        "text_encoder": transformers.ClapModel(transformers.ClapConfig()),
        "text_encoder_2": transformers.T5EncoderModel(transformers.T5Config(**FLAN_T5_LARGE)),
        "projection_model": diffusers.AudioLDM2ProjectionModel(512, 1024, 768),
        "language_model": transformers.GPT2LMHeadModel(gpt2),
        "unet": diffusers.AudioLDM2UNet2DConditionModel(
            in_channels=8,
            out_channels=8,
            block_out_channels=tuple(channels * times for times in (1, 2, 3, 5)),
            down_block_types=("DownBlock2D", *blocks),
            up_block_types=(*(block.replace("Down", "Up") for block in blocks), "UpBlock2D"),
            cross_attention_dim=((None, 768, 1024),) * 4,
            attention_head_dim=8,
            layers_per_block=2,
        ),
        "vocoder": transformers.SpeechT5HifiGan(transformers.SpeechT5HifiGanConfig(**VOCODER)),
    }
