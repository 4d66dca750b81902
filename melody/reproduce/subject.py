"""A preset of ours as the system under test, on the embedded corpus."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from melody import __version__, registry
from melody.artifacts.code_identity import source_hash
from melody.artifacts.files import file_hash
from melody.artifacts.hub import local_folder
from melody.artifacts.provenance import makings_facts, weights_hash
from melody.baselines.melody_system import MelodySystem
from melody.bounds import MAX_RUN_SEED, shown
from melody.config import Preset, load_preset
from melody.data.embedded import DEFAULT_SIZES, distinct_prompts, embedded_corpus
from melody.data.loading import load_corpus
from melody.devices import device_of
from melody.errors import MelodyError, did_you_mean
from melody.pipeline import MelodyPipeline, check_weights
from melody.reproduce.context import Context
from melody.reproduce.requested import RequestedRow
from melody.reproduce.run_inputs import EvaluatedPreset, Parts, RunInputs, RunRequest
from melody.reproduce.systems import RunDefaults, systems_of

PUBLISHED_SAMPLES = "MELODY_PUBLISHED_SAMPLES"
"""Folder of published samples, where no option gives one."""
HELD_OUT = ("test", "validation", "test-2")
HELD_OUT_CLIPS = DEFAULT_SIZES["test"]
"""As many of any of them."""


def preset_context(
    preset: str | Path | Preset,
    request: RunRequest = RunRequest(),
    *,
    weights: str | Path | None = None,
    published_samples: Path | None = None,
    split: str = "test",
    systems: Sequence[str | RequestedRow] = (),
) -> Context:
    """Evaluate a preset of ours on the embedded corpus.

    Args:
        systems: others to compare with, beside those that are there by themselves: see ``systems_of``.
        split: the held-out split, ``test``, ``validation``, by which whoever steers by a number does so, or ``test-2``,
            which is for numbers by which nothing was chosen.
    Raises:
        MelodyError: unknown preset, split or system, missing weights, a negative seed, no such device or folder.
    """
    if split not in HELD_OUT:
        raise MelodyError(f"unknown held-out split {split!r}{did_you_mean(split, HELD_OUT)}")
    device_of(request.device)
    if published_samples is None and os.environ.get(PUBLISHED_SAMPLES):
        published_samples = Path(os.environ[PUBLISHED_SAMPLES])
    if not 0 <= request.seed <= MAX_RUN_SEED:
        raise MelodyError(f"the seed is {shown(request.seed)}: expected 0 or more, and below 2^32")
    for components, names in ((registry.samplers, request.samplers), (registry.grids, request.grids)):
        for name in names or ():
            if lacks := components.lacks(name):
                raise MelodyError(lacks)
    if published_samples is not None and not published_samples.is_dir():
        raise MelodyError(f"no folder of published samples: {published_samples}")
    loaded = preset if isinstance(preset, Preset) else load_preset(preset)
    inputs = RunInputs(
        preset_subject(loaded, weights, request.device),
        corpus_of=lambda: load_corpus("embedded", split=split, num_clips=HELD_OUT_CLIPS),
        prompts=lambda count: [clip.text for clip in distinct_prompts(count, split=split)],
        published_samples=published_samples,
        training_of=lambda count: load_corpus("embedded", split="train", num_clips=count),
        pieces_of=lambda duration_s: embedded_corpus(split, HELD_OUT_CLIPS, durations_s=(duration_s,)),
        others=systems_of(RunDefaults(loaded, request.device, weights), systems),
    )
    return Context(inputs, request)


def random_context(preset: str | Path | Preset, request: RunRequest) -> Context:
    """A preset without weights, for tables of what does not depend on them; it has no corpus and no prompts.

    Raises:
        MelodyError: unknown preset, no such device.
    """
    device_of(request.device)
    loaded = preset if isinstance(preset, Preset) else load_preset(preset)

    def nothing(*_: object) -> NoReturn:
        raise MelodyError(f"preset {loaded.name!r} was asked for without weights: this table needs them")

    subject = EvaluatedPreset(
        preset=loaded.label,
        denoiser=loaded.denoiser.use,
        weights=None,
        facts={"melody": __version__, "preset": loaded.hash()},
        load=nothing,
        definition=loaded,
        capabilities=MelodySystem.capabilities,
        options=MelodySystem.options,
    )
    return Context(RunInputs(subject, corpus_of=nothing, prompts=nothing), request)


def preset_subject(preset: str | Path | Preset, weights: str | Path | None, device: str) -> EvaluatedPreset:
    """A preset as the system under test; its weights are hashed now and loaded when needed."""
    loaded = preset if isinstance(preset, Preset) else load_preset(preset)
    folder = None if weights is None else local_folder(weights)
    made = MelodySystem.makings({"preset": loaded, "weights": folder})
    check_weights(loaded, made.weights)
    folders = tuple(dict.fromkeys(path.parent for path in made.weights.values()))
    hashes = {part: file_hash(path) for part, path in made.weights.items()}
    digest = weights_hash(hashes)

    def load() -> Parts:
        pipeline = MelodyPipeline.from_preset(loaded, weights=folder, device=device)
        if pipeline.weights_hash != digest:
            raise MelodyError(f"the weights in {', '.join(map(str, folders))} changed during the run")
        return Parts(
            MelodySystem.around(pipeline),
            pipeline.joint_embedder,
            pipeline.codec,
            pipeline.semantic_tokenizer,
            pipeline.denoiser,
            pipeline.rvq,
            pipeline.language_model,
        )

    return EvaluatedPreset(
        preset=loaded.label,
        denoiser=loaded.denoiser.use,
        weights=digest,
        facts={"melody": __version__, **makings_facts(made), "pipeline": source_hash("melody.pipeline")},
        load=load,
        part_weights=hashes,
        folders=folders,
        definition=loaded,
        capabilities=MelodySystem.capabilities,
        options=MelodySystem.options,
    )
