"""A folder of audio as a system: anyone's results enter the tables, whatever made them.

Clips are paired with prompts by name, never by their order: by the texts of ``metadata.csv`` (columns ``file_name`` and
``text``; ``seed`` where there are several takes of a text), or without it by the file's name, which is the prompt's
with everything but letters and digits written as ``-``.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import torch
from torch import Tensor

from melody.artifacts.files import file_hash
from melody.data.corpus import InvalidFile
from melody.data.decoding import header_of
from melody.data.folders import METADATA, REQUIRED_COLUMNS
from melody.data.listing import AudioFile, AudioFolder, composed, identifier_of, list_clips, read_captions
from melody.data.recordings import read_recording
from melody.data.tables import file_names, read_table
from melody.errors import MelodyError
from melody.protocols import Generation, GenerationStats, System
from melody.registry import systems

SEEDS_A_RUN = 10_000
"""The tables' seed of row r in run s is s · 10,000 + r (``melody.reproduce.loaded.SEED_STRIDE``)."""
SHOWN = 3
MAX_DIGITS = 18
"""Of a seed."""


def slug(text: str) -> str:
    """A prompt as a file's name.

    >>> slug("A slow, sad piano (solo)")
    'a-slow-sad-piano-solo'
    """
    return re.sub(r"[\W_]+", "-", composed(text).casefold()).strip("-")


@dataclass(frozen=True)
class Take:
    """One clip of a prompt; ``run`` is its number in the column ``seed``, if there is one."""

    clip: AudioFile
    run: int | None


@systems.register("folder")
class FolderSystem(System):
    """A folder of audio, by the texts of its metadata.csv or by its files' names.

    Without a column ``seed`` every seed gives the same clip, so there is no spread over seeds to speak of.

    Args:
        folder: the folder.
        device: taken as of every system, and of no effect.
    Raises:
        MelodyError: no such folder, or a file in it that is unreadable, doubled, or without a text in ``metadata.csv``.
    """

    name = "folder"
    capabilities: ClassVar[frozenset[str]] = frozenset()
    options: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, folder: str | Path, device: str = "cpu") -> None:
        self.folder = Path(folder).expanduser()
        audio_folder = list_clips(self.folder)
        _refuse(audio_folder.faults, self.folder)
        self.has_texts = (self.folder / METADATA).is_file()
        self.takes = _by_text(audio_folder) if self.has_texts else _by_name(audio_folder)
        rates = Counter(header_of(clip.path).sample_rate for clip in audio_folder.clips)
        self.sample_rate = max(rates, key=lambda rate: (rates[rate], rate))
        self.notes: list[str] = []
        """What was done to clips that are not as long, or not of the rate, that the others are."""
        self._clips = audio_folder.clips
        self._hash: str | None = None

    def generate(
        self, prompts: Sequence[str], *, duration_s: float, seeds: Sequence[int], **options: Any
    ) -> Generation:
        """The clip of each prompt, mono; a longer one is cut after ``duration_s``.

        Raises:
            MelodyError: prompts without a clip, clips too short; and of several prompts, clips of a folder without
                ``metadata.csv`` that belong to none of them.
        """
        self.check_options(options)
        if len(seeds) != len(prompts):
            raise MelodyError(f"expected one seed a prompt: got {len(seeds)} seeds for {len(prompts)} prompts")
        self._check(prompts)
        rows = [
            self._read(self._take(prompt, seed).clip, duration_s) for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        return Generation(torch.stack(rows)[:, None], self.sample_rate, GenerationStats())

    def identity(self) -> dict[str, Any]:
        """The hash of all files with what they belong to."""
        if self._hash is None:
            digest = hashlib.sha256()
            for key, takes in sorted(self.takes.items()):
                for take in takes:
                    digest.update(f"{key}\0{take.run}\0{file_hash(take.clip.path)};".encode())
            self._hash = digest.hexdigest()
        return {"files": self._hash, "clips": len(self._clips)}

    def _key(self, prompt: str) -> str:
        return composed(prompt.strip()) if self.has_texts else slug(prompt)

    def _check(self, prompts: Sequence[str]) -> None:
        keys = [self._key(prompt) for prompt in prompts]
        missing = [prompt for prompt, key in zip(prompts, keys, strict=True) if key not in self.takes]
        if missing:
            where = f"text of {METADATA}" if self.has_texts else f"file named as in {slug(missing[0])!r}"
            raise MelodyError(
                f"folder {self.folder} has no clip for {len(missing)} of {len(prompts)} prompts "
                f"(no {where}): {_shown(map(repr, missing))}"
            )
        extra = [take.clip.name for key, takes in self.takes.items() if key not in set(keys) for take in takes]
        if extra and len(prompts) > 1 and not self.has_texts:
            raise MelodyError(
                f"folder {self.folder} holds {len(extra)} clips of no prompt: {_shown(sorted(extra))}; "
                f"a {METADATA} that gives every file its text lets them be there"
            )

    def _take(self, prompt: str, seed: int) -> Take:
        takes = self.takes[self._key(prompt)]
        if takes[0].run is None:
            return takes[0]
        by_run = {take.run: take for take in takes}
        take = by_run.get(seed) or by_run.get(seed // SEEDS_A_RUN)
        if take is None:
            raise MelodyError(
                f"folder {self.folder} has no clip of seed {seed // SEEDS_A_RUN or seed} for {prompt!r} "
                f"(there: {', '.join(map(str, sorted(run for run in by_run if run is not None)))})"
            )
        return take

    def _read(self, clip: AudioFile, duration_s: float) -> Tensor:
        """``(T,)`` of ``duration_s`` at the folder's rate."""
        try:
            recording = read_recording(clip.path)
        except MelodyError as error:
            raise MelodyError(f"cannot use {clip.path}: {error}") from None
        wanted, lasts = round(duration_s * self.sample_rate), recording.facts.duration_s
        waveform = recording.at(self.sample_rate).clamp(-1, 1)
        if len(waveform) + 1 < wanted:  # one sample may go in resampling
            raise MelodyError(f"{clip.path} is too short: it lasts {lasts:g} s, expected {duration_s:g} s")
        if len(waveform) > wanted:
            self._note(f"{clip.name}: the first {duration_s:g} of {lasts:g} s")
        if recording.facts.sample_rate != self.sample_rate:
            self._note(f"{clip.name}: resampled from {recording.facts.sample_rate} to {self.sample_rate} Hz")
        return torch.nn.functional.pad(waveform, (0, max(0, wanted - len(waveform))))[:wanted]

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _by_text(audio_folder: AudioFolder) -> dict[str, tuple[Take, ...]]:
    """Takes by the texts of ``metadata.csv``."""
    path = audio_folder.folder / METADATA
    texts, faults = read_captions(path, audio_folder)
    _refuse(faults, audio_folder.folder)
    runs = _runs(path)
    takes_of: dict[str, list[Take]] = {}
    for clip in audio_folder.clips:
        run = runs.get(composed(clip.name), runs.get(clip.identifier))
        takes_of.setdefault(composed(texts[clip.identifier]), []).append(Take(clip, run))
    return {text: _distinct(text, takes, audio_folder.folder) for text, takes in takes_of.items()}


def _runs(path: Path) -> dict[str, int]:
    """The column ``seed`` by file; nothing where there is no such column."""
    table = read_table(path, REQUIRED_COLUMNS)
    if "seed" not in table.columns:
        return {}
    runs = {}
    for line, row in table.rows:
        given, name = row["seed"], row["file_name"]
        if not (given.isascii() and given.isdigit() and len(given) <= MAX_DIGITS):
            raise MelodyError(f"{path} line {line}: seed {given!r} of {name}; expected 0 or more")
        for file_name in file_names(name):
            runs[composed(file_name)] = runs[identifier_of(file_name)] = int(given)
    return runs


def _by_name(audio_folder: AudioFolder) -> dict[str, tuple[Take, ...]]:
    """Takes by what the files' names, without folders and extensions, come to as prompts."""
    takes_of: dict[str, list[Take]] = {}
    for clip in audio_folder.clips:
        takes_of.setdefault(slug(PurePosixPath(identifier_of(clip.name)).name), []).append(Take(clip, None))
    return {key: _distinct(key, takes, audio_folder.folder) for key, takes in takes_of.items()}


def _distinct(text: str, takes: list[Take], folder: Path) -> tuple[Take, ...]:
    """Raise ``MelodyError`` if two clips are there for one prompt and seed."""
    for run, count in Counter(take.run for take in takes).items():
        if count > 1:
            names = [take.clip.name for take in takes if take.run == run]
            which = "no column 'seed' tells them apart" if run is None else f"seed {run} of each"
            raise MelodyError(f"folder {folder} has {count} clips for {text!r}: {_shown(names)} ({which})")
    return tuple(takes)


def _refuse(faults: Sequence[InvalidFile], folder: Path) -> None:
    if faults:
        listed = _shown(f"{fault.file}: {fault.reason}" for fault in faults)
        raise MelodyError(f"folder {folder} holds {len(faults)} files or rows that cannot be used: {listed}")


def _shown(names: Iterable[str]) -> str:
    listed = list(names)
    rest = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return "; ".join(listed[:SHOWN]) + rest
