"""Shards: a corpus as tar files in webdataset's layout, for what is too large for one disk or one folder.

A sample is an audio file and a ``.json`` beside it with the same key: ``text``, and where there are any ``tags``,
``attributes``, ``identifier``, ``duration_s`` and ``sha256`` of the audio's bytes. Shards made elsewhere may have the
text alone, in ``.json`` or ``.txt``. Sound is read from its place in the tar when it is asked for, so any order of
clips costs the same, and training shuffles and resumes as with a folder.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import soundfile
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from melody.config import parse
from melody.data.audio import check_audio, decode_audio, to_int16
from melody.data.containers import INPUT_EXTENSIONS, NOT_READ, not_read
from melody.data.corpus import (
    SAMPLE_RATE,
    Clip,
    Corpus,
    InvalidFile,
    Progress,
    check_new,
    check_some_are_left,
)
from melody.data.folders import of_a_split
from melody.documents import parse_json
from melody.errors import MelodyError
from melody.extras import need

PATTERN = "shards-%06d.tar"
SHARD_BYTES = 1_000_000_000


@dataclass(frozen=True)
class ShardAudio:
    """The sound of one sample: a stretch of a tar file."""

    path: Path
    name: str
    offset: int
    size: int
    sha256: str | None = None
    key: str = ""

    def waveform(self, sample_rate: int) -> Tensor:
        """Mono ``(T,)``; raises ``MelodyError`` that names shard and sample if it cannot be read."""
        return decode_audio(self.content(), f"{self.path}:{self.name}", sample_rate)

    def content(self) -> bytes:
        """The audio file's bytes."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                return file.read(self.size)
        except OSError as error:
            raise MelodyError(f"cannot read shard {self.path}: {error.strerror}") from None


def shard_paths(where: str) -> list[Path]:
    """The tar files that ``where`` names: a folder's, one, or those of braces as in ``shards-{000000..000009}.tar``.

    Raises:
        MelodyError: one of them is not there, or webdataset, which reads the braces, is not installed.
    """
    if Path(where).is_dir():
        return sorted(Path(where).glob("*.tar"))
    paths = [Path(name) for name in _expanded(where)]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise MelodyError(f"{len(missing)} of {len(paths)} shards of {where} are missing: {', '.join(missing[:3])}")
    return paths


def _expanded(where: str) -> list[str]:
    if "{" not in where:
        return [where]
    names: list[str] = need("webdataset.shardlists", "a pattern of shards").expand_urls(where)
    return names


class ClipInfo(BaseModel):
    """What a sample's ``.json`` says of it; other keys are of no use to us."""

    model_config = ConfigDict(strict=True)

    text: str
    identifier: str | None = None
    tags: list[str] = []
    attributes: dict[str, Any] = {}
    duration_s: Annotated[float, Field(ge=0)] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


@dataclass(frozen=True)
class Sample:
    """The members of one key: audio by place, texts by content, and what we do not read, or is there twice."""

    shard: Path
    key: str
    sounds: dict[str, tuple[int, int]] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)


def shard_corpus(name: str, paths: list[Path], split: str | None, *, report: bool = False) -> Corpus:
    """The clips of shards; where samples say their split, those of ``split``.

    A sample that does not say its identifier has that of its key, behind its shard's name where shards share keys.

    Args:
        report: leave out what cannot be used and tell it in ``faults``, instead of raising.

    Raises:
        MelodyError: a shard that is no tar file or ends early, a sample without text, unreadable or empty sound, two
            samples of one identifier.
    """
    clips: list[Clip] = []
    faults: list[InvalidFile] = []
    seen: dict[str, str] = {}
    for sample in (sample for path in paths for sample in _samples(path)):
        where = f"{sample.shard.name}:{sample.key}"
        try:
            clip = _clip(sample)
            if report:
                check_new(where, _digest(clip.audio), seen)
            clips.append(clip)
        except MelodyError as error:
            if not report:
                raise
            faults.append(InvalidFile(where, str(error)))
    clips, doubled = _identified(clips)
    if doubled and not report:
        raise MelodyError(doubled[0].reason)
    faults += doubled
    if report:
        belongs, without = of_a_split([(_place(clip), clip.attributes.get("split")) for clip in clips])
        clips, faults = list(compress(clips, belongs)), faults + without
    check_some_are_left(name, len(clips), faults)
    if split is not None and any("split" in clip.attributes for clip in clips):
        clips = [clip for clip in clips if clip.attributes.get("split") == split]
        if not clips:
            raise MelodyError(f"{name} has no samples of split {split!r}")
    return Corpus(name, clips, faults=tuple(faults))


def _identified(clips: list[Clip]) -> tuple[list[Clip], list[InvalidFile]]:
    """The clips, told apart by their shards where keys begin anew in each; and those that even so have one name."""
    counts = Counter(clip.identifier for clip in clips)
    unique: dict[str, Clip] = {}
    faults = []
    for clip in clips:
        audio = clip.audio
        assert isinstance(audio, ShardAudio)
        if counts[clip.identifier] > 1 and clip.identifier == audio.key:
            clip = replace(clip, identifier=f"{audio.path.stem}/{clip.identifier}")
        if clip.identifier in unique:
            where = f"shard {audio.path}, sample {audio.key!r}"
            faults.append(InvalidFile(_place(clip), f"{where}: another sample is called {clip.identifier!r}"))
        else:
            unique[clip.identifier] = clip
    return list(unique.values()), faults


def _samples(path: Path) -> Iterator[Sample]:
    """The samples of one tar file, in its order: members that follow each other and share what is before the dot."""
    current: Sample | None = None
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                base = PurePosixPath(member.name)
                if not member.isfile() or any(part.startswith(".") for part in base.parts):
                    continue  # hidden, as what macOS writes beside each file
                stem, _, extension = base.name.partition(".")
                key = (base.parent / stem).as_posix()
                if current is None or current.key != key:
                    if current is not None:
                        yield current
                    current = Sample(path, key)
                _add(current, extension.lower(), member, tar)
            _check_ending(path, tar.offset)
    except (OSError, tarfile.TarError) as error:
        raise MelodyError(f"cannot read shard {path}: {error}") from None
    if current is not None:
        yield current


def _add(sample: Sample, extension: str, member: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
    """Add a member to its sample."""
    if extension in sample.sounds or extension in sample.texts:
        sample.doubled.append(member.name)
    elif f".{extension}" in INPUT_EXTENSIONS:
        sample.sounds[extension] = (member.offset_data, member.size)
    elif f".{extension}" in NOT_READ:
        sample.unread.append(member.name)
    elif extension in ("json", "txt"):
        content = tar.extractfile(member)
        sample.texts[extension] = content.read() if content is not None else b""


def _check_ending(path: Path, offset: int) -> None:
    """Python's tarfile takes a file that breaks off within a header for a whole one; a whole one ends with zeros."""
    with path.open("rb") as file:
        file.seek(offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise MelodyError(f"cannot read shard {path}: it ends early")


def _clip(sample: Sample) -> Clip:
    where = f"shard {sample.shard}, sample {sample.key!r}"
    _check_members(sample, where)
    facts = _facts(sample, where)
    extension, (offset, size) = next(iter(sample.sounds.items()))
    name = f"{sample.key}.{extension}"
    audio = ShardAudio(sample.shard, name, offset, size, facts.sha256, sample.key)
    duration_s = facts.duration_s
    if duration_s is None:
        duration_s = check_audio(audio.content(), f"{sample.shard}:{name}").duration_s
    if not duration_s:
        raise MelodyError(f"{where} is empty: 0 samples")
    return Clip(facts.identifier or sample.key, facts.text, tuple(facts.tags), facts.attributes, duration_s, audio)


def _check_members(sample: Sample, where: str) -> None:
    """Raise ``MelodyError`` unless there is one sound, and nothing twice: of two samples of one key neither is told."""
    if sample.doubled:
        raise MelodyError(f"{where}: {sample.doubled[0]} is there twice: two samples of one key follow each other")
    if sample.unread and not sample.sounds:
        raise MelodyError(
            f"{where}: {not_read(NOT_READ[PurePosixPath(sample.unread[0]).suffix.lower()], sample.unread[0])}"
        )
    if not sample.sounds:
        raise MelodyError(f"{where}: no audio (expected {', '.join(sorted(INPUT_EXTENSIONS))})")
    if len(sample.sounds) > 1:
        raise MelodyError(f"{where}: {len(sample.sounds)} sounds ({', '.join(sample.sounds)}); expected one")


def _facts(sample: Sample, where: str) -> ClipInfo:
    """What the texts say, of the right types; nulls count as not said, and tags may be one text with commas."""
    try:
        said = parse_json(sample.texts.get("json", b"{}"), f"{sample.key}.json")
        if isinstance(said, dict) and "text" not in said and "txt" in sample.texts:
            said["text"] = sample.texts["txt"].decode("utf-8-sig").strip()
    except (ValueError, MelodyError) as error:
        raise MelodyError(f"{where}: its texts cannot be read: {error}") from None
    if not isinstance(said, dict) or not isinstance(said.get("text"), str) or not said["text"].strip():
        raise MelodyError(f"{where} has no text: expected a .json with 'text', or a .txt")
    said = {name: value for name, value in said.items() if value is not None}
    if isinstance(said.get("tags"), str):
        said["tags"] = [tag.strip() for tag in said["tags"].split(",") if tag.strip()]
    return parse(ClipInfo, said, where)


def _digest(audio: Any) -> str:
    """Hash of the bytes; those that nobody has hashed are looked at to their end, as files of a folder are."""
    if audio.sha256:
        return str(audio.sha256)
    content = audio.content()
    check_audio(content, f"{audio.path}:{audio.name}")
    return hashlib.sha256(content).hexdigest()


def _place(clip: Clip) -> str:
    assert isinstance(clip.audio, ShardAudio)
    return f"{clip.audio.path.name}:{clip.audio.key}"


def write_shards(
    corpora: Iterable[tuple[str | None, Corpus]],
    folder: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
) -> list[Path]:
    """Write corpora, each with the split that it is (or None), to ``shards-000000.tar`` … in a new folder.

    Files keep their bytes; clips that are no files become FLAC. The folder appears when it is whole.

    Raises:
        MelodyError: the folder is there already, a clip cannot be read, the disk is full.
    """
    webdataset = need("webdataset", "writing shards")
    if folder.exists():
        raise MelodyError(f"{folder} is there already; choose another --out, or delete it")
    clips = [(split, clip) for split, corpus in corpora for clip in corpus]
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        with webdataset.ShardWriter(str(temporary / PATTERN), maxsize=shard_bytes, verbose=0) as writer:
            for number, (split, clip) in enumerate(clips):
                writer.write(_sample_of(number, split, clip))
                if progress is not None:
                    progress(number + 1, len(clips))
        os.replace(temporary, folder)
    except OSError as error:
        raise MelodyError(f"cannot write shards to {folder}: {error.strerror or error}; nothing was left") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return sorted(folder.glob("*.tar"))


def _sample_of(number: int, split: str | None, clip: Clip) -> dict[str, Any]:
    extension, content = _encoded(clip)
    facts = {
        "identifier": clip.identifier,
        "text": clip.text,
        "tags": list(clip.tags),
        "attributes": dict(clip.attributes) if split is None else {**clip.attributes, "split": split},
        "duration_s": clip.duration_s,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    return {"__key__": f"{number:09d}", extension: content, "json": json.dumps(facts).encode()}


def _encoded(clip: Clip) -> tuple[str, bytes]:
    """A file's own bytes with its extension; FLAC of what is no file."""
    source = getattr(clip.audio, "name", None) or getattr(clip.audio, "path", None)
    if source is not None:
        return PurePosixPath(source).suffix.lower().removeprefix("."), clip.audio.content()
    buffer = io.BytesIO()
    soundfile.write(buffer, to_int16(clip.waveform(SAMPLE_RATE).numpy()), SAMPLE_RATE, format="FLAC")
    return "flac", buffer.getvalue()
