"""The parts of a system: built, filled with weights, and MeLoDy's together as one call uses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from melody.artifacts.files import canonical
from melody.artifacts.pretrained import read_card
from melody.artifacts.weights import ForeignWeightsError, load_weights
from melody.conditioning.rvq import ResidualVectorQuantizer
from melody.conditioning.words import known_words
from melody.config import PRESETS, Preset, SystemPreset, load_preset, preset_names
from melody.errors import MelodyError
from melody.pipeline.plan import WindowPlan
from melody.pipeline.taken import token_options
from melody.protocols import Codec, Denoiser, JointEmbedder, LanguageModel, SemanticTokenizer


def build_part(preset: SystemPreset, part: str) -> nn.Module:
    """Build one part of any system's preset, with random weights."""
    if isinstance(preset, Preset) and part == "rvq":
        return ResidualVectorQuantizer(preset.rvq.num_levels, preset.rvq.codebook_size, preset.embedding_dim)
    built: nn.Module = preset.build(part)
    return built


def load_part(preset: SystemPreset, part: str, path: Path) -> nn.Module:
    """Build one part and fill it from a weights file; raises ``MelodyError``, which names both if it is another's."""
    with torch.random.fork_rng():  # random weights that are replaced at once must not move the caller's stream
        module = build_part(preset, part)
    try:
        load_weights(module, path, preset.component_of(part), wanted=preset.title)
    except ForeignWeightsError as error:
        raise MelodyError(f"{error}{_fitting(type(preset), part, error.component)}") from None
    if part == "joint_embedder":
        module.known_words = known_words(read_card(path.parent))  # type: ignore[assignment]
    return module


def _fitting(kind: type[SystemPreset], part: str, component: dict[str, Any]) -> str:
    """Which shipped presets have a part that the weights would fit, for a message."""
    presets = [load_preset(name, kind) for name in preset_names(kind)]
    wanted = canonical(component)
    names = [p.name for p in presets if part in p.parts and canonical(p.component_of(part)) == wanted]
    return f"; they fit preset {' or '.join(map(repr, names))}" if names else ""


def shipped_weights(preset: SystemPreset) -> Path:
    """Folder of the weights that come with the package."""
    return PRESETS / "weights" / type(preset).folder.relative_to(PRESETS) / preset.name


def fill_fitted(parts: dict[str, Any]) -> None:
    """Fill what is fitted to data, not trained, at random: for counting and timing."""
    parts["rvq"].randomize()
    if hasattr(parts["joint_embedder"], "fit_vocabulary"):
        parts["joint_embedder"].fit_vocabulary(["music"])


class Networks:
    """MeLoDy's parts, for inference; raises ``MelodyError`` for settings of tokens that have no effect."""

    joint_embedder: JointEmbedder
    rvq: ResidualVectorQuantizer
    semantic_tokenizer: SemanticTokenizer
    language_model: LanguageModel
    codec: Codec
    denoiser: Denoiser

    def __init__(self, preset: Preset, modules: dict[str, nn.Module]) -> None:
        self.preset, self.modules = preset, modules
        for part, module in modules.items():
            setattr(self, part, module)
        self.codec.remove_weight_norm()
        for module in modules.values():
            module.eval().requires_grad_(False)
        self.token_options()

    @property
    def sample_rate(self) -> int:
        return self.codec.sample_rate

    @property
    def device(self) -> torch.device:
        return next(self.modules["denoiser"].parameters()).device

    def token_options(self) -> dict[str, Any]:
        """How the preset draws tokens, for ``language_model.generate``; raises ``MelodyError`` for what has no effect.

        A language model need not know of what is not wanted.
        """
        generation = self.preset.generation
        return token_options(
            self.language_model,
            f"{self.preset.title} [generation]",
            temperature=generation.temperature,
            top_k=generation.top_k,
            top_p=generation.top_p,
            guidance_scale=generation.token_guidance_scale,
        )

    def plan(self, continuation: str = "fixed") -> WindowPlan:
        """The windows in which this system makes music."""
        return WindowPlan.of(self.preset, self.semantic_tokenizer.token_rate, self.codec.frame_rate, continuation)
