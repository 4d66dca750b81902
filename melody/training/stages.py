"""``melody train``: the stages in the order of what each needs, their inputs, and what they leave behind.

A run folder holds a folder a stage with its settings, checkpoint and history, ``weights/`` and ``weights/card.json``,
and ``config.json`` with the whole preset.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from melody.artifacts.files import canonical, file_hash, write_bytes
from melody.artifacts.pretrained import write_config
from melody.artifacts.weights import save_weights
from melody.conditioning.words import words_of
from melody.config import STAGES, Preset, Stage, SystemPreset, load_preset, parse
from melody.data.corpus import Corpus
from melody.data.loading import load_corpus
from melody.errors import MelodyError, MelodyWarning, did_you_mean
from melody.pipeline import (
    build_part,
    has_weights,
    inherited_file,
    latent_statistics,
    load_part,
    shipped_bases,
    shipped_weights,
)
from melody.training import features
from melody.training.card import add_stage, bind_stage, is_finished
from melody.training.dpd import AudioPreview, LatentData, VelocityPrediction
from melody.training.fit import fit
from melody.training.hardware import Hardware
from melody.training.joint import Joint
from melody.training.lm import LanguageModelling, TokenData
from melody.training.recipe import Recipe
from melody.training.requirements import check_trainable
from melody.training.semantic import Semantic
from melody.training.shares import barrier, is_main
from melody.training.vae import AudioVae

NEEDS: dict[str, tuple[str, ...]] = {
    "joint": (),
    "rvq": ("joint",),
    "semantic": (),
    "lm": ("joint", "rvq", "semantic"),
    "vae": (),
    "dpd": ("vae", "semantic"),
}
"""Stage -> the stages that it builds on."""

RVQ_EMBEDDINGS = 1 << 20


def with_settings(preset: Any, **settings: Any) -> Any:
    """Any system's preset with settings of all its stages (``precision`` …) that are not None."""
    chosen = {name: value for name, value in settings.items() if value is not None}
    if not chosen or preset.training is None:
        return preset
    tables = {name: getattr(preset.training, name) for name in type(preset.training).model_fields}
    stages = {
        name: parse(type(table), {**table.model_dump(), **chosen}, f"training.{name}")
        for name, table in tables.items()
        if isinstance(table, Stage)
    }
    return preset.model_copy(update={"training": preset.training.model_copy(update=stages)})


Figures = dict[str, float]
Finish = Callable[[], tuple[nn.Module, Figures]]
"""What the main process does when a stage's steps are done: the part to keep, and its figures on held-out data."""


@dataclass(frozen=True)
class StageGraph:
    """Stages of one system in the order of what each needs, so that baselines train by the same machinery as MeLoDy."""

    preset_type: type[SystemPreset]
    parts: Mapping[str, str]
    """Stage -> the part that it trains."""
    needs: Mapping[str, tuple[str, ...]]
    """Stage -> the stages that it builds on."""
    recipes: Mapping[str, Callable[[TrainingRun, int | None], Finish]]
    shared: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Stage -> parts of MeLoDy that it uses as they are, so that conditioning is equal."""


class TrainingRun:
    """One preset, one corpus, one folder.

    Args:
        strict: refuse a corpus with files that cannot be used, instead of leaving them out with a note.
        weights: where parts of earlier stages are found that this folder has not.
        max_clips: of either split, at most: for a try.
        plan: the system's stages; MeLoDy's if not given. The preset is one of that system.
    """

    def __init__(
        self,
        preset: Any,
        data: str | Path,
        folder: Path,
        hardware: Hardware | None = None,
        *,
        strict: bool = False,
        weights: Path | None = None,
        max_clips: int | None = None,
        plan: StageGraph | None = None,
    ) -> None:
        self.plan = plan or MELODY
        if preset.training is None:
            raise MelodyError(f"preset {preset.name!r} has no [training] table")
        self.preset, self.data, self.folder, self.hardware = preset, data, folder, hardware or Hardware()
        self.weights = weights
        every_clip, held_out = (load_corpus(data, split=split, report=True) for split in ("train", "validation"))
        self.faults, self.unlisted = every_clip.faults, every_clip.left_out
        self.train_corpus = every_clip if max_clips is None else every_clip[:max_clips]
        self.validation_corpus = held_out if max_clips is None else held_out[:max_clips]
        if self.faults and strict:
            raise MelodyError(f"{self.left_out()[0]}; without --strict they are left out")

    def left_out(self) -> list[str]:
        """Lines on the corpus's files that are not trained on: how many, and each with its reason."""
        lines = [f"{fault.file}: {fault.reason}" for fault in self.faults]
        names = ", ".join(fault.file for fault in self.faults[:3]) + (" …" if len(self.faults) > 3 else "")
        if lines:
            lines.insert(0, f"{len(lines)} files of {self.data} cannot be used: {names}")
        if self.unlisted:
            names = ", ".join(self.unlisted)
            lines.append(f"{len(self.unlisted)} audio files of {self.data} are not in its metadata.csv: {names}")
        return lines

    def settings(self, stage: str) -> Any:
        """The stage's table of the preset; raises ``MelodyError`` if it has none."""
        settings = getattr(self.preset.training, stage, None)
        if settings is None:
            raise MelodyError(f"preset {self.preset.name!r} has no [training.{stage}] table")
        return settings

    def weights_path(self, part: str) -> Path:
        return self.folder / "weights" / f"{part}.safetensors"

    def part(self, stage: str) -> nn.Module:
        """A fresh part with the stage's seed."""
        torch.manual_seed(self.settings(stage).seed)
        return build_part(self.preset, self.plan.parts[stage])

    def bind(self, stage: str) -> None:
        """Refuse to go on in a folder that was begun with another component, other settings, data or earlier parts."""
        plan = self.plan
        needs = {plan.parts[n]: self.finished_path(n) for n in plan.needs[stage] if self.is_trained(n)}
        places = (self.folder / "weights", self.weights)
        if shipped := [part for part, path in needs.items() if path.parent not in places]:
            told = f"neither {self.folder} nor --weights has {', '.join(shipped)}: stage {stage!r} uses those shipped"
            warnings.warn(told, MelodyWarning, stacklevel=2)
        needs |= {part: self.shared_path(part) for part in plan.shared.get(stage, ())}
        bind_stage(
            self.folder / stage,
            self.preset.name,
            component=self.preset.component_of(plan.parts[stage]),
            settings=self.settings(stage),
            data=[self.train_corpus.content_hash(), self.validation_corpus.content_hash()],
            needs={part: file_hash(path) for part, path in needs.items()},
        )

    def is_trained(self, stage: str) -> bool:
        """Whether a stage's part has weights at all: a component without parameters is used as it is."""
        return has_weights(self.preset, self.plan.parts[stage])

    def shared_path(self, part: str) -> Path:
        """Weights of a part of MeLoDy that another system uses; raises ``MelodyError`` if there are none."""
        path = shipped_weights(load_preset(self.preset.melody)) / f"{part}.safetensors"
        if not path.is_file():
            raise MelodyError(f"{part} of MeLoDy is used as it is, but {path} is missing")
        return path

    def finished_path(self, stage: str) -> Path:
        """Weights of an earlier stage: of this run, of ``weights``, or as shipped with the preset's base.

        Raises:
            MelodyError: there are none.
        """
        part = self.plan.parts[stage]
        path = self.weights_path(part)
        if not path.is_file() and self.weights is not None:
            path = self.weights / path.name
        if not path.is_file():
            path = inherited_file(self.preset, part, shipped_bases(self.preset)) or path
        if not path.is_file():
            raise MelodyError(f"stage {stage!r} must be trained first: {path} is missing (melody train {stage})")
        return path

    def finished(self, stage: str) -> tuple[Any, str]:
        """The part of an earlier stage with its weights, and their hash; raises ``MelodyError`` if there are none."""
        part = self.plan.parts[stage]
        if not self.is_trained(stage):
            return build_part(self.preset, part), canonical(self.preset.component_of(part)).decode()
        return self._loaded(self.preset, part, self.finished_path(stage))

    def shared(self, part: str) -> tuple[Any, str]:
        """A part of MeLoDy that another system uses, and its hash; raises ``MelodyError`` if there are no weights."""
        return self._loaded(load_preset(self.preset.melody), part, self.shared_path(part))

    def _loaded(self, preset: SystemPreset, part: str, path: Path) -> tuple[Any, str]:
        module = load_part(preset, part, path).eval().requires_grad_(False)
        return module.to(self.hardware.device), file_hash(path)


def train(stage: str, run: TrainingRun, *, stop_after: int | None = None) -> None:
    """Train one stage, or ``all``, and leave weights and card entry in the run folder; what is finished stays.

    Every process runs this; the main one alone writes.

    Raises:
        MelodyError: unknown stage, a missing earlier stage, another preset's folder, losses that are not finite.
    """
    plan = run.plan
    if stage != "all" and stage not in plan.parts:
        raise MelodyError(f"unknown stage {stage!r}{did_you_mean(stage, [*plan.parts, 'all'])}")
    names = [name for name in plan.parts if run.is_trained(name)] if stage == "all" else [stage]
    for name in names:
        check_trainable(run.preset, name)
    # Known before the first begins, so that all processes skip the same.
    finished = [n for n in names if is_finished(run.folder, n, run.weights_path(plan.parts[n]), run.settings(n))]
    for name in names:
        begin = time.perf_counter()
        run.bind(name)
        if name in finished:  # made again, its weights might differ by rounding, and what was built on them be refused
            continue
        if is_main():
            write_config(run.folder, run.preset.tables())
        finish = plan.recipes[name](run, stop_after)
        if stop_after is not None and stop_after < getattr(run.settings(name), "steps", 0):
            return
        if is_main():
            _leave(run, name, finish, begin)
        barrier()


def _leave(run: TrainingRun, stage: str, finish: Finish, begin: float) -> None:
    """Write a finished stage's weights and its entry in the card."""
    module, figures = finish()
    part = run.plan.parts[stage]
    component = run.preset.component_of(part)
    save_weights(module, run.weights_path(part), component, preset=run.preset.name)
    add_stage(
        run.folder,
        stage=stage,
        part=part,
        module=module,
        settings=run.settings(stage),
        corpora=(run.train_corpus, run.validation_corpus),
        seconds=time.perf_counter() - begin,
        figures=figures,
        weights=run.weights_path(part),
        words=_caption_words(run.train_corpus) if part == "joint_embedder" else None,
        latents=latent_statistics(run.finished("vae")[0]) if part == "denoiser" else None,
    )


def _caption_words(corpus: Corpus) -> list[str]:
    """Every word of the captions and tags that stage ``joint`` learns from."""
    return sorted(words_of(text for index in range(len(corpus)) for text in features.texts_of(corpus, index)))


def fit_stage(recipe: Recipe, run: TrainingRun, stage: str, stop_after: int | None) -> None:
    """Run a stage's recipe to its end, in the stage's folder."""
    fit(recipe, run.folder / stage, title=f"train {stage}", hardware=run.hardware, stop_after=stop_after)


def _joint(run: TrainingRun, stop_after: int | None) -> Finish:
    recipe = Joint(run.part("joint"), run.settings("joint"), run.train_corpus, run.validation_corpus)
    fit_stage(recipe, run, "joint", stop_after)
    return lambda: (recipe.trained(), recipe.validate())


def _rvq(run: TrainingRun, stop_after: int | None) -> Finish:
    """Codebooks over embeddings of audio, captions and tags alike, for all three may be the prompt."""
    settings, (joint, weights) = run.settings("rvq"), run.finished("joint")
    # In every process, though one computes them: the others wait at the cache, which has no time limit.
    audio = features.audio_embeddings(run.train_corpus, joint, settings.clip_s, weights)
    text = features.text_embeddings(run.train_corpus, joint, settings.clip_s, weights)
    held_out = features.audio_embeddings(run.validation_corpus, joint, settings.clip_s, weights)

    def finish() -> tuple[nn.Module, Figures]:
        embeddings = _at_most(RVQ_EMBEDDINGS, torch.cat([audio, text.flatten(0, 1)]), settings.seed)
        rvq = run.part("rvq")
        rvq.fit(embeddings, settings.seed)  # type: ignore[operator]
        decoded = rvq.decode(rvq.encode(held_out))  # type: ignore[operator]
        cosine = torch.nn.functional.cosine_similarity(decoded, held_out, dim=-1).mean()
        return rvq, {"embeddings": float(len(embeddings)), "held_out_cosine": float(cosine)}

    return finish


def _at_most(count: int, rows: Tensor, seed: int) -> Tensor:
    """All rows, or ``count`` of them drawn by the seed: more do not move the centroids."""
    if len(rows) <= count:
        return rows
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:count]]


def _semantic(run: TrainingRun, stop_after: int | None) -> Finish:
    recipe = Semantic(run.part("semantic"), run.settings("semantic"), run.train_corpus, run.validation_corpus)
    fit_stage(recipe, run, "semantic", stop_after)

    def finish() -> tuple[nn.Module, Figures]:
        recipe.fit_codebook()
        return recipe.trained(), recipe.validate()

    return finish


def _lm(run: TrainingRun, stop_after: int | None) -> Finish:
    settings = run.settings("lm")
    (joint, joint_hash), (rvq, _) = run.finished("joint"), run.finished("rvq")
    tokenizer, tokenizer_hash = run.finished("semantic")

    def data(corpus: Corpus) -> TokenData:
        audio = features.audio_embeddings(corpus, joint, settings.clip_s, joint_hash)
        text = features.wording_embeddings(corpus, joint, settings.clip_s, joint_hash)
        prefixes = features.prefixes(audio, text, rvq)
        return TokenData(prefixes, features.semantic_tokens(corpus, tokenizer, settings.clip_s, tokenizer_hash))

    recipe = LanguageModelling(run.part("lm"), settings, data(run.train_corpus), data(run.validation_corpus))
    fit_stage(recipe, run, "lm", stop_after)
    return lambda: (recipe.trained(), recipe.validate())


def _vae(run: TrainingRun, stop_after: int | None) -> Finish:
    recipe = AudioVae(run.part("vae"), run.settings("vae"), run.train_corpus, run.validation_corpus)
    fit_stage(recipe, run, "vae", stop_after)
    return lambda: (recipe.trained(), recipe.validate())


def _dpd(run: TrainingRun, stop_after: int | None) -> Finish:
    settings = run.settings("dpd")
    (codec, codec_hash), (tokenizer, tokenizer_hash) = run.finished("vae"), run.finished("semantic")

    def data(corpus: Corpus) -> LatentData:
        tokens = features.semantic_tokens(corpus, tokenizer, settings.clip_s, tokenizer_hash)
        if settings.latents == "mean":
            return LatentData(features.latents(corpus, codec, settings.clip_s, codec_hash), tokens)
        moments = features.distributions(corpus, codec, settings.clip_s, codec_hash)
        return LatentData(moments[:, 0], tokens, deviations=moments[:, 1])

    chunks = run.preset.generation.chunks
    train_data, validation_data = data(run.train_corpus), data(run.validation_corpus)
    preview = AudioPreview(codec, run.preset.generation)
    recipe = VelocityPrediction(run.part("dpd"), settings, train_data, validation_data, chunks, preview)
    fit_stage(recipe, run, "dpd", stop_after)

    def finish() -> tuple[nn.Module, Figures]:
        scored = recipe.table5()
        facts = {
            "protocol": "Table 5 on held-out latents: one stratified angle an item, with tokens, without guidance",
            "denoiser": run.preset.component_of("denoiser"),
            "items": len(scored.angle),
            "seed": settings.seed,
            **scored.means(),
            "by_angle": scored.by_angle(),
        }
        write_bytes(run.folder / "dpd" / "table5.json", json.dumps(facts, indent=1).encode())
        table5 = {f"table5_{name}": value for name, value in scored.means().items()}
        return recipe.trained(), {**recipe.validate(), **table5}

    return finish


MELODY = StageGraph(
    Preset,
    parts=STAGES,
    needs=NEEDS,
    recipes={"joint": _joint, "rvq": _rvq, "semantic": _semantic, "lm": _lm, "vae": _vae, "dpd": _dpd},
)
