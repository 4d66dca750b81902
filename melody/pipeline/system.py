"""The MeLoDy system as one object: its parts, built from a preset, and what it makes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from melody import registry
from melody.conditioning.prompts import check_prompt
from melody.conditioning.rvq import ResidualVectorQuantizer
from melody.config import SEATS, Preset, load_preset, preset_names, preset_of, tables_of
from melody.errors import MelodyError
from melody.hub import local_folder
from melody.paths import PACKAGE
from melody.pipeline.plan import expected_passes
from melody.pipeline.run import Progress, Run
from melody.pretrained import CARD_TEXT, CONFIG, Pretrained, read_card
from melody.protocols import (
    Codec,
    Denoiser,
    Generation,
    JointEmbedder,
    LanguageModel,
    Sampler,
    SemanticTokenizer,
)
from melody.weights import ForeignWeightsError, Precision, canonical, file_hash, load_weights, save_weights

MAX_DURATION_S = 3600.0
PARTS = ("joint_embedder", "rvq", "semantic_tokenizer", "language_model", "codec", "denoiser")


def build_part(preset: Preset, part: str) -> nn.Module:
    """Build one part of a preset, with random weights."""
    if part == "rvq":
        width = registry.joint_embedders.validate(
            preset.joint_embedder.use, preset.joint_embedder.arguments, where="[joint_embedder]"
        )["embedding_dim"]
        return ResidualVectorQuantizer(preset.rvq.num_levels, preset.rvq.codebook_size, width)
    component = getattr(preset, part)
    built: nn.Module = SEATS[part].create(component.use, component.arguments, where=f"preset {preset.name} [{part}]")
    return built


def component_of(preset: Preset, part: str) -> dict[str, Any]:
    """What a part's weights are bound to: the component's name and arguments."""
    described: dict[str, Any] = getattr(preset, part).model_dump()
    return described


def load_part(preset: Preset, part: str, path: Path) -> nn.Module:
    """Build one part and fill it from a weights file; raises ``MelodyError``, which names both if it is another's."""
    with torch.random.fork_rng():  # random weights that are replaced at once must not move the caller's stream
        module = build_part(preset, part)
    try:
        load_weights(module, path, component_of(preset, part), wanted=f"preset {preset.name!r}")
    except ForeignWeightsError as error:
        wanted = canonical(error.component)
        fitting = [name for name in preset_names() if canonical(component_of(load_preset(name), part)) == wanted]
        hint = f"; they fit preset {' or '.join(map(repr, fitting))}" if fitting else ""
        raise MelodyError(f"{error}{hint}") from None
    return module


def shipped_weights(preset: Preset) -> Path:
    """Folder of the weights that come with the package."""
    return PACKAGE / "presets" / "weights" / preset.name


class MelodyPipeline(Pretrained):
    """Text to music by one preset.

    >>> pipeline = MelodyPipeline.from_preset("demo")  # doctest: +SKIP
    >>> generation = pipeline("a slow piano piece in a minor key", num_steps=10, seeds=0)  # doctest: +SKIP
    """

    def __init__(self, preset: Preset, parts: dict[str, nn.Module], weights_hash: str | None = None) -> None:
        self.preset = preset
        self.weights_hash = weights_hash
        """SHA-256 over the weight files of all parts; ``None`` for random weights."""
        self.joint_embedder: JointEmbedder = parts["joint_embedder"]  # type: ignore[assignment]
        self.rvq: ResidualVectorQuantizer = parts["rvq"]  # type: ignore[assignment]
        self.semantic_tokenizer: SemanticTokenizer = parts["semantic_tokenizer"]  # type: ignore[assignment]
        self.language_model: LanguageModel = parts["language_model"]  # type: ignore[assignment]
        self.codec: Codec = parts["codec"]  # type: ignore[assignment]
        self.denoiser: Denoiser = parts["denoiser"]  # type: ignore[assignment]
        self._modules = parts
        self.codec.remove_weight_norm()
        for part in parts.values():
            part.eval().requires_grad_(False)

    @classmethod
    def from_preset(
        cls, preset: str | Path | Preset, *, weights: str | Path | None = None, device: str = "cpu"
    ) -> MelodyPipeline:
        """Build every part of a preset and load its weights.

        Args:
            preset: a preset's name, the path of a TOML file, or a loaded preset.
            weights: folder with one safetensors file a part, or a hub id (``OWNER/NAME``, ``OWNER/NAME@REVISION``);
                without it, the weights that ship with the package.
        Raises:
            MelodyError: unknown preset, missing, damaged or foreign weights, a device that is not there.
        """
        loaded = preset if isinstance(preset, Preset) else load_preset(preset)
        folder = local_folder(weights) if weights is not None else shipped_weights(loaded)
        if not folder.is_dir():
            raise MelodyError(
                f"preset {loaded.name!r} has no weights in {folder}; "
                f"train them (melody train all --preset {loaded.name}) and give their folder with --weights"
            )
        parts, digest = {}, hashlib.sha256()
        for part in PARTS:
            path = folder / f"{part}.safetensors"
            parts[part] = load_part(loaded, part, path).to(_device(device))
            digest.update(f"{part}:{file_hash(path)};".encode())
        pipeline = cls(loaded, parts, digest.hexdigest())
        pipeline._card = read_card(folder)
        text = folder / CARD_TEXT
        pipeline._card_text = text.read_text(encoding="utf-8") if text.is_file() else None
        return pipeline

    @classmethod
    def _from_folder(cls, folder: Path, config: dict[str, Any], device: str) -> MelodyPipeline:
        if missing := [part for part in PARTS if part not in config]:
            raise MelodyError(f"{folder} holds no whole pipeline: its {CONFIG} lacks {', '.join(missing)}")
        return cls.from_preset(preset_of(config, str(folder / CONFIG)), weights=folder, device=device)

    def _config_tables(self) -> dict[str, Any]:
        return tables_of(self.preset)

    def _save_pretrained(self, save_directory: Path, dtype: Precision = "float16") -> None:
        for part, module in self._modules.items():
            path = save_directory / f"{part}.safetensors"
            save_weights(module, path, component_of(self.preset, part), preset=self.preset.name, dtype=dtype)

    @classmethod
    def random(cls, preset: str | Path | Preset, *, seed: int = 0, device: str = "cpu") -> MelodyPipeline:
        """A pipeline with random weights: for counting and timing, which do not depend on the values of weights."""
        loaded = preset if isinstance(preset, Preset) else load_preset(preset)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            parts = {part: build_part(loaded, part) for part in PARTS}
            parts["rvq"].randomize()  # type: ignore[operator]
            if hasattr(parts["joint_embedder"], "fit_vocabulary"):
                parts["joint_embedder"].fit_vocabulary(["music"])  # type: ignore[operator]
        return cls(loaded, {part: module.to(_device(device)) for part, module in parts.items()})

    @property
    def sample_rate(self) -> int:
        return self.codec.sample_rate

    @property
    def device(self) -> torch.device:
        return next(self._modules["denoiser"].parameters()).device

    @torch.inference_mode()
    def __call__(
        self,
        prompts: str | Sequence[str],
        *,
        duration_s: float | None = None,
        num_steps: int | None = None,
        sampler: Any = None,
        grid: Any = None,
        guidance_scale: float | None = None,
        seeds: int | Sequence[int] = 0,
        progress: Progress | None = None,
    ) -> Generation:
        """Make music for prompts by Algorithm 1, and beyond one segment by Algorithm 2.

        Args:
            duration_s: length in seconds; the preset's segment if not given.
            sampler: name or instance; grid: name or function; both from the preset if not given.
            seeds: one a prompt; a single seed s gives row i the seed s + i. A row's seed decides its bits: the same
                alone as in a batch, to rounding.
        Returns:
            Waveform ``(B, 1, T)`` in [-1, 1], sample rate, and a trace of passes and seconds by part.
        Raises:
            MelodyError: bad prompt, duration, number of steps, or a sampler that misbehaves.
        """
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        if not texts:
            raise MelodyError("no prompt was given: expected at least one text")
        for number, text in enumerate(texts, start=1):
            check_prompt(text, where=f"prompt {number}" if len(texts) > 1 else "the prompt")
        settings = self.preset.generation
        duration = settings.segment_s if duration_s is None else _check_duration(duration_s)
        steps = _check_steps(settings.num_steps if num_steps is None else num_steps)
        method = _sampler(sampler or settings.sampler)
        run = Run(self, _row_seeds(seeds, len(texts)), progress)
        with run.timed("joint_embedder"):
            prefix = self.rvq.encode(self.joint_embedder.embed_text(texts))
        latents = run.latents(
            prefix,
            duration,
            sampler=method,
            grid=grid or settings.grid,
            num_steps=steps,
            guidance_scale=settings.guidance_scale if guidance_scale is None else guidance_scale,
        )
        with run.timed("codec"):
            waveform = self.codec.decode(latents)[..., : round(duration * self.sample_rate)].clamp(-1, 1)
        formula = expected_passes(
            self.preset, self.semantic_tokenizer.token_rate, duration, steps, method.evaluations_per_step
        )
        return Generation(waveform, self.sample_rate, run.checked_trace(formula))


def _row_seeds(seeds: int | Sequence[int], rows: int) -> list[int]:
    given = [seeds + row for row in range(rows)] if isinstance(seeds, int) else list(seeds)
    if len(given) != rows:
        raise MelodyError(f"expected one seed a prompt: got {len(given)} seeds for {rows} prompts")
    if any(seed < 0 for seed in given):
        raise MelodyError(f"a seed is 0 or more, got {min(given)}")
    return given


def _sampler(sampler: str | Sampler) -> Sampler:
    if isinstance(sampler, str):
        created: Sampler = registry.samplers.create(sampler)
        return created
    if not isinstance(sampler, Sampler):
        raise MelodyError(f"expected a sampler or the name of one, got {type(sampler).__name__}")
    return sampler


def _check_duration(duration_s: float) -> float:
    if not 0 < duration_s <= MAX_DURATION_S:
        raise MelodyError(f"the duration is {duration_s} s: expected more than 0 and at most {MAX_DURATION_S:.0f} s")
    return float(duration_s)


def _check_steps(num_steps: int) -> int:
    if num_steps < 1:
        raise MelodyError(f"the number of steps is {num_steps}: expected 1 or more")
    return num_steps


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise MelodyError(f"unknown device {name!r}: expected cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise MelodyError(f"unknown device {name!r}: expected cpu, cuda or cuda:N")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise MelodyError(f"device {name!r} is not available: torch sees no CUDA device here")
    return device
