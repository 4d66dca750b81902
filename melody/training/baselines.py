"""``melody train STAGE --system NAME``: the stages of baselines, by the machinery of ours (``stages``)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from melody.baselines.musiclm.preset import MusicLmPreset
from melody.baselines.noise2music import preset as noise2music
from melody.baselines.noise2music.preset import Noise2MusicPreset
from melody.conditioning.semantic import TOKEN_RATE
from melody.data.corpus import Corpus
from melody.errors import MelodyError, did_you_mean
from melody.training import features
from melody.training.musiclm import AcousticData, AcousticModelling
from melody.training.noise2music import stage_recipe
from melody.training.stages import MELODY, Finish, StageGraph, TrainingRun, fit_stage
from melody.training.token_codec import TokenCodecTraining


def _codec(run: TrainingRun, stop_after: int | None) -> Finish:
    recipe = TokenCodecTraining(run.part("codec"), run.settings("codec"), run.train_corpus, run.validation_corpus)
    fit_stage(recipe, run, "codec", stop_after)
    return lambda: (recipe.trained(), recipe.validate())


def _coarse(run: TrainingRun, stop_after: int | None) -> Finish:
    """Coarse levels after MuLan and semantic tokens."""
    (joint, joint_hash), (tokenizer, tokenizer_hash) = run.shared("joint_embedder"), run.shared("semantic_tokenizer")
    rvq, _ = run.shared("rvq")
    levels, segment_s = run.preset.coarse.num_levels, run.preset.melody_preset().generation.segment_s

    def data(corpus: Corpus) -> AcousticData:
        audio = features.audio_embeddings(corpus, joint, segment_s, joint_hash)
        text = features.wording_embeddings(corpus, joint, segment_s, joint_hash)
        semantic = features.semantic_tokens(corpus, tokenizer, segment_s, tokenizer_hash)
        acoustic = _acoustic(run, corpus, segment_s)[..., :levels]
        return AcousticData(acoustic, semantic[..., None], features.prefixes(audio, text, rvq))

    return _stage(run, "coarse", data, TOKEN_RATE, stop_after)


def _fine(run: TrainingRun, stop_after: int | None) -> Finish:
    """The other levels after the coarse ones, and after nothing else."""
    levels, segment_s = run.preset.coarse.num_levels, run.preset.melody_preset().generation.segment_s

    def data(corpus: Corpus) -> AcousticData:
        acoustic = _acoustic(run, corpus, segment_s)
        return AcousticData(acoustic[..., levels:], acoustic[..., :levels])

    return _stage(run, "fine", data, TOKEN_RATE * run.preset.frames_per_token, stop_after)


def _stage(
    run: TrainingRun, stage: str, data: Callable[[Corpus], AcousticData], rate: float, stop_after: int | None
) -> Finish:
    train_data, validation_data = data(run.train_corpus), data(run.validation_corpus)
    recipe = AcousticModelling(run.part(stage), run.settings(stage), train_data, validation_data, rate)
    fit_stage(recipe, run, stage, stop_after)
    return lambda: (recipe.trained(), recipe.validate())


def _acoustic(run: TrainingRun, corpus: Corpus, segment_s: float) -> Tensor:
    codec, codec_hash = run.finished("codec")
    return features.acoustic_tokens(corpus, codec, segment_s, codec_hash)


MUSICLM = StageGraph(
    MusicLmPreset,
    parts={"codec": "codec", "coarse": "coarse", "fine": "fine"},
    needs={"codec": (), "coarse": ("codec",), "fine": ("codec",)},
    recipes={"codec": _codec, "coarse": _coarse, "fine": _fine},
    shared={"coarse": ("joint_embedder", "rvq", "semantic_tokenizer")},
)
NOISE2MUSIC = StageGraph(
    Noise2MusicPreset,
    parts={part: part for part in noise2music.PARTS},
    needs=dict.fromkeys(noise2music.PARTS, ()),  # each learns from true data of the stages before it
    recipes={part: stage_recipe(part) for part in noise2music.PARTS},
    shared=dict.fromkeys(noise2music.PARTS, noise2music.CONDITIONING),
)
GRAPHS = {graph.preset_type.system: graph for graph in (MELODY, MUSICLM, NOISE2MUSIC)}


def stage_graph(system: str) -> StageGraph:
    """The stages of a system; raises ``MelodyError`` with the nearest name if it cannot be trained."""
    if system not in GRAPHS:
        raise MelodyError(f"unknown system {system!r} to train{did_you_mean(system, GRAPHS)}")
    return GRAPHS[system]
