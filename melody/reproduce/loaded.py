"""What a run has loaded so far, each once: jobs compute with it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from melody.data.audio import resampled
from melody.data.corpus import Corpus
from melody.data.recordings import AudioInfo
from melody.errors import MelodyError, one_line
from melody.evaluation.features import FeatureExtractor, checked_windows, joint_extractor, tagger_extractor
from melody.metrics.attributes import AttributeClassifiers
from melody.protocols import AudioEmbedder, System
from melody.registry import audio_embedders
from melody.reproduce.attribute_classifiers import trained_classifiers
from melody.reproduce.run_inputs import Parts, RunInputs
from melody.reproduce.suite import JOINT, TAGGER
from melody.reproduce.systems import OWN, SystemEntry

SEED_STRIDE = 10_000
"""Row r of seed s draws from stream s · 10,000 + r, so that rows of two seeds share no noise: a choice of ours."""


class Loaded:
    """Parts, systems, corpora, judges and embedders of a run, on a device.

    Args:
        tell: takes what is being done that is no job, with how many of how many.
    """

    def __init__(self, inputs: RunInputs, device: str, tell: Callable[..., None]) -> None:
        self.inputs = inputs
        self.device = device
        self.tell = tell
        self._system: tuple[str, System] | None = None
        self._broken: dict[str, str] = {}
        self._pieces: dict[float, Corpus] = {}
        self._training: dict[int, Corpus] = {}
        self._classifiers: dict[int, AttributeClassifiers] = {}
        self._embedders: dict[str, AudioEmbedder] = {}
        self._extractors: dict[str, FeatureExtractor] = {}

    @cached_property
    def parts(self) -> Parts:
        return self.inputs.subject.load()

    def load(self) -> None:
        """Load what was asked for now, so that weights which cannot be loaded end the run and not every cell."""
        self.tell("loading weights")
        _ = self.parts
        for name, entry in self.inputs.others.items():
            if entry.required:
                self.system(name)

    @cached_property
    def systems(self) -> dict[str, SystemEntry]:
        """Every system of the run by its name in the tables, the preset's own first."""
        subject = self.inputs.subject
        own = SystemEntry(
            OWN, OWN, subject.capabilities, subject.options, load=lambda: self.parts.system, required=True
        )
        return {OWN: own, **self.inputs.others}

    @property
    def compared(self) -> list[str]:
        """Names of the other systems that are rows of every table of systems."""
        return [name for name, entry in self.inputs.others.items() if entry.is_row]

    def system(self, name: str) -> System:
        """A loaded system. Beside the preset's own, whose parts measure the others too, one is in memory at a time."""
        if name == OWN:
            return self.parts.system
        if name in self._broken:
            raise MelodyError(self._broken[name])
        if self._system is None or self._system[0] != name:
            self._system = None
            gc.collect()
            self.tell(f"loading system {name}")
            try:
                self._system = (name, self.systems[name].load())
            except (Exception, SystemExit) as error:  # another project's system may fail in any way
                self._broken[name] = f"system {name!r} cannot be loaded: {one_line(error)}"
                raise MelodyError(self._broken[name]) from error
        return self._system[1]

    @cached_property
    def corpus(self) -> Corpus:
        return self.inputs.corpus_of()

    def pieces(self, duration_s: float) -> Corpus:
        """Held-out pieces of ``duration_s`` or more: the corpus, or where its clips are shorter, longer ones.

        Raises:
            MelodyError: the clips are shorter, and the run has no others.
        """
        if duration_s <= self.corpus[0].duration_s:
            return self.corpus
        if self.inputs.pieces_of is None:
            raise MelodyError(
                f"{self.corpus.name}: clips of {self.corpus[0].duration_s:g} s, and none of {duration_s:g} s"
            )
        if duration_s not in self._pieces:
            self._pieces[duration_s] = self.inputs.pieces_of(duration_s)
        return self._pieces[duration_s]

    def training(self, clips: int) -> Corpus:
        """Training clips; raises ``MelodyError`` where the run has none."""
        if self.inputs.training_of is None:
            raise MelodyError("this run has no training split, from which judges and n-gram models learn")
        if clips not in self._training:
            self._training[clips] = self.inputs.training_of(clips)
        return self._training[clips]

    def attribute_classifiers(self, clips: int) -> AttributeClassifiers:
        """Judges of attributes that learnt from so many training clips, trained once."""
        if clips not in self._classifiers:
            self._classifiers[clips] = trained_classifiers(self.training(clips), self._tell_classifiers)
        return self._classifiers[clips]

    def _tell_classifiers(self, done: int, total: int) -> None:
        """They learn when all is heard."""
        self.tell("judges of attributes: " + ("hearing training clips" if done < total else "learning"), done, total)

    def extractor(self, name: str) -> FeatureExtractor:
        """An audio tagger or a joint embedder by its name in jobs, built once."""
        if name not in self._extractors:
            tagger = name.startswith(TAGGER)
            make = tagger_extractor if tagger else joint_extractor
            self._extractors[name] = make(name.removeprefix(TAGGER if tagger else JOINT), self.device)
        return self._extractors[name]

    def embedder(self, name: str) -> AudioEmbedder:
        """An audio embedder by name, built once."""
        if name not in self._embedders:
            self._embedders[name] = audio_embedders.create(name)
        return self._embedders[name]

    def embed_joint(self, waveform: Tensor, sample_rate: int) -> Tensor:
        """Clips ``(B, 1, T)`` -> joint embeddings ``(B, E)``."""
        joint = self.parts.joint_embedder
        rows = [resampled(row[0].cpu(), sample_rate, joint.sample_rate) for row in waveform]
        with torch.inference_mode():
            return joint.embed_audio(torch.stack(rows)[:, None].to(self.device)).cpu()

    def embed_text(self, texts: Sequence[str], by: str = "") -> Tensor:
        """Texts -> joint embeddings ``(B, E)``, by the preset's own embedder or another."""
        with torch.inference_mode():
            if by:
                return self.extractor(by).model.embed_text(texts).cpu()  # type: ignore[no-any-return]
            return self.parts.joint_embedder.embed_text(texts).cpu()

    def embed_windows(self, embedder: str, waveform: Tensor, sample_rate: int) -> Tensor:
        """One clip ``(T,)`` -> ``(windows, E)`` by an audio embedder, a tagger (its logits) or a joint embedder."""
        if embedder.startswith((TAGGER, JOINT)):
            feature = self.extractor(embedder).feature
            sound = resampled(waveform.cpu(), sample_rate, feature.sample_rate or sample_rate)
            facts = AudioInfo(sample_rate, 1, len(waveform), float(waveform.abs().max()), "float32")
            return feature.compute(sound, facts)["vectors"]
        model = self.embedder(embedder)
        found = model.embed(resampled(waveform.cpu(), sample_rate, model.sample_rate).clone())
        return checked_windows(found, embedder, model.dimension)
