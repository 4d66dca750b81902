"""What is in a folder of sounds, whoever made it: every clip by an identifier, and every file that cannot be used.

A clip's identifier is its path below the folder, without the extension unless two files differ by it alone, here or in
a folder that this one is paired with; in Unicode's composed form, so that names from two systems of files meet. Sets
are paired by it, and never by their order.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from melody.data.containers import INPUT_EXTENSIONS, NOT_READ, not_read
from melody.data.corpus import InvalidFile
from melody.data.decoding import header_of
from melody.data.folders import REQUIRED_COLUMNS
from melody.data.tables import file_names, read_table
from melody.data.walking import printable, walk
from melody.errors import MelodyError, did_you_mean


@dataclass(frozen=True)
class AudioFile:
    """One clip of a folder: identifier, name below the folder, and where it is."""

    identifier: str
    name: str
    path: Path


@dataclass(frozen=True)
class AudioFolder:
    """The clips of a folder, by identifier in order.

    ``others`` counts the files that are no sounds, by their extension (in lower case, with its dot, or nothing).
    """

    folder: Path
    clips: tuple[AudioFile, ...]
    faults: tuple[InvalidFile, ...]
    others: dict[str, int]

    @property
    def expected(self) -> int:
        """Clips and files that cannot be used."""
        return len(self.clips) + len(self.faults)


def doubled_stems(folder: Path) -> set[str]:
    """Names without extension that two or more sounds of a folder have, as ``a`` of ``a.wav`` and ``a.flac``."""
    names = walk(folder)[0] if folder.is_dir() else []
    sounds = (name for name in names if PurePosixPath(name).suffix.lower() in INPUT_EXTENSIONS)
    return {stem for stem, count in Counter(map(identifier_of, sounds)).items() if count > 1}


def list_clips(folder: Path, with_extension: Set[str] = frozenset()) -> AudioFolder:
    """List a folder and the folders in it; hidden files, and what is no sound by its extension, are passed over.

    Args:
        with_extension: names without extension whose identifiers have one: those that another folder has twice.
    Raises:
        MelodyError: no such folder, or one without any sound.
    """
    if not folder.is_dir():
        what = "it is a file" if folder.is_file() else "no such folder"
        raise MelodyError(f"cannot evaluate {folder}: {what}; expected a folder of audio files")
    files, faults = walk(folder)
    extensions = {name: PurePosixPath(name).suffix.lower() for name in files}
    names = [name for name, extension in extensions.items() if extension in INPUT_EXTENSIONS]
    others = Counter(extension for extension in extensions.values() if extension not in {*INPUT_EXTENSIONS, *NOT_READ})
    faults += [
        InvalidFile(printable(name), not_read(NOT_READ[extension], str(folder / name)))
        for name, extension in extensions.items()
        if extension in NOT_READ
    ]
    if not names and not faults:
        raise MelodyError(f"folder {folder} holds no audio (expected {', '.join(sorted(INPUT_EXTENSIONS))})")
    usable = []
    for name in names:
        if (problem := _problem(folder, name)) is not None:
            faults.append(InvalidFile(printable(name), problem))
        else:
            usable.append(name)
    clips, doubled = _identified(folder, usable, names, with_extension)
    return AudioFolder(folder, clips, tuple(sorted([*faults, *doubled], key=lambda fault: fault.file)), dict(others))


def _problem(folder: Path, name: str) -> str | None:
    try:
        name.encode()
        header_of(folder / name)
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    except MelodyError as error:
        return str(error)
    return None


def _identified(
    folder: Path, usable: list[str], names: list[str], with_extension: Set[str]
) -> tuple[tuple[AudioFile, ...], list[InvalidFile]]:
    """Clips by identifier; those whose names are one in Unicode's composed form are faults."""
    stems = Counter(identifier_of(name) for name in names)
    clips: dict[str, AudioFile] = {}
    doubled: list[InvalidFile] = []
    for name in usable:
        stem = identifier_of(name)
        identifier = stem if stems[stem] == 1 and stem not in with_extension else composed(name)
        if identifier in clips:
            doubled.append(InvalidFile(name, f"its name is that of {clips[identifier].name}, written otherwise"))
        else:
            clips[identifier] = AudioFile(identifier, name, folder / name)
    return tuple(clips[identifier] for identifier in sorted(clips)), doubled


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC).

    >>> composed("e\\u0301") == "\\u00e9"
    True
    """
    return unicodedata.normalize("NFC", name)


def identifier_of(name: str) -> str:
    """A clip's name without its extension, if that is one of a sound.

    >>> identifier_of("a/take 2.wav"), identifier_of("v1.5")
    ('a/take 2', 'v1.5')
    """
    path = PurePosixPath(composed(name))
    return path.with_suffix("").as_posix() if path.suffix.lower() in INPUT_EXTENSIONS else path.as_posix()


def read_captions(path: Path, audio_folder: AudioFolder) -> tuple[dict[str, str], list[InvalidFile]]:
    """Texts by the clips' identifiers, and what does not fit: rows without a clip, doubled or empty, clips without one.

    Args:
        path: a CSV file with columns ``file_name`` (below the folder, the extension may be another) and ``text``.
    Raises:
        MelodyError: the file cannot be read, is no CSV, or lacks a column.
    """
    rows = _rows(path)
    known = _lookup(audio_folder)
    broken = {identifier_of(fault.file) for fault in audio_folder.faults}
    texts: dict[str, str] = {}
    lines: dict[str, int] = {}
    faults: list[InvalidFile] = []
    for line, name, text in rows:
        identifier = _meant(name, known)
        if identifier is None:
            if not any(identifier_of(file_name) in broken for file_name in file_names(name)):
                faults.append(InvalidFile(name, f"{path} line {line}: {_no_such_clip(name, known, audio_folder)}"))
        elif identifier in lines:
            texts.pop(identifier, None)
            faults.append(InvalidFile(name, f"{path} lists it twice: lines {lines[identifier]} and {line}"))
        else:
            lines[identifier] = line
            if text:
                texts[identifier] = text
            else:
                faults.append(InvalidFile(name, f"{path} line {line}: its text is empty"))
    without = [clip for clip in audio_folder.clips if clip.identifier not in lines]
    faults += [InvalidFile(clip.name, f"{path} has no row for it") for clip in without]
    return texts, faults


def _meant(name: str, known: dict[str, str]) -> str | None:
    ways = (way for file_name in file_names(name) for way in (composed(file_name), identifier_of(file_name)))
    return next((known[way] for way in ways if way in known), None)


def _rows(path: Path) -> list[tuple[int, str, str]]:
    rows = [(line, cells["file_name"], cells["text"]) for line, cells in read_table(path, REQUIRED_COLUMNS).rows]
    if not rows:
        raise MelodyError(f"{path} has a header and no rows")
    return rows


def _lookup(audio_folder: AudioFolder) -> dict[str, str]:
    """Identifiers by all that a row may call a clip: its name, or that without the extension if it is the only one."""
    stems = Counter(identifier_of(clip.name) for clip in audio_folder.clips)
    by_stem = {stem: clip.identifier for clip in audio_folder.clips if stems[stem := identifier_of(clip.name)] == 1}
    return by_stem | {composed(clip.name): clip.identifier for clip in audio_folder.clips}


def _no_such_clip(name: str, known: dict[str, str], audio_folder: AudioFolder) -> str:
    alike = [clip.name for clip in audio_folder.clips if identifier_of(clip.name) == identifier_of(name)]
    if len(alike) > 1:
        return f"{' and '.join(alike)} have that name: write the extension"
    return f"there is no such clip{_nearest(name, known)}"


def _nearest(name: str, known: dict[str, str]) -> str:
    return did_you_mean(name, known) if len(known) <= 8 else ""


def pair(generated: AudioFolder, other: AudioFolder) -> tuple[list[tuple[AudioFile, AudioFile]], list[InvalidFile]]:
    """Clips of both folders that have one identifier, in order, and those of either that have no partner."""
    partners = {clip.identifier: clip for clip in other.clips}
    pairs = [(clip, partners[clip.identifier]) for clip in generated.clips if clip.identifier in partners]
    paired = {clip.identifier for clip, _ in pairs}
    faults = [
        InvalidFile(str(clip.path), f"there is no {clip.identifier!r} in {there.folder}")
        for here, there in ((generated, other), (other, generated))
        for clip in here.clips
        if clip.identifier not in paired
    ]
    return pairs, faults
