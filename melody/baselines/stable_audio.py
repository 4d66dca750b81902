"""Stable Audio Open 1.0 (Evans et al. 2024, arXiv 2407.14358) through diffusers' StableAudioPipeline.

A diffusion Transformer denoises the latents of a stereo autoencoder at 44.1 kHz. It always makes its whole window
(47.6 s) and is told how long the music in it is; the rest is cut off. So a short clip costs what a long one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import torch

from melody.baselines.public_models import (
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
    settle,
    t5_letters,
    versions,
)
from melody.devices import device_of
from melody.documents import read_json_table
from melody.errors import MelodyError, did_you_mean
from melody.extras import need
from melody.protocols import CallCost, Generation, System
from melody.registry import systems

MODEL = Published(
    "stable-audio-open",
    "Stable Audio Open",
    "stabilityai/stable-audio-open-1.0",
    "Stability AI Community licence; gated: accept its terms there, then log in with hf auth login",
)
SIZES = ("1.0",)
T5_BASE = {"d_model": 768, "d_ff": 3072, "d_kv": 64, "num_layers": 12, "num_heads": 12, "vocab_size": 32128}
DIT: dict[str, Any] = {
    "sample_size": 1024,
    "in_channels": 64,
    "out_channels": 64,
    "num_layers": 24,
    "attention_head_dim": 64,
    "num_attention_heads": 24,
    "num_key_value_attention_heads": 12,
    "cross_attention_dim": 768,
    "cross_attention_input_dim": 768,
    "global_states_input_dim": 1536,
}
OOBLECK: dict[str, Any] = {
    "encoder_hidden_size": 128,
    "downsampling_ratios": [2, 4, 4, 8, 8],
    "channel_multiples": [1, 2, 4, 8, 16],
    "decoder_channels": 128,
    "decoder_input_channels": 64,
    "audio_channels": 2,
    "sampling_rate": 44_100,
}
"""Both from the model's own model_config.json (width 1536, depth 24, 24 heads; strides, channels, 2,097,152 samples),
as diffusers' conversion script reads it. Printed sizes: Transformer 1057M, autoencoder 156M, text encoder 109M."""
TEXT_LENGTH = 128
"""Tokens that every text is padded to (model_config.json)."""


@systems.register("stable-audio-open")
class StableAudioSystem(System):
    """Stable Audio Open by diffusers; its stereo is mixed to mono, and what is beyond ±1 is clipped.

    Args:
        weights: a folder as ``save_pretrained`` writes it, or a hub id.
    Raises:
        MelodyError: weights that are missing, pickled, or do not fit; a library that is missing.
    """

    name = "stable-audio-open"
    needs: ClassVar[tuple[str, ...]] = ("diffusers",)
    weights_from = MODEL.source
    capabilities: ClassVar[frozenset[str]] = frozenset()
    options: ClassVar[frozenset[str]] = frozenset({"num_steps", "guidance_scale"})

    _facts: dict[str, Any]
    pipeline: Any

    def __init__(self, weights: str | Path, device: str = "cpu") -> None:
        folder = model_folder(weights, MODEL)
        diffusers = need("diffusers", MODEL.title)
        transformers = import_module("transformers")
        from diffusers.pipelines.stable_audio import StableAudioProjectionModel

        torch_device = device_of(device)
        kinds = {
            "vae": diffusers.AutoencoderOobleck,
            "text_encoder": transformers.T5EncoderModel,
            "projection_model": StableAudioProjectionModel,
            "transformer": diffusers.StableAudioDiTModel,
        }
        networks = {name: load_part(kind, folder / name, MODEL).to(torch_device) for name, kind in kinds.items()}
        tokenizer = load_text(transformers.T5Tokenizer, folder / "tokenizer", MODEL)
        self._use(networks, tokenizer, _scheduler(diffusers, folder / "scheduler"))
        self._facts = {"weights": content_hash(folder)}

    @classmethod
    def random(cls, size: str = "1.0", *, seed: int = 0, device: str = "cpu") -> StableAudioSystem:
        """The published size with random weights and a tokenizer of letters; ``device="meta"`` has shapes only."""
        if size not in SIZES:
            raise MelodyError(f"unknown size {size!r} of Stable Audio Open{did_you_mean(size, SIZES)}")
        diffusers = need("diffusers", MODEL.title)
        transformers = import_module("transformers")
        from diffusers.pipelines.stable_audio import StableAudioProjectionModel

        with random_weights(seed, device):
            networks = {
                "vae": diffusers.AutoencoderOobleck(**OOBLECK),
                "text_encoder": transformers.T5EncoderModel(transformers.T5Config(**T5_BASE)),
                "projection_model": StableAudioProjectionModel(768, 768, 0, 512),
                "transformer": diffusers.StableAudioDiTModel(**DIT),
            }
        for network in networks.values():
            network.eval().requires_grad_(False)
        scheduler = diffusers.EDMDPMSolverMultistepScheduler(
            sigma_min=0.3, sigma_max=500, prediction_type="v_prediction"
        )
        system = cls.__new__(cls)
        system._use(networks, t5_letters(TEXT_LENGTH), scheduler)
        system._facts = {"random": size, "seed": seed}
        return system

    def _use(self, networks: dict[str, Any], tokenizer: Any, scheduler: Any) -> None:
        from diffusers import StableAudioPipeline

        self.lock = Lock()
        self.pipeline = StableAudioPipeline(**networks, tokenizer=tokenizer, scheduler=scheduler)
        self.pipeline.set_progress_bar_config(disable=True)
        self.sample_rate = self.pipeline.vae.config.sampling_rate
        window = self.pipeline.transformer.config.sample_size * self.pipeline.vae.hop_length
        self.longest_s = window / self.sample_rate

    def identity(self) -> dict[str, Any]:
        """Hash of the files or the random size, the scheduler, and the libraries' versions."""
        scheduler = type(self.pipeline.scheduler).__name__
        return {**self._facts, "scheduler": scheduler, **versions("diffusers", "transformers")}

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[str],
        *,
        duration_s: float,
        seeds: Sequence[int],
        num_steps: int = 100,
        guidance_scale: float = 7.0,
        **others: Any,
    ) -> Generation:
        """One clip a prompt; row r is what its prompt and seed give alone, to rounding.

        Raises:
            MelodyError: a duration beyond the window; counts that differ from the formula.
        """
        self.check_options(others)
        check_call(self.name, prompts, duration_s, seeds, self.longest_s)
        pipe = self.pipeline
        parts = {"text_encoder": pipe.text_encoder, "denoiser": pipe.transformer, "codec": pipe.vae.decoder}
        with self.lock, counted(parts, len(prompts)) as trace:  # the scheduler holds the state of a run
            latents = pipe(
                list(prompts),
                audio_end_in_s=duration_s,
                num_inference_steps=check_steps(num_steps),
                guidance_scale=guidance_scale,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                output_type="latent",
            ).audios
            waveform = pipe.vae.decode(latents).sample
        settle(trace, {"denoiser": num_steps}, {"text_encoder": 1, "codec": 1})
        return Generation(mono(waveform, round(duration_s * self.sample_rate), self.name), self.sample_rate, trace)

    def work(
        self, duration_s: float, *, num_steps: int = 100, guidance_scale: float = 7.0, **others: Any
    ) -> list[CallCost]:
        """The text once, a call a step over the whole window, and the decoder once, whatever the duration.

        Left out are the projections of text and seconds, a few products of vectors.
        """
        self.check_options(others)
        pipe, rows = self.pipeline, 1 + (guidance_scale > 1)
        dit, config, encoder, decoder = pipe.transformer, pipe.transformer.config, pipe.text_encoder, pipe.vae.decoder
        text_length = pipe.tokenizer.model_max_length
        held: dict[str, Any] = {}

        def text() -> None:
            device = next(encoder.parameters()).device
            held["text"] = torch.ones(1, text_length, dtype=torch.long, device=device)

        def noisy() -> None:
            held["denoiser"] = self._noisy(rows, text_length)

        def latents() -> None:
            weight = next(decoder.parameters())
            held["latents"] = weight.new_zeros(1, config.in_channels, config.sample_size)

        shape = f"{config.sample_size} frames, {text_length + 2} of text and seconds, {rows} rows"
        return [
            CallCost(
                "text_encoder",
                "text",
                f"{text_length} tokens",
                1,
                encoder,
                lambda: encoder(held["text"]),
                text,
                once=True,
            ),
            CallCost(
                "denoiser", "step", shape, check_steps(num_steps), dit, lambda: dit(**held["denoiser"]), noisy, rows
            ),
            CallCost(
                "codec",
                "decode",
                f"{config.sample_size} frames",
                1,
                decoder,
                lambda: decoder(held["latents"]),
                latents,
                once=True,
            ),
        ]

    def _noisy(self, rows: int, text_length: int) -> dict[str, Any]:
        from diffusers.models.embeddings import get_1d_rotary_pos_embed

        config, weight = self.pipeline.transformer.config, next(self.pipeline.transformer.parameters())
        turns = get_1d_rotary_pos_embed(
            config.attention_head_dim // 2, config.sample_size + 1, use_real=True, repeat_interleave_real=False
        )
        return {
            "hidden_states": weight.new_zeros(rows, config.in_channels, config.sample_size),
            "timestep": weight.new_ones(1),
            "encoder_hidden_states": weight.new_zeros(rows, text_length + 2, config.cross_attention_input_dim),
            "global_hidden_states": weight.new_zeros(rows, 1, config.global_states_input_dim),
            "rotary_embedding": tuple(turn.to(weight.device) for turn in turns),
        }


def _scheduler(diffusers: Any, folder: Path) -> Any:
    """The model's own scheduler, by the class that its config names."""
    names = ("CosineDPMSolverMultistepScheduler", "EDMDPMSolverMultistepScheduler")
    try:
        named = read_json_table(folder / "scheduler_config.json").get("_class_name")
    except MelodyError as error:
        raise MelodyError(f"{MODEL.title}: {error}") from None
    if named not in names:
        raise MelodyError(f"{MODEL.title}: {folder} names scheduler {named!r}{did_you_mean(str(named), names)}")
    if named == names[0]:
        need("torchsde", MODEL.title)  # its noise
    return load_text(getattr(diffusers, named), folder, MODEL)
