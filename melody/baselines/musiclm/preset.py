"""Presets of the MusicLM-style system: ``melody/presets/musiclm/NAME.toml`` or any path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from melody import registry
from melody.config import (
    PRESETS,
    Component,
    Strict,
    TokenCodecStage,
    plain_tables,
    read_toml,
    with_components,
)
from melody.errors import MelodyError, did_you_mean
from melody.weights import load_weights

FOLDER = PRESETS / "musiclm"
SEATS = {"codec": registry.token_codecs}
"""Table of a component -> the registry of its kind."""


class MusicLmTraining(Strict):
    """Recipes by stage."""

    codec: TokenCodecStage


class MusicLmPreset(Strict):
    """One MusicLM-style system."""

    name: str
    description: str
    melody: str
    """MeLoDy's preset whose joint embedder, quantiser of its embedding and semantic stage this system shares."""
    codec: Component
    training: MusicLmTraining | None = None


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
    return with_components(MusicLmPreset, read_toml(path), SEATS, str(path))


def tables_of(preset: MusicLmPreset) -> dict[str, Any]:
    """The tables of a preset, of plain values."""
    return plain_tables(preset, SEATS)


def build_part(preset: MusicLmPreset, part: str) -> nn.Module:
    """Build one part of a preset, with random weights."""
    component = getattr(preset, part)
    built: nn.Module = SEATS[part].create(component.use, component.arguments, where=f"preset {preset.name} [{part}]")
    return built


def component_of(preset: MusicLmPreset, part: str) -> dict[str, Any]:
    """What a part's weights are bound to: the component's name and arguments."""
    described: dict[str, Any] = getattr(preset, part).model_dump()
    return described


def load_part(preset: MusicLmPreset, part: str, path: Path) -> nn.Module:
    """Build one part and fill it from a weights file; raises ``MelodyError`` if it is another's."""
    module = build_part(preset, part)
    load_weights(module, path, component_of(preset, part), wanted=f"preset {preset.name!r} of musiclm")
    return module
