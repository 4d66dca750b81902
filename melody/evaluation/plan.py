"""Which numbers an evaluation has: every metric by what it takes, with each embedder or model that it needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from melody.artifacts.provenance import component_facts
from melody.data.recordings import AudioInfo
from melody.errors import MelodyError, did_you_mean
from melody.evaluation.feature_store import Tensors
from melody.evaluation.features import (
    Feature,
    FeatureExtractor,
    embedder_extractor,
    joint_extractor,
    key_of,
    states_of,
    tagger_extractor,
)
from melody.protocols import InputKind
from melody.registry import metrics as registered

FED = ("embeddings", "waveforms", "waveform_pairs", "text_audio_embeddings", "labels", "label_pairs")
"""What a folder of sounds can give a metric."""


@dataclass(frozen=True)
class AvailableInputs:
    """What an evaluation has beside the generated sounds."""

    reference: bool
    captions: bool
    pairs: bool


@dataclass(frozen=True)
class MetricRun:
    """One row of the table: a metric, and where its vectors come from."""

    name: str
    metric: str
    arguments: dict[str, Any]
    source: FeatureExtractor | None
    feature: Feature | None
    """Of waveforms: the metric's states of one clip."""
    key: str

    @property
    def component(self) -> Any:
        return registered.get(self.metric)

    @property
    def from_elsewhere(self) -> bool:
        """Whether a plug-in computes it, which may fail in any way."""
        return not registered.entry(self.metric).in_tree

    @property
    def input_kind(self) -> InputKind:
        input_kind: InputKind = self.component.input_kind
        return input_kind

    @property
    def sample_rate(self) -> int | None:
        """Rate that a metric of waveforms is given, in Hz; ``None`` for the files' own."""
        return self.feature.sample_rate if self.feature else None

    def create(self) -> Any:
        """The metric, empty, and ready to be merged with others of its kind."""
        return registered.create(self.metric, self.arguments)


@dataclass(frozen=True)
class MetricPlan:
    """The rows of a table, and what must be known of each sound for them."""

    runs: tuple[MetricRun, ...]
    notes: tuple[str, ...] = ()

    def features(self, *, reference: bool = False) -> list[Feature]:
        """What to compute of each sound, once for all metrics; of the reference, no joint embedding."""
        features: dict[str, Feature] = {}
        for run in self.runs:
            feature = run.source.feature if run.source else run.feature
            wanted = run.input_kind not in (
                ("waveform_pairs", "text_audio_embeddings") if reference else ("waveform_pairs",)
            )
            if feature is not None and wanted:
                features[feature.key] = feature
        return list(features.values())

    def without(self, run: MetricRun) -> MetricPlan:
        """All but one row."""
        return replace(self, runs=tuple(kept for kept in self.runs if kept is not run))

    def of(self, *input_kind: str) -> list[MetricRun]:
        return [run for run in self.runs if run.input_kind in input_kind]


def make_plan(
    metrics: Sequence[str] | None,
    given: AvailableInputs,
    *,
    embedders: Sequence[str],
    taggers: Sequence[str],
    joint: str,
    device: str,
) -> MetricPlan:
    """Choose the rows: the named metrics, or all that can be had from what is given.

    Raises:
        MelodyError: an unknown metric, embedder, tagger or joint model; a named metric that lacks what it takes.
    """
    names, notes = _chosen(metrics, given, bool(taggers))
    kinds = {registered.get(name).input_kind for name in names}
    windows = [embedder_extractor(text, device) for text in dict.fromkeys(embedders)] if "embeddings" in kinds else []
    tagged = kinds & {"labels", "label_pairs"}
    labels = [tagger_extractor(text, device) for text in dict.fromkeys(taggers)] if tagged else []
    texts = [joint_extractor(joint, device)] if "text_audio_embeddings" in kinds else []
    windows, labels = _named_apart(windows, embedders), _named_apart(labels, taggers)
    sources = {"embeddings": windows, "labels": labels, "label_pairs": labels, "text_audio_embeddings": texts}
    runs: list[MetricRun] = []
    for name in names:
        try:
            runs += _runs_of(name, sources, device)
        except MelodyError as error:
            if metrics or registered.entry(name).in_tree:
                raise
            notes.append(f"metric {name!r} from {registered.entry(name).origin} is not measured: {error}")
    return MetricPlan(tuple(runs), tuple(notes))


def _runs_of(name: str, sources: Mapping[str, Sequence[FeatureExtractor]], device: str) -> list[MetricRun]:
    input_kind = registered.get(name).input_kind
    if input_kind not in sources:
        return [of_waveforms(name, input_kind, device)]
    runs = [run_on_vectors(name, source.name, source.dimension, source) for source in sources[input_kind]]
    for run in runs:
        run.create()
    return runs


def _named_apart(sources: Sequence[FeatureExtractor], texts: Sequence[str]) -> list[FeatureExtractor]:
    """The sources; those of one name by all that was written of them, so that no row hides another."""
    counts = Counter(source.name for source in sources)
    pairs = zip(sources, dict.fromkeys(texts), strict=False)
    return [source if counts[source.name] == 1 else replace(source, name=text) for source, text in pairs]


def _chosen(metrics: Sequence[str] | None, given: AvailableInputs, tagged: bool) -> tuple[list[str], list[str]]:
    if metrics:
        for name in dict.fromkeys(metrics):
            if (lack := _lack(name, given, tagged)) is not None:
                raise MelodyError(f"metric {name!r} {lack}")
        return list(dict.fromkeys(metrics)), []
    fed = [name for name in registered.names() if registered.get(name).input_kind in FED]
    lacking = {name: lack for name in fed if (lack := _lack(name, given, tagged)) is not None}
    notes = [
        f"not measured, each {lack}: {', '.join(name for name in lacking if lacking[name] == lack)}"
        for lack in dict.fromkeys(lacking.values())
    ]
    broken = [entry for entry in registered.entries() if entry.error]
    notes += [f"metric {entry.name!r} from {entry.origin} cannot be used: {entry.error}" for entry in broken]
    return [name for name in fed if name not in lacking], notes


def _lack(name: str, given: AvailableInputs, tagged: bool) -> str | None:
    """What a metric takes and does not get."""
    metric = registered.get(name)
    input_kind = metric.input_kind
    if input_kind not in FED:
        fed = [other for other in registered.names() if registered.get(other).input_kind in FED]
        return f"takes what no folder of sounds holds{did_you_mean('', fed)}"
    if input_kind in ("labels", "label_pairs") and not tagged:
        return "takes an audio tagger's labels: name one with --tagger"
    if input_kind in ("embeddings", "labels") and not given.reference and metric.needs_reference:
        return "takes a set of reference sounds: --reference"
    if input_kind in ("waveform_pairs", "label_pairs") and not given.pairs:
        return "takes pairs of one identifier in both folders: --reference"
    if input_kind == "text_audio_embeddings" and not given.captions:
        return "takes the sounds' texts: --captions"
    return None


def run_on_vectors(
    name: str, source_name: str = "", width: int | None = None, source: FeatureExtractor | None = None
) -> MetricRun:
    """A metric of vectors or logits of some width, by whose they are, or of texts and sounds."""
    accepted = {parameter.name for parameter in registered.parameters(name)} if width is not None else set()
    arguments: dict[str, Any] = {key: width for key in ("dimension", "num_labels") if key in accepted}
    return MetricRun(f"{name}[{source_name}]" if source_name else name, name, arguments, source, None, "")


def of_waveforms(name: str, input_kind: str, device: str) -> MetricRun:
    """A metric of waveforms or of pairs of them, with the states of one clip as its feature."""
    hears: Literal["mix", "file"] = registered.get(name).hears if input_kind == "waveforms" else "mix"
    rate = None if hears == "file" else getattr(registered.create(name), "sample_rate", None)
    facts = {"metric": component_facts(registered, name), "takes": input_kind, "sample_rate": rate, "hears": hears}
    key = key_of(facts, device)
    feature = Feature(name, key, rate, _states_of_one_clip(name, hears), hears)
    return MetricRun(name, name, {}, None, feature, key)


def _states_of_one_clip(name: str, hears: str) -> Callable[[Tensor, AudioInfo], Tensors]:
    accepted = {parameter.name for parameter in registered.parameters(name)} if hears == "file" else set()

    def compute(waveform: Tensor, facts: AudioInfo) -> Tensors:
        told = {"sample_rate": facts.sample_rate, "layout": facts.layout}
        with registered.around(name):
            metric = registered.create(name, {key: value for key, value in told.items() if key in accepted})
            metric.update(waveform.expand(1, 1, -1) if waveform.ndim == 1 else waveform[None])
            return _states_and_value(metric)

    return compute


def states_of_one_pair(run: MetricRun, preds: Tensor, target: Tensor) -> Tensors:
    """States and value of a pair of waveforms ``(T,)``, or of logits ``(windows, labels)``."""
    with registered.around(run.metric):
        metric = run.create()
        if run.input_kind == "waveform_pairs":
            metric.update(preds[None, None], target[None, None])
        else:
            metric.update(preds, target)
        return _states_and_value(metric)


def _states_and_value(metric: Any) -> Tensors:
    value = torch.as_tensor(metric.compute(), dtype=torch.float64).detach().reshape(())
    return {**states_of(metric), VALUE: value}


VALUE = "value of the clip"
"""Beside a metric's states: its value of one clip by itself. No state's name has spaces."""
