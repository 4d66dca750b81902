"""Clips with texts: the embedded corpus, a folder with ``metadata.csv``, or the authors' demo page as cloned."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, overload

import torch
from torch import Tensor

from melody.errors import MelodyError, did_you_mean

SAMPLE_RATE = 24_000
SPLITS = ("train", "validation", "test")
Progress = Callable[[int, int], None]
"""``progress(done, total)``."""


class Audio(Protocol):
    """Where a clip's sound comes from."""

    def waveform(self, sample_rate: int) -> Tensor:
        """Mono ``(T,)``, float32 in [-1, 1]."""

    def content(self) -> bytes:
        """The bytes that decide the sound."""


@dataclass(frozen=True)
class Clip:
    """One sound with its text; the sound is read when it is asked for."""

    identifier: str
    text: str
    tags: tuple[str, ...]
    attributes: Mapping[str, str | float | int]
    duration_s: float
    audio: Audio = field(repr=False, compare=False)

    def waveform(self, sample_rate: int = SAMPLE_RATE) -> Tensor:
        """Mono ``(T,)``, float32 in [-1, 1]; raises ``MelodyError`` if the file cannot be read."""
        return self.audio.waveform(sample_rate)


@dataclass(frozen=True)
class InvalidFile:
    """A file that cannot be used, and why."""

    file: str
    reason: str


class Corpus(Sequence[Clip]):
    """Clips in a fixed order, with unique identifiers.

    ``left_out`` names the files that were there and belong to no clip, and ``faults`` those that cannot be used, so
    that nothing goes missing silently.
    """

    def __init__(
        self,
        name: str,
        clips: Iterable[Clip],
        *,
        sample_rate: int = SAMPLE_RATE,
        left_out: tuple[str, ...] = (),
        faults: tuple[InvalidFile, ...] = (),
    ) -> None:
        self.name = name
        self.sample_rate = sample_rate
        self.left_out = left_out
        self.faults = faults
        self._clips = tuple(clips)
        self._by_identifier = {clip.identifier: clip for clip in self._clips}
        self._content_hash: str | None = None
        if not self._clips:
            raise MelodyError(f"corpus {name} holds no clips")
        if len(self._by_identifier) < len(self._clips):
            seen: set[str] = set()
            doubled = next(c.identifier for c in self._clips if c.identifier in seen or seen.add(c.identifier))  # type: ignore[func-returns-value]
            raise MelodyError(f"corpus {name} holds {doubled!r} more than once")

    def __len__(self) -> int:
        return len(self._clips)

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> Corpus: ...
    def __getitem__(self, index: int | slice) -> Clip | Corpus:
        if isinstance(index, slice):
            return Corpus(self.name, self._clips[index], sample_rate=self.sample_rate)
        return self._clips[index]

    def clip(self, identifier: str) -> Clip:
        """The clip of that identifier; raises ``MelodyError`` if there is none."""
        if identifier not in self._by_identifier:
            raise MelodyError(
                f"corpus {self.name} has no clip {identifier!r}{_nearest(identifier, self._by_identifier)}"
            )
        return self._by_identifier[identifier]

    def select(self, **attributes: str | float | int) -> Corpus:
        """The clips whose attributes have these values, as in ``select(system="melody")``."""
        clips = [c for c in self._clips if all(c.attributes.get(k) == v for k, v in attributes.items())]
        if not clips:
            raise MelodyError(f"corpus {self.name} has no clip with {attributes}")
        return Corpus(self.name, clips, sample_rate=self.sample_rate)

    def waveforms(self, indices: Sequence[int] | None = None) -> Tensor:
        """Many clips of one length at once: ``(n, T)`` at the corpus's sample rate."""
        chosen = range(len(self)) if indices is None else indices
        first = self._clips[chosen[0]].waveform(self.sample_rate) if len(chosen) else torch.zeros(0)
        rows = torch.empty(len(chosen), len(first))
        for row, index in zip(rows, chosen, strict=True):
            clip = self._clips[index]
            waveform = clip.waveform(self.sample_rate)
            if waveform.shape != row.shape:
                raise MelodyError(f"{self.name}: {clip.identifier} has {len(waveform)} samples, the first {len(row)}")
            row.copy_(waveform)
        return rows

    def content_hash(self, progress: Progress | None = None) -> str:
        """SHA-256 over every clip's identifier, text, tags, attributes and sound, which is read or rendered for it."""
        if self._content_hash is None:
            digest = hashlib.sha256(str(self.sample_rate).encode())
            for number, clip in enumerate(self._clips):
                if progress is not None:
                    progress(number, len(self))
                facts = [clip.identifier, clip.text, clip.tags, sorted(clip.attributes.items())]
                digest.update(json.dumps(facts).encode())
                known = getattr(clip.audio, "sha256", None)  # of shards, so that they need not be read whole
                digest.update(bytes.fromhex(known) if known else hashlib.sha256(clip.audio.content()).digest())
            self._content_hash = digest.hexdigest()
        return self._content_hash


def check_split(split: str, splits: Sequence[str] = SPLITS) -> None:
    """Raise ``MelodyError`` with the nearest valid name if there is no such split."""
    if split not in splits:
        raise MelodyError(f"unknown split {split!r}{did_you_mean(split, splits)}")


def check_new(name: str, digest: str, seen: dict[str, str]) -> None:
    """Raise ``MelodyError`` if another file has the same content; ``seen`` has the first name of each digest."""
    first = seen.setdefault(digest, name)
    if first != name:
        raise MelodyError(f"{name} has the same content as {first}")


def check_some_are_left(name: str, kept: int, faults: Sequence[InvalidFile]) -> None:
    """Raise ``MelodyError`` if no clip can be used."""
    if not kept:
        first = f": {faults[0].reason}" if faults else ""
        raise MelodyError(f"none of the {len(faults)} files of {name} can be used{first}")


def _nearest(identifier: str, valid: Iterable[str]) -> str:
    import difflib

    close = difflib.get_close_matches(identifier, list(valid), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
