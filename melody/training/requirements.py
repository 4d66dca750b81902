"""What a stage needs of its component, looked at before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from melody.config import ROLES, STAGES, Preset, SystemPreset
from melody.errors import MelodyError
from melody.pipeline.taken import takes
from melody.trainable import (
    PublicTowers,
    TrainableCodec,
    TrainableDenoiser,
    TrainableJointEmbedder,
    TrainableLanguageModel,
    TrainableSemanticTokenizer,
)

PROTOCOLS: dict[str, type[Any]] = {
    "joint": TrainableJointEmbedder,
    "semantic": TrainableSemanticTokenizer,
    "lm": TrainableLanguageModel,
    "vae": TrainableCodec,
    "dpd": TrainableDenoiser,
}
"""Stage -> what it asks of its component beside what every component of the kind has."""
DROPPED_BY: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "lm": ("loss", "dropped", ("token_dropout", "prefix_dropout")),
    "dpd": ("forward", "unconditional", ("guidance_dropout",)),
}
"""Stage -> a method, its argument, and settings that need the method to use it."""


def check_trainable(preset: SystemPreset, stage: str) -> None:
    """Raise ``MelodyError`` for a component that its stage cannot train, with all that it lacks."""
    if stage not in PROTOCOLS or not isinstance(preset, Preset):
        return
    role = STAGES[stage]
    entry = ROLES[role].entry(getattr(preset, role).use)
    lacking = list(_lacking(preset, stage, entry.component))
    if lacking:
        protocol = f"melody.trainable.{PROTOCOLS[stage].__name__}"
        raise MelodyError(
            f"stage {stage!r} cannot train {ROLES[role].label} {entry.name!r} from {entry.origin}: "
            f"{'; '.join(lacking)} (see {protocol})"
        )


def _lacking(preset: Preset, stage: str, component: type[Any]) -> Iterator[str]:
    if not issubclass(component, nn.Module):
        yield "it is no torch.nn.Module"
    settings = getattr(preset.training, stage)
    missing = [name for name in _methods(stage, settings) if not callable(getattr(component, name, None))]
    if missing:
        yield f"it lacks {', '.join(missing)}"
    method, argument, names = DROPPED_BY.get(stage, ("", "", ()))
    for name in names:
        if getattr(settings, name) and not takes(getattr(component, method), argument):
            value = f"{name} = {getattr(settings, name):g}"
            yield f"its {method} does not use {argument}, which {value} needs (--set training.{stage}.{name}=0)"


def _methods(stage: str, settings: Any) -> list[str]:
    """Methods that a stage calls with these settings."""
    names = methods_of(PROTOCOLS[stage])
    if stage != "joint":
        return names
    public = dict(zip(methods_of(PublicTowers), (settings.audio_weights, settings.text_weights), strict=True))
    if settings.text_weights is not None:
        names.remove("fit_vocabulary")
    return [*names, *(name for name, source in public.items() if source is not None)]


def methods_of(protocol: type[Any]) -> list[str]:
    """Names of the methods that a protocol declares, in its order."""
    return [name for name, value in vars(protocol).items() if callable(value) and not name.startswith("_")]
