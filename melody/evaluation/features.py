"""What is computed of one sound and kept: embeddings, logits, a joint embedding, a metric's states.

A feature's key names all that decides it but the sound: component, version, source, arguments, weights, libraries, the
kind of device, and how files are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import soundfile
import torch
from torch import Tensor

from melody.artifacts.code_identity import source_hash
from melody.artifacts.files import canonical, file_hash
from melody.artifacts.provenance import component_facts, deciding_versions, device_class, versions
from melody.checks import check_finite
from melody.config import load_preset, preset_names
from melody.data.recordings import AudioInfo
from melody.devices import device_of
from melody.errors import MelodyError, did_you_mean
from melody.evaluation.feature_store import Tensors
from melody.metrics.base import dim_zero_cat
from melody.pipeline import load_part, shipped_weights
from melody.protocols import JointEmbedder
from melody.registry import Registry, audio_embedders, audio_taggers, parse_component

LIBRARIES = ("laion-clap", "torchvision", "torchlibrosa")
"""Distributions that embedders run on beside those that decide every number."""


@dataclass(frozen=True)
class Feature:
    """Something of a sound: what it is called, its key, the rate that it hears (``None``: the file's own)."""

    label: str
    key: str
    sample_rate: int | None
    compute: Callable[[Tensor, AudioInfo], Tensors]
    """``compute(waveform, what the file is)``, of the mix ``(T,)`` at the rate or of the file ``(C, T)`` as it is."""
    hears: Literal["mix", "file"] = "mix"


@dataclass(frozen=True)
class FeatureExtractor:
    """An embedder, tagger or joint model with its feature."""

    name: str
    facts: dict[str, Any]
    feature: Feature
    dimension: int
    """Width of its vectors, or number of its labels."""
    model: Any


@cache
def reading_hash() -> str:
    """Hash of all code that reads files."""
    return source_hash("melody.data.recordings")


def key_of(facts: Mapping[str, Any], device: str = "cpu") -> str:
    """Short hash of all that decides a feature."""
    whole = {
        **facts,
        "reading": reading_hash(),
        "versions": {**deciding_versions(), **versions(LIBRARIES), "libsndfile": soundfile.__libsndfile_version__},
        "device": device_class(device),
    }
    return hashlib.sha256(canonical(whole)).hexdigest()[:24]


def embedder_extractor(text: str, device: str) -> FeatureExtractor:
    """Windows of an audio embedder; raises ``MelodyError`` if it is unknown or cannot be loaded."""
    embedder, facts = _created(audio_embedders, text, device)

    def embed(waveform: Tensor, _: AudioInfo) -> Tensors:
        with torch.inference_mode(), audio_embedders.around(facts["name"]):
            return {"vectors": checked_windows(embedder.embed(waveform), facts["name"], embedder.dimension)}

    return _source(audio_embedders, text, embedder, facts, "dimension", embed, device)


def tagger_extractor(text: str, device: str) -> FeatureExtractor:
    """Logits of an audio tagger; raises ``MelodyError`` as ``embedder_extractor`` does."""
    tagger, facts = _created(audio_taggers, text, device)

    def tag(waveform: Tensor, _: AudioInfo) -> Tensors:
        with torch.inference_mode(), audio_taggers.around(facts["name"]):
            return {"vectors": checked_windows(tagger.tag(waveform), facts["name"], len(tagger.labels))}

    return _source(audio_taggers, text, tagger, facts, "labels", tag, device)


def checked_windows(values: Any, name: str, width: int) -> Tensor:
    """What an embedder or a tagger gave of one clip: float32, with no half precision, which overflows above 65,504.

    Raises:
        MelodyError: no tensor ``(windows, width)``, no window, complex numbers, NaN or infinity.
    """
    if not isinstance(values, Tensor):
        raise MelodyError(f"{name} gave {type(values).__name__}; expected a tensor (windows, {width})")
    if values.ndim != 2 or len(values) == 0 or values.shape[1] != width:
        raise MelodyError(f"{name} gave shape {tuple(values.shape)}; expected (windows, {width}), at least one window")
    if values.is_complex():
        raise MelodyError(f"{name} gave {values.dtype}; expected real numbers")
    numbers = values.detach().to("cpu", torch.float32).contiguous()
    check_finite(numbers, f"{name}: what it gave")
    return numbers


def joint_extractor(name: str, device: str) -> FeatureExtractor:
    """The joint embedding of a preset with weights, or of a folder or hub id of model files."""
    joint, identity = _joint(name, device)

    def embed(waveform: Tensor, _: AudioInfo) -> Tensors:
        with torch.inference_mode():
            return {"vectors": joint.embed_audio(waveform[None, None].to(device_of(device))).float().cpu()}

    facts = {"sample_rate": joint.sample_rate, "dimension": joint.embedding_dim, **identity}
    feature = Feature(f"joint embedding of {name}", key_of({"joint": identity}, device), joint.sample_rate, embed)
    return FeatureExtractor(
        f"melody-{name}" if name in preset_names() else name, facts, feature, joint.embedding_dim, joint
    )


def _joint(name: str, device: str) -> tuple[JointEmbedder, dict[str, Any]]:
    if name in preset_names():
        preset = load_preset(name)
        path = shipped_weights(preset) / "joint_embedder.safetensors"
        if not path.is_file():
            raise MelodyError(f"preset {name!r} has no weights of a joint embedding{did_you_mean('demo', ['demo'])}")
        part: Any = load_part(preset, "joint_embedder", path).eval().to(device_of(device))
        arguments = preset.joint_embedder.arguments
        return part, {
            "weights_hash": file_hash(path),
            "source": source_hash(type(part).__module__),
            "arguments": arguments,
        }
    loaded = JointEmbedder.from_pretrained(name, device=device)
    digest = hashlib.sha256()
    for key, tensor in sorted(loaded.state_dict().items()):  # type: ignore[attr-defined]
        digest.update(f"{key}:".encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    where = Path(name).name if Path(name).is_dir() else name
    return loaded, {"model": where, "weights_hash": digest.hexdigest(), "source": source_hash(type(loaded).__module__)}


def _created(registry: Registry, text: str, device: str) -> tuple[Any, dict[str, Any]]:
    name, arguments = parse_component(text)
    accepted = {parameter.name for parameter in registry.parameters(name)}
    given = {"device": device, **arguments} if "device" in accepted else arguments
    component = registry.create(name, given, where=f"{registry.label} {text!r}")
    with registry.around(name):
        facts = {**component.identity(), "name": name}
        try:
            canonical(facts)
        except MelodyError as error:
            raise MelodyError(f"{registry.label} {text!r}: identity() holds what is {error}") from None
        return component, facts


def _source(
    registry: Registry,
    text: str,
    component: Any,
    facts: dict[str, Any],
    width: str,
    compute: Callable[[Tensor, AudioInfo], Tensors],
    device: str,
) -> FeatureExtractor:
    key = key_of({**_made_of(registry, text, facts), "facts": facts}, device)
    feature = Feature(f"{registry.label} {facts['name']}", key, component.sample_rate, compute)
    size = getattr(component, width)
    dimension = size if isinstance(size, int) else len(size)
    shown = {**facts, width: size} if width == "dimension" else {**facts, "labels": dimension}
    return FeatureExtractor(facts["name"], shown, feature, dimension, component)


def _made_of(registry: Registry, text: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """A component's code and arguments, which decide its numbers, whatever it says of itself."""
    name, arguments = parse_component(text)
    # Where weights have a hash, it decides, and not the place that they were read from.
    elsewhere = {"device", "weights"} if facts.get("weights_hash") else {"device"}
    decisive = {argument: value for argument, value in arguments.items() if argument not in elsewhere}
    return {"component": component_facts(registry, name), "arguments": decisive}


def states_of(metric: Any) -> Tensors:
    """A metric's states as tensors by name; lists are concatenated."""
    found = metric.metric_state
    return {name: dim_zero_cat(state) if isinstance(state, list) else state for name, state in found.items()}
