"""The parts of a system: built, filled with weights, and MeLoDy's together as one call uses them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from melody.artifacts.files import canonical
from melody.artifacts.hub import local_folder
from melody.artifacts.pretrained import read_card
from melody.artifacts.weights import ForeignWeightsError, load_weights
from melody.conditioning.rvq import ResidualVectorQuantizer
from melody.conditioning.words import known_words
from melody.config import PRESETS, STAGES, Preset, SystemPreset, load_preset, preset_names
from melody.errors import MelodyError
from melody.pipeline.latents import check_sizes
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


def weight_files(
    preset: SystemPreset, weights: str | Path | None = None, parts: Mapping[str, str | Path] | None = None
) -> dict[str, Path]:
    """The file of each part that has weights, whether it is there or not.

    Args:
        weights: folder or hub id; without it, the preset's shipped folder. What it lacks is taken from the shipped
            weights of the preset's base (or of the preset itself) if the part is the same component there. A folder
            without a file of any part is no folder of weights: nothing is taken in its place.
        parts: file, folder or hub id of single parts, which go before.
    Raises:
        MelodyError: no such folder.
    """
    folder = shipped_weights(preset) if weights is None else local_folder(weights)
    files, bases = {part: folder / f"{part}.safetensors" for part in preset.parts}, shipped_bases(preset)
    is_one = weights is None or any(path.is_file() for path in files.values())
    for part, path in files.items():
        if part in (parts or {}):
            files[part] = part_file(part, (parts or {})[part])
        elif is_one and not path.is_file():
            files[part] = inherited_file(preset, part, bases) or path
    return {part: path for part, path in files.items() if has_weights(preset, part)}


def shipped_bases(preset: SystemPreset) -> list[SystemPreset]:
    """Shipped presets whose weights may serve a preset: its base, that one's base …; or itself, where it ships."""
    presets: list[SystemPreset] = []
    kind, name = type(preset), preset.base or preset.name
    while name in preset_names(kind):
        presets.append(load_preset(name, kind))
        name = presets[-1].base or ""
    return presets


def inherited_file(preset: SystemPreset, part: str, bases: Sequence[SystemPreset]) -> Path | None:
    """The shipped file of a part of the first base in which the same component sits."""
    component = canonical(preset.component_of(part))
    for base in bases:
        path = shipped_weights(base) / f"{part}.safetensors"
        if path.is_file() and canonical(base.component_of(part)) == component:
            return path
    return None


def has_weights(preset: SystemPreset, part: str) -> bool:
    """Whether a part keeps anything in a file: one without parameters and buffers needs none. All of ours have."""
    if part not in preset.roles or preset.roles[part].entry(getattr(preset, part).use).in_tree:
        return True
    try:
        with torch.random.fork_rng(), torch.device("meta"):
            return holds_weights(build_part(preset, part))
    except MelodyError:
        raise
    except Exception:  # a component whose constructor looks at values cannot be built from shapes alone
        return True


def holds_weights(part: Any) -> bool:
    """Whether a built part has parameters or buffers to keep."""
    return isinstance(part, nn.Module) and bool(part.state_dict())


def check_weights(preset: SystemPreset, files: Mapping[str, Path]) -> None:
    """Raise ``MelodyError`` for parts whose file is not there, with what would make them."""
    missing = {part: path for part, path in files.items() if not path.is_file()}
    if not missing:
        return
    stages = {part: stage for stage, part in STAGES.items()}
    stage = stages[next(iter(missing))] if len(missing) == 1 else "all"
    folders = ", ".join(str(folder) for folder in dict.fromkeys(path.parent for path in missing.values()))
    raise MelodyError(
        f"{preset.title} lacks weights in {folders}: {', '.join(path.name for path in missing.values())}; "
        f"train them (melody train {stage} --preset {preset.name}) and give their folder with --weights"
    )


def card_of(files: Mapping[str, Path]) -> dict[str, Any] | None:
    """What the cards beside the weights say of each part; ``None`` if they say nothing."""
    cards = {folder: read_card(folder) or {} for folder in {path.parent for path in files.values()}}
    entries = {part: cards[path.parent][part] for part, path in files.items() if part in cards[path.parent]}
    return entries or None


def part_file(part: str, given: str | Path) -> Path:
    """The weights file of a part that is given by itself, or by its folder or hub id."""
    path = Path(given).expanduser()
    return path if path.suffix == ".safetensors" else local_folder(given) / f"{part}.safetensors"


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
        for part in ("language_model", "denoiser"):
            if not isinstance(modules[part], nn.Module):
                name = f"{part.replace('_', ' ')} {getattr(preset, part).use!r}"
                raise MelodyError(f"{name} is no torch.nn.Module, so its passes cannot be counted")
        check_sizes(preset, self.codec, self.denoiser)
        self.codec.remove_weight_norm()
        for module in modules.values():
            if isinstance(module, nn.Module):
                module.eval().requires_grad_(False)
        self.token_options()

    @property
    def sample_rate(self) -> int:
        return self.codec.sample_rate

    @property
    def device(self) -> torch.device:
        return self.rvq.codebooks.device

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
