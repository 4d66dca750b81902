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

from melody import registry
from melody.artifacts.files import canonical
from melody.baselines.base import BaselinePreset
from melody.conditioning.semantic import TOKEN_RATE
from melody.config import PRESETS, Component, FrozenModel, Positive, PositiveFloat, Stage, TokenCodecStage
from melody.errors import MelodyError
from melody.lm.multi_stream import MultiStream
from melody.protocols import TokenCodec

ACOUSTIC = ("coarse", "fine")
CONDITIONING = ("joint_embedder", "language_model", "rvq", "semantic_tokenizer")
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

    def sizes(self) -> dict[str, Any]:
        """Arguments of the stage's network."""
        return self.model_dump(include={"hidden_size", "num_layers", "num_heads", "feed_forward_size"})


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


class MusicLmPreset(BaselinePreset):
    """One MusicLM-style system, which shares MeLoDy's joint embedder, quantiser of its embedding and semantic stage."""

    system = "musiclm"
    folder = PRESETS / "musiclm"
    roles: ClassVar[Mapping[str, registry.Registry]] = {
        "codec": registry.token_codecs,
        "language_model": registry.language_models,
    }

    codec: Component
    language_model: Component | None = None
    """Of the semantic stage; that of MeLoDy's preset if not given."""
    semantic: SemanticStage = SemanticStage()
    coarse: CoarseStage = CoarseStage()
    fine: FineStage = FineStage()
    training: MusicLmTraining | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        own = ("codec", *ACOUSTIC)
        return own if self.language_model is None else (*own, "language_model")

    @property
    def shared(self) -> tuple[str, ...]:
        return tuple(part for part in CONDITIONING if part not in self.parts)

    def files(self, folder: Path) -> dict[str, Path]:
        """In the order of their names, in which the digest of all weights is taken."""
        return dict(sorted(super().files(folder).items()))

    def check(self) -> None:
        """Raise ``MelodyError`` for levels and windows that do not fit the codec or the semantic tokens."""
        coarse, levels = self.coarse, self.codec.arguments["num_levels"]
        assert self.frames_per_token
        if coarse.num_levels >= levels:
            raise MelodyError(
                f"{self.title}: num_levels {coarse.num_levels} of the coarse stage leaves none of the codec's {levels} "
                "to the fine stage"
            )
        if any(round(seconds * TOKEN_RATE, 6) % 1 for seconds in (coarse.window_s, coarse.stride_s)):
            raise MelodyError(
                f"{self.title}: window_s and stride_s of the coarse stage are {coarse.window_s:g} and "
                f"{coarse.stride_s:g}: expected whole numbers of semantic tokens, {TOKEN_RATE:g} a second"
            )

    def build(self, part: str) -> nn.Module:
        if part in ACOUSTIC:
            return MultiStream(**self.component_of(part)["arguments"])
        built: nn.Module = super().build(part)
        return built

    def component_of(self, part: str) -> dict[str, Any]:
        """What a part's weights are bound to: the component's name and arguments, of a stage the streams too."""
        if part not in ACOUSTIC:
            return super().component_of(part)
        stage: AcousticStage = getattr(self, part)
        streams = {
            "contexts": self._contexts(part),
            "num_levels": self._levels[part],
            "codebook_size": self.codec.arguments["codebook_size"],
        }
        return {"use": part, "arguments": streams | stage.sizes()}

    @property
    def frames_per_token(self) -> int:
        """Frames of the codec that a semantic token lasts; raises ``MelodyError`` if that is no whole number."""
        ratio = _frame_rate(self.codec.use, canonical(self.codec.arguments)) / TOKEN_RATE
        if ratio < 1 or ratio != int(ratio):
            raise MelodyError(
                f"{self.title}: the codec has {ratio * TOKEN_RATE:g} frames a second, "
                f"expected a multiple of the {TOKEN_RATE:g} semantic tokens"
            )
        return int(ratio)

    @property
    def _levels(self) -> dict[str, int]:
        coarse: int = self.coarse.num_levels
        return {"coarse": coarse, "fine": self.codec.arguments["num_levels"] - coarse}

    def _contexts(self, part: str) -> list[list[Any]]:
        """Streams that a stage is given: MuLan and semantic tokens, or the coarse tokens alone (arXiv 2301.11325)."""
        levels = self._levels
        if part == "fine":
            size = self.codec.arguments["codebook_size"]
            return [[levels["coarse"], size, levels["fine"] / levels["coarse"]]]
        melody = self.melody_preset()
        model = self.language_model or melody.language_model
        step = levels["coarse"] * self.frames_per_token
        return [
            [melody.rvq.num_levels, melody.rvq.codebook_size, 0.0],
            [1, model.arguments["codebook_size"], float(step)],
        ]


@lru_cache
def _frame_rate(use: str, arguments: bytes) -> float:
    """Of a codec, which may follow its rate from its layers, so it is built, from shapes alone."""
    with torch.device("meta"):
        codec: TokenCodec = registry.token_codecs.create(use, json.loads(arguments))
    return codec.frame_rate
