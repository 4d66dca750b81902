"""``melody train STAGE --system NAME``: the stages of baselines, by the machinery of ours (``stages``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from melody import config
from melody.artifacts.files import file_hash
from melody.baselines.musiclm import preset as musiclm
from melody.baselines.noise2music import preset as noise2music
from melody.conditioning.semantic import TOKEN_RATE
from melody.data.corpus import Corpus
from melody.errors import MelodyError, did_you_mean
from melody.pipeline import load_part, shipped_weights
from melody.training import features
from melody.training.musiclm import AcousticData, AcousticModelling
from melody.training.noise2music import stage_recipe
from melody.training.plans import Finish, StageGraph
from melody.training.stages import MELODY, TrainingRun, fit_stage
from melody.training.token_codec import TokenCodecTraining


def _codec(run: TrainingRun, stop_after: int | None) -> Finish:
    recipe = TokenCodecTraining(run.part("codec"), run.settings("codec"), run.train_corpus, run.validation_corpus)
    fit_stage(recipe, run, "codec", stop_after)
    return lambda: (recipe.trained(), recipe.validate())


def _coarse(run: TrainingRun, stop_after: int | None) -> Finish:
    """Coarse levels after MuLan and semantic tokens."""
    melody = config.load_preset(run.preset.melody)
    (joint, joint_hash), (tokenizer, tokenizer_hash) = (
        _of_melody(run, melody, part) for part in ("joint_embedder", "semantic_tokenizer")
    )
    rvq, _ = _of_melody(run, melody, "rvq")
    levels, segment_s = run.preset.coarse.num_levels, melody.generation.segment_s

    def data(corpus: Corpus) -> AcousticData:
        audio = features.audio_embeddings(corpus, joint, segment_s, joint_hash)
        text = features.wording_embeddings(corpus, joint, segment_s, joint_hash)
        semantic = features.semantic_tokens(corpus, tokenizer, segment_s, tokenizer_hash)
        acoustic = _acoustic(run, corpus, segment_s)[..., :levels]
        return AcousticData(acoustic, semantic[..., None], features.prefixes(audio, text, rvq))

    return _stage(run, "coarse", data, TOKEN_RATE, stop_after)


def _fine(run: TrainingRun, stop_after: int | None) -> Finish:
    """The other levels after the coarse ones, and after nothing else."""
    levels, segment_s = run.preset.coarse.num_levels, config.load_preset(run.preset.melody).generation.segment_s

    def data(corpus: Corpus) -> AcousticData:
        acoustic = _acoustic(run, corpus, segment_s)
        return AcousticData(acoustic[..., levels:], acoustic[..., :levels])

    return _stage(run, "fine", data, TOKEN_RATE * musiclm.frames_per_token(run.preset), stop_after)


def _stage(
    run: TrainingRun, stage: str, data: Callable[[Corpus], AcousticData], rate: float, stop_after: int | None
) -> Finish:
    train_data, validation_data = data(run.train_corpus), data(run.validation_corpus)
    recipe = AcousticModelling(run.part(stage), run.settings(stage), train_data, validation_data, rate)
    fit_stage(recipe, run, stage, stop_after)
    return lambda: (recipe.trained(), recipe.validate())


def _acoustic(run: TrainingRun, corpus: Corpus, segment_s: float) -> Tensor:
    codec, codec_hash = run.finished("codec")
    return features.acoustic_tokens(corpus, codec, segment_s, codec_hash)  # type: ignore[arg-type]


def _of_melody(run: TrainingRun, melody: config.Preset, part: str) -> tuple[Any, str]:
    """A part of MeLoDy with its weights, and their hash."""
    path = run.shared_path(part)
    module = load_part(melody, part, path).eval().requires_grad_(False)
    return module.to(run.hardware.device), file_hash(path)


def shared_weights(preset: Any, part: str) -> Path:
    """Weights that come with the preset of MeLoDy that ``preset.melody`` names."""
    return shipped_weights(config.load_preset(preset.melody)) / f"{part}.safetensors"


MUSICLM = StageGraph(
    parts={"codec": "codec", "coarse": "coarse", "fine": "fine"},
    needs={"codec": (), "coarse": ("codec",), "fine": ("codec",)},
    recipes={"codec": _codec, "coarse": _coarse, "fine": _fine},
    build=musiclm.build_part,
    component_of=musiclm.component_of,
    load=musiclm.load_part,
    tables_of=musiclm.tables_of,
    shared={"coarse": ("joint_embedder", "rvq", "semantic_tokenizer")},
    shared_weights=shared_weights,
)

NOISE2MUSIC = StageGraph(
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

    plan: StageGraph
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
