"""One run: what it is asked for, what it is given, what it has loaded, and what identifies all that in keys."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from melody import threads
from melody.artifacts.files import canonical
from melody.artifacts.provenance import commit, component_facts, deciding_versions, device_class, device_name, versions
from melody.data.corpus import Corpus
from melody.errors import one_line
from melody.registry import audio_embedders, audio_taggers, systems
from melody.reproduce.executor import Progress
from melody.reproduce.loaded import Loaded
from melody.reproduce.run_inputs import RunInputs, RunRequest
from melody.reproduce.suite import JOINT, TAGGER, Suite
from melody.reproduce.systems import OWN


@dataclass
class Context:
    """What tables plan with; jobs compute with what is ``loaded``."""

    inputs: RunInputs
    request: RunRequest = field(default_factory=RunRequest)
    progress: Progress | None = field(default=None, compare=False)
    """Where the run tells what it does."""
    _facts: dict[str, dict[str, Any]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _corpus_hashes: dict[tuple[int, float], str] = field(default_factory=dict, init=False, repr=False, compare=False)
    _prompts: dict[int, list[str]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def loaded(self) -> Loaded:
        return Loaded(self.inputs, self.request.device, self.tell)

    def tell(self, what: str, done: int = 0, total: int = 0) -> None:
        """Say what is being done that is no job, so that the run's progress names it."""
        if self.progress is not None:
            self.progress(done, total, what)

    def reading(self, corpus: Corpus) -> Callable[[int, int], None]:
        """Progress of reading a corpus, whose clips may have to be rendered."""
        return lambda done, total: self.tell(f"reading or rendering {corpus.name}", done, total)

    def content_hash(self, corpus: Corpus) -> str:
        """A corpus's content, told while it is read."""
        return corpus.content_hash(self.reading(corpus))

    def corpus_hash(self, clips: int, duration_s: float = 0.0) -> str:
        """SHA-256 over the first clips of the corpus, or of its pieces of another length."""
        if (clips, duration_s) not in self._corpus_hashes:
            self._corpus_hashes[clips, duration_s] = self.content_hash(self.loaded.pieces(duration_s)[:clips])
        return self._corpus_hashes[clips, duration_s]

    def system_facts(self, name: str) -> dict[str, Any]:
        """What decides a system's bits, for keys."""
        if name == OWN:
            subject = self.inputs.subject
            return {"name": OWN, "subject": subject.facts, "weights": subject.weights}
        entry = self.loaded.systems[name]
        if name not in self._facts:
            said = {} if entry.identified_by_files else self.loaded.system(name).identity()
            self._facts[name] = {"name": name, **entry.identity, "facts": said}
            canonical(self._facts[name])
        return self._facts[name]

    def unavailable_reason(self, name: str) -> str:
        """Why a system has no numbers in this run; empty if it can have them.

        Raises:
            MelodyError: the system was asked for by name, and cannot be used.
        """
        if name not in self.loaded.systems:
            return (
                f"no system {name!r} is registered"
                if name not in systems
                else f"not run: ask for it by --system {name}"
            )
        entry = self.loaded.systems[name]
        if not entry.unavailable_reason:
            try:
                self.system_facts(name)
            except (Exception, SystemExit) as error:  # another project's system may fail in any way
                if entry.required:
                    raise
                entry.unavailable_reason = one_line(error)
        return entry.unavailable_reason

    @cached_property
    def device_name(self) -> str:
        return device_name(self.request.device)

    @cached_property
    def origin(self) -> dict[str, Any]:
        """What computes an outcome now, to be kept with it."""
        return {
            "commit": commit(),
            "versions": versions(),
            "device": f"{self.request.device} ({self.device_name})",
            "threads": threads.of_timings(),
        }

    @cached_property
    def common(self) -> dict[str, Any]:
        """What every job hangs on that runs the preset's parts."""
        subject = self.inputs.subject
        return {"subject": subject.facts, "weights": subject.weights, **self.arithmetic}

    @cached_property
    def joint_embedder(self) -> dict[str, Any]:
        """What identifies the preset's joint embedder."""
        return self.inputs.subject.part("joint_embedder")

    @cached_property
    def arithmetic(self) -> dict[str, Any]:
        """What every job hangs on that runs a network."""
        return {
            "device": device_class(self.request.device),
            "precision": "float32",
            "versions": deciding_versions(),
        }

    def embedder_facts(self, name: str) -> dict[str, Any]:
        """What identifies what hears clips in keys, its weights too; raises ``MelodyError`` if it cannot be had."""
        if name.startswith(TAGGER):
            code = component_facts(audio_taggers, name.removeprefix(TAGGER))
            return {**code, "name": name, "facts": self.loaded.extractor(name).facts}
        if name.startswith(JOINT):
            return {"name": name, "facts": self.loaded.extractor(name).facts}
        return {**component_facts(audio_embedders, name), "facts": self.loaded.embedder(name).identity()}

    def texts(self, suite: Suite) -> list[str]:
        """A suite's prompts: its own, or so many held-out captions, chosen once."""
        count = suite.settings.prompts
        if suite.prompts:
            return list(suite.prompts[:count])
        if count not in self._prompts:
            self._prompts[count] = self.inputs.prompts(count)
        return self._prompts[count]

    def seeds(self, seeds: Sequence[int]) -> list[int]:
        """A suite's seeds, moved by the run's."""
        return [self.request.seed + seed for seed in seeds]


def texts_hash(texts: Sequence[str]) -> str:
    """SHA-256 of prompts in order."""
    return hashlib.sha256(canonical(list(texts))).hexdigest()
