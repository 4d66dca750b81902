"""``melody train STAGE --system NAME``: the stages of opponents, by the machinery of ours (``stages``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from melody import config
from melody.baselines.musiclm import preset as musiclm
from melody.baselines.noise2music import preset as noise2music
from melody.errors import MelodyError, did_you_mean
from melody.pipeline import shipped_weights
from melody.training.noise2music import stage_recipe
from melody.training.plans import Finish, Plan
from melody.training.stages import MELODY, Run, fit_stage
from melody.training.token_codec import TokenCodecTraining


def _codec(run: Run, stop_after: int | None) -> Finish:
    recipe = TokenCodecTraining(run.part("codec"), run.settings("codec"), run.train_corpus, run.validation_corpus)
    fit_stage(recipe, run, "codec", stop_after)
    return lambda: (recipe.trained(), recipe.validate())


def shared_weights(preset: Any, part: str) -> Path:
    """Weights that come with the preset of MeLoDy that ``preset.melody`` names."""
    return shipped_weights(config.load_preset(preset.melody)) / f"{part}.safetensors"


MUSICLM = Plan(
    parts={"codec": "codec"},
    needs={"codec": ()},
    recipes={"codec": _codec},
    build=musiclm.build_part,
    component_of=musiclm.component_of,
    load=musiclm.load_part,
    tables_of=musiclm.tables_of,
    shared_weights=shared_weights,
)

NOISE2MUSIC = Plan(
    parts={part: part for part in noise2music.PARTS},
    needs=dict.fromkeys(noise2music.PARTS, ()),  # each learns from true data of the stages before it
    recipes={part: stage_recipe(part) for part in noise2music.PARTS},
    build=noise2music.build_network,
    component_of=noise2music.component_of,
    load=noise2music.load_network,
    tables_of=noise2music.tables_of,
    shared=dict.fromkeys(noise2music.PARTS, noise2music.CONDITIONING),
    shared_weights=shared_weights,
)


@dataclass(frozen=True)
class Trainable:
    """A system that ``melody train`` trains."""

    plan: Plan
    load_preset: Callable[[str], Any]


SYSTEMS = {
    "melody": Trainable(MELODY, config.load_preset),
    "musiclm": Trainable(MUSICLM, musiclm.load_preset),
    "noise2music": Trainable(NOISE2MUSIC, noise2music.load_noise2music),
}


def trainable(system: str) -> Trainable:
    """The stages and presets of a system; raises ``MelodyError`` with the nearest name if it cannot be trained."""
    if system not in SYSTEMS:
        raise MelodyError(f"unknown system {system!r} to train{did_you_mean(system, SYSTEMS)}")
    return SYSTEMS[system]
