"""Presets of the MusicLM-style system: ``melody/presets/musiclm/NAME.toml`` or any path."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from melody import config, registry
from melody.artifacts.files import canonical
from melody.artifacts.weights import load_weights
from melody.conditioning.semantic import TOKEN_RATE
from melody.config import (
    PRESETS,
    Component,
    FrozenModel,
    Positive,
    PositiveFloat,
    Stage,
    TokenCodecStage,
    plain_tables,
    with_components,
)
from melody.documents import read_toml
from melody.errors import MelodyError, did_you_mean
from melody.lm.multi_stream import MultiStream
from melody.protocols import TokenCodec

FOLDER = PRESETS / "musiclm"
ROLES = {"codec": registry.token_codecs, "language_model": registry.language_models}
"""Table of a component -> the registry of its kind."""
PARTS = ("codec", "coarse", "fine")
"""Parts with weights of this system's own, beside a language model if it has one."""
CONDITIONING = ("joint_embedder", "rvq", "semantic_tokenizer", "language_model")
"""Parts of MeLoDy that it uses, but for a language model of its own."""


class Windows(FrozenModel):
    """How a stage makes what is longer than its window, and draws its tokens."""

    window_s: PositiveFloat
    stride_s: PositiveFloat
    """From one window's end to the next one's; what a window holds beyond it is known: the overlap."""
    temperature: PositiveFloat
    top_k: Positive | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None

    @model_validator(mode="after")
    def _overlap(self) -> Self:
        if self.stride_s > self.window_s:
            raise ValueError(f"stride_s {self.stride_s:g} is longer than window_s {self.window_s:g}")
        return self


class SemanticStage(Windows):
    """The stage of semantic tokens, by ``language_model`` or the one of MeLoDy's preset (arXiv 2301.11325: 30 s)."""

    window_s: PositiveFloat = 30.0
    stride_s: PositiveFloat = 15.0
    """MusicLM, section 4.1 (recalled)."""
    temperature: PositiveFloat = 1.0
    """MusicLM (recalled)."""
    guidance_scale: Annotated[float, Field(ge=0)] = 1.0
    """By the prefix; 1 is none, as in MusicLM."""


class AcousticStage(Windows):
    """A stage of acoustic tokens; sizes as MusicLM's, but for the feed-forward's, which makes up for SwiGLU and for
    vocabularies to 430M (arXiv 2301.11325)."""

    hidden_size: Positive = 1024
    """MusicLM (recalled); so are layers and heads."""
    num_layers: Positive = 24
    num_heads: Positive = 16
    feed_forward_size: Positive = 4160
    """Ours."""


class CoarseStage(AcousticStage):
    window_s: PositiveFloat = 10.0
    """MusicLM (arXiv 2301.11325)."""
    stride_s: PositiveFloat = 5.0
    """Ours: half a window, as the semantic stage's."""
    temperature: PositiveFloat = 0.95
    """MusicLM (recalled)."""
    num_levels: Positive = 4
    """Of the codec's, the first so many (arXiv 2301.11325)."""


class FineStage(AcousticStage):
    window_s: PositiveFloat = 3.0
    """MusicLM (arXiv 2301.11325)."""
    stride_s: PositiveFloat = 1.5
    """Ours; windows in one batch have no overlap."""
    temperature: PositiveFloat = 0.4
    """MusicLM (recalled)."""


class AcousticTraining(Stage):
    """``clip_s`` is the crop: a window of the stage."""

    earlier: ClassVar[Mapping[str, Any]] = {"audio_share": 1 / 3}

    token_dropout: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Most tokens of the stage's own that are hidden in a row, whose share is uniform from 0 to this; ours."""
    audio_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Of the prefixes, those of the audio itself: all, as in MusicLM; the others are of captions and tags (ours)."""
    shorter_times: Positive = 1
    """Half of the steps take so many times more crops, so many times shorter: attention costs less. Ours."""


class MusicLmTraining(FrozenModel):
    """Recipes by stage."""

    codec: TokenCodecStage
    coarse: AcousticTraining | None = None
    fine: AcousticTraining | None = None


class MusicLmPreset(FrozenModel):
    """One MusicLM-style system."""

    name: str
    description: str
    melody: str
    """MeLoDy's preset whose joint embedder, quantiser of its embedding and semantic stage this system shares."""
    codec: Component
    language_model: Component | None = None
    """Of the semantic stage; that of MeLoDy's preset if not given."""
    semantic: SemanticStage = SemanticStage()
    coarse: CoarseStage = CoarseStage()
    fine: FineStage = FineStage()
    training: MusicLmTraining | None = None


def own_parts(preset: MusicLmPreset) -> tuple[str, ...]:
    """Parts that the preset itself describes."""
    return PARTS if preset.language_model is None else (*PARTS, "language_model")


def preset_names() -> list[str]:
    """Presets that ship with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_preset(name: str | Path) -> MusicLmPreset:
    """Load a preset by name or by path, and check every component's name and arguments.

    Raises:
        MelodyError: no such preset, malformed TOML, an unknown component or key, a value of a wrong type.
    """
    path = FOLDER / f"{name}.toml"
    if not path.is_file():
        path = Path(name)
        if path.suffix != ".toml":
            raise MelodyError(
                f"unknown preset {str(name)!r} of musiclm{did_you_mean(str(name), preset_names())}; "
                "or give the path of a .toml file"
            )
    preset = with_components(MusicLmPreset, read_toml(path), ROLES, str(path))
    _check(preset)
    return preset


def _check(preset: MusicLmPreset) -> None:
    """Raise ``MelodyError`` for levels and windows that do not fit the codec or the semantic tokens."""
    frames_per_token(preset)
    coarse, levels = preset.coarse, preset.codec.arguments["num_levels"]
    if coarse.num_levels >= levels:
        raise MelodyError(
            f"preset {preset.name!r} of musiclm: num_levels {coarse.num_levels} of the coarse stage leaves none of the "
            f"codec's {levels} to the fine stage"
        )
    if any(round(seconds * TOKEN_RATE, 6) % 1 for seconds in (coarse.window_s, coarse.stride_s)):
        raise MelodyError(
            f"preset {preset.name!r} of musiclm: window_s and stride_s of the coarse stage are {coarse.window_s:g} and "
            f"{coarse.stride_s:g}: expected whole numbers of semantic tokens, {TOKEN_RATE:g} a second"
        )


def tables_of(preset: MusicLmPreset) -> dict[str, Any]:
    """The tables of a preset, of plain values."""
    return plain_tables(preset, ROLES)


def build_part(preset: MusicLmPreset, part: str) -> nn.Module:
    """Build one part of a preset, with random weights."""
    described = component_of(preset, part)
    if part in ("coarse", "fine"):
        return MultiStream(**described["arguments"])
    where = f"preset {preset.name} [{part}]"
    built: nn.Module = ROLES[part].create(described["use"], described["arguments"], where=where)
    return built


def component_of(preset: MusicLmPreset, part: str) -> dict[str, Any]:
    """What a part's weights are bound to: the component's name and arguments, of a stage the streams too."""
    if part not in ("coarse", "fine"):
        described: dict[str, Any] = getattr(preset, part).model_dump()
        return described
    stage: AcousticStage = getattr(preset, part)
    levels = {
        "coarse": preset.coarse.num_levels,
        "fine": preset.codec.arguments["num_levels"] - preset.coarse.num_levels,
    }
    sizes = {name: getattr(stage, name) for name in ("hidden_size", "num_layers", "num_heads", "feed_forward_size")}
    streams = {
        "contexts": _contexts(preset, part, levels),
        "num_levels": levels[part],
        "codebook_size": preset.codec.arguments["codebook_size"],
    }
    return {"use": part, "arguments": streams | sizes}


def _contexts(preset: MusicLmPreset, part: str, levels: dict[str, int]) -> list[list[Any]]:
    """Streams that a stage is given: MuLan and semantic tokens, or the coarse tokens alone (arXiv 2301.11325)."""
    codec = preset.codec.arguments
    if part == "fine":
        return [[levels["coarse"], codec["codebook_size"], levels["fine"] / levels["coarse"]]]
    melody = config.load_preset(preset.melody)
    model = preset.language_model or melody.language_model
    step = levels["coarse"] * frames_per_token(preset)
    return [
        [melody.rvq.num_levels, melody.rvq.codebook_size, 0.0],
        [1, model.arguments["codebook_size"], float(step)],
    ]


def frames_per_token(preset: MusicLmPreset) -> int:
    """Frames of the codec that a semantic token lasts; raises ``MelodyError`` if that is no whole number."""
    ratio = _frame_rate(preset.codec.use, canonical(preset.codec.arguments)) / TOKEN_RATE
    if ratio < 1 or ratio != int(ratio):
        raise MelodyError(
            f"preset {preset.name!r} of musiclm: the codec has {ratio * TOKEN_RATE:g} frames a second, "
            f"expected a multiple of the {TOKEN_RATE:g} semantic tokens"
        )
    return int(ratio)


@lru_cache
def _frame_rate(use: str, arguments: bytes) -> float:
    """Of a codec, which may follow its rate from its layers, so it is built, from shapes alone."""
    with torch.device("meta"):
        codec: TokenCodec = registry.token_codecs.create(use, json.loads(arguments))
    return codec.frame_rate


def load_part(preset: MusicLmPreset, part: str, path: Path) -> nn.Module:
    """Build one part and fill it from a weights file; raises ``MelodyError`` if it is another's."""
    module = build_part(preset, part)
    load_weights(module, path, component_of(preset, part), wanted=f"preset {preset.name!r} of musiclm")
    return module
