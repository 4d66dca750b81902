"""``melody train``: the stages in the order of what each needs, their inputs, and what they leave behind.

A run folder holds a folder a stage with its settings, checkpoint and history, ``weights/`` and ``weights/card.json``,
and ``config.json`` with the whole preset.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from melody.config import STAGES, Preset, tables_of
from melody.data.corpus import Corpus, load_corpus
from melody.errors import MelodyError, did_you_mean
from melody.pipeline import build_part, component_of, load_part
from melody.pretrained import write_config
from melody.training import features
from melody.training.card import add_stage, bind_stage
from melody.training.dpd import LatentData, VelocityPrediction
from melody.training.fit import fit
from melody.training.joint import Joint
from melody.training.lm import LanguageModelling, TokenData
from melody.training.recipe import Recipe
from melody.training.semantic import Semantic
from melody.training.vae import AudioVae
from melody.weights import file_hash, save_weights

NEEDS: dict[str, tuple[str, ...]] = {
    "joint": (),
    "rvq": ("joint",),
    "semantic": (),
    "lm": ("joint", "rvq", "semantic"),
    "vae": (),
    "dpd": ("vae", "semantic"),
}
"""Stage -> the stages that it builds on."""


class Run:
    """One preset, one corpus, one folder."""

    def __init__(self, preset: Preset, data: str | Path, folder: Path, accelerator: str = "cpu") -> None:
        if preset.training is None:
            raise MelodyError(f"preset {preset.name!r} has no [training] table")
        _check_accelerator(accelerator)
        self.preset, self.data, self.folder, self.accelerator = preset, data, folder, accelerator
        self.train_corpus = load_corpus(data, split="train")
        self.validation_corpus = load_corpus(data, split="validation")

    def settings(self, stage: str) -> Any:
        """The stage's table of the preset."""
        return getattr(self.preset.training, stage)

    def weights_path(self, part: str) -> Path:
        return self.folder / "weights" / f"{part}.safetensors"

    def part(self, stage: str) -> nn.Module:
        """A fresh part with the stage's seed."""
        torch.manual_seed(self.settings(stage).seed)
        return build_part(self.preset, STAGES[stage])

    def bind(self, stage: str) -> None:
        """Refuse to go on in a folder that was begun with another component, other settings, data or earlier parts."""
        bind_stage(
            self.folder / stage,
            self.preset,
            component=component_of(self.preset, STAGES[stage]),
            settings=self.settings(stage),
            data=[self.train_corpus.content_hash(), self.validation_corpus.content_hash()],
            needs={STAGES[needed]: self.finished(needed)[1] for needed in NEEDS[stage]},
        )

    def finished(self, stage: str) -> tuple[nn.Module, str]:
        """The part of an earlier stage with its weights, and their hash; raises ``MelodyError`` if there are none."""
        part = STAGES[stage]
        path = self.weights_path(part)
        if not path.is_file():
            raise MelodyError(f"stage {stage!r} must be trained first: {path} is missing (melody train {stage})")
        return load_part(self.preset, part, path).eval().requires_grad_(False), file_hash(path)


def _check_accelerator(name: str) -> None:
    available = {"cpu": True, "auto": True, "gpu": torch.cuda.is_available(), "cuda": torch.cuda.is_available()}
    if name not in available:
        raise MelodyError(f"unknown accelerator {name!r}{did_you_mean(name, available)}")
    if not available[name]:
        raise MelodyError(f"accelerator {name!r} is not available: torch sees no CUDA device here")


def train(stage: str, run: Run, *, stop_after: int | None = None) -> None:
    """Train one stage, or ``all``, and leave weights and card entry in the run folder.

    Raises:
        MelodyError: unknown stage, a missing earlier stage, another preset's folder, losses that are not finite.
    """
    if stage != "all" and stage not in STAGES:
        raise MelodyError(f"unknown stage {stage!r}{did_you_mean(stage, [*STAGES, 'all'])}")
    for name in STAGES if stage == "all" else [stage]:
        begin = time.perf_counter()
        run.bind(name)
        write_config(run.folder, tables_of(run.preset))
        module, figures = _RECIPES[name](run, stop_after)
        if stop_after is not None and name != "rvq" and stop_after < run.settings(name).steps:
            return
        part = STAGES[name]
        save_weights(module, run.weights_path(part), component_of(run.preset, part), preset=run.preset.name)
        add_stage(
            run.folder,
            stage=name,
            part=part,
            module=module,
            settings=run.settings(name),
            corpora=(run.train_corpus, run.validation_corpus),
            seconds=time.perf_counter() - begin,
            figures=figures,
            weights=run.weights_path(part),
        )


def _fit(recipe: Recipe, run: Run, stage: str, stop_after: int | None) -> None:
    fit(recipe, run.folder / stage, title=f"train {stage}", accelerator=run.accelerator, stop_after=stop_after)


def _joint(run: Run, stop_after: int | None) -> tuple[nn.Module, dict[str, float]]:
    recipe = Joint(run.part("joint"), run.settings("joint"), run.train_corpus, run.validation_corpus)
    _fit(recipe, run, "joint", stop_after)
    return recipe.trained(), recipe.validate()


def _rvq(run: Run, stop_after: int | None) -> tuple[nn.Module, dict[str, float]]:
    """Codebooks over embeddings of audio, captions and tags alike, for all three may be the prompt."""
    settings, (joint, weights) = run.settings("rvq"), run.finished("joint")
    audio = features.audio_embeddings(run.train_corpus, joint, settings.clip_s, weights)  # type: ignore[arg-type]
    text = features.text_embeddings(run.train_corpus, joint, settings.clip_s, weights)  # type: ignore[arg-type]
    embeddings = torch.cat([audio, text.flatten(0, 1)])
    rvq = run.part("rvq")
    rvq.fit(embeddings, settings.seed)  # type: ignore[operator]
    held_out = features.audio_embeddings(run.validation_corpus, joint, settings.clip_s, weights)  # type: ignore[arg-type]
    decoded = rvq.decode(rvq.encode(held_out))  # type: ignore[operator]
    return rvq, {
        "embeddings": float(len(embeddings)),
        "held_out_cosine": float(torch.nn.functional.cosine_similarity(decoded, held_out, dim=-1).mean()),
    }


def _semantic(run: Run, stop_after: int | None) -> tuple[nn.Module, dict[str, float]]:
    recipe = Semantic(run.part("semantic"), run.settings("semantic"), run.train_corpus, run.validation_corpus)
    _fit(recipe, run, "semantic", stop_after)
    recipe.fit_codebook()
    return recipe.trained(), recipe.validate()


def _lm(run: Run, stop_after: int | None) -> tuple[nn.Module, dict[str, float]]:
    settings = run.settings("lm")
    (joint, joint_hash), (rvq, _) = run.finished("joint"), run.finished("rvq")
    tokenizer, tokenizer_hash = run.finished("semantic")

    def data(corpus: Corpus) -> TokenData:
        audio = features.audio_embeddings(corpus, joint, settings.clip_s, joint_hash)  # type: ignore[arg-type]
        text = features.text_embeddings(corpus, joint, settings.clip_s, joint_hash)  # type: ignore[arg-type]
        views = torch.cat([audio[:, None], text], dim=1)  # (segments, 3, E)
        prefixes = rvq.encode(views.flatten(0, 1)).unflatten(0, views.shape[:2])  # type: ignore[operator]
        return TokenData(prefixes, features.semantic_tokens(corpus, tokenizer, settings.clip_s, tokenizer_hash))  # type: ignore[arg-type]

    recipe = LanguageModelling(run.part("lm"), settings, data(run.train_corpus), data(run.validation_corpus))
    _fit(recipe, run, "lm", stop_after)
    return recipe.trained(), recipe.validate()


def _vae(run: Run, stop_after: int | None) -> tuple[nn.Module, dict[str, float]]:
    recipe = AudioVae(run.part("vae"), run.settings("vae"), run.train_corpus, run.validation_corpus)
    _fit(recipe, run, "vae", stop_after)
    return recipe.trained(), recipe.validate()


def _dpd(run: Run, stop_after: int | None) -> tuple[nn.Module, dict[str, float]]:
    settings = run.settings("dpd")
    (codec, codec_hash), (tokenizer, tokenizer_hash) = run.finished("vae"), run.finished("semantic")

    def data(corpus: Corpus) -> LatentData:
        return LatentData(
            features.latents(corpus, codec, settings.clip_s, codec_hash),  # type: ignore[arg-type]
            features.semantic_tokens(corpus, tokenizer, settings.clip_s, tokenizer_hash),  # type: ignore[arg-type]
        )

    chunks = run.preset.generation.chunks
    recipe = VelocityPrediction(run.part("dpd"), settings, data(run.train_corpus), data(run.validation_corpus), chunks)
    _fit(recipe, run, "dpd", stop_after)
    return recipe.trained(), recipe.validate()


_RECIPES: dict[str, Callable[[Run, int | None], tuple[nn.Module, dict[str, float]]]] = {
    "joint": _joint,
    "rvq": _rvq,
    "semantic": _semantic,
    "lm": _lm,
    "vae": _vae,
    "dpd": _dpd,
}
