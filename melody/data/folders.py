"""Corpora on disk: a folder with ``metadata.csv``, the authors' demo page as cloned, or bare audio files.

A clip is known by its path below the folder, never by its place in a listing. With ``metadata.csv`` the extension is
left off, unless two files differ by it alone.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path, PurePosixPath

from torch import Tensor

from melody.artifacts.files import file_hash
from melody.data.audio import check_audio, read_audio
from melody.data.containers import INPUT_EXTENSIONS, NOT_READ
from melody.data.corpus import SPLITS, Clip, Corpus, InvalidFile, check_new, check_some_are_left
from melody.data.tables import file_names, read_table
from melody.data.walking import printable, walk
from melody.errors import MelodyError, did_you_mean

METADATA = "metadata.csv"
REQUIRED_COLUMNS = ("file_name", "text")
VALIDATION_SHARE = 0.05

# Paths in the authors' repository (Efficient-MeLoDy/Efficient-MeLoDy.github.io). A prompt is its file's name with
# spaces; MusicLM's samples, taken by the authors from its own demo page, are marked by their ending.
DEMO_PAGE_PROMPTS = PurePosixPath("wavs/prompts_from_musiclm")
DEMO_PAGE_SCHEDULES = PurePosixPath("wavs/ablation_angle_schedules")
PROMPT_FILE = re.compile(r"(?P<prompt>.+)-(?P<ending>10s|MusicLM)\.wav")
SCHEDULE_FILE = re.compile(r"(?P<prompt>.+)_(?P<schedule>[a-z]+)_(?P<steps>\d+)steps\.wav")
SYSTEM_BY_ENDING = {"10s": "melody", "MusicLM": "musiclm"}

Attributes = dict[str, str | float | int]


@dataclass(frozen=True)
class FileAudio:
    """The sound of one file."""

    path: Path

    def waveform(self, sample_rate: int) -> Tensor:
        """Mono ``(T,)``; raises ``MelodyError`` that names the file if it cannot be read."""
        return read_audio(self.path, sample_rate)

    def content(self) -> bytes:
        """The file's bytes."""
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise MelodyError(f"cannot read audio {self.path}: {error.strerror}") from None


@dataclass(frozen=True)
class Row:
    """One line of ``metadata.csv``."""

    line: int
    file_name: str
    text: str
    others: dict[str, str]


def holds_shards(folder: Path) -> bool:
    """Whether a folder is one of shards."""
    return not (folder / METADATA).is_file() and any(folder.glob("*.tar"))


def folder_corpus(folder: Path, split: str, *, report: bool = False) -> Corpus:
    """A folder with texts: ``metadata.csv``, or the demo page's layout."""
    if (folder / METADATA).is_file():
        corpus = metadata_corpus(folder, split, report=report)
    elif any((folder / part).is_dir() for part in (DEMO_PAGE_PROMPTS, DEMO_PAGE_SCHEDULES)):
        corpus = demo_page_corpus(folder)
    else:
        raise MelodyError(_nothing_to_read(folder))
    return training_share(corpus, split)


def metadata_corpus(folder: Path, split: str | None = "test", *, report: bool = False) -> Corpus:
    """The clips that ``metadata.csv`` lists; with a column ``split``, those of the split (of all, if None).

    Columns: ``file_name`` (below the folder), ``text``, ``tags`` (by comma) if there is one; others become attributes.

    Args:
        report: leave out files that cannot be used, and tell them in ``faults``.

    Raises:
        MelodyError: missing columns, an empty text, a file missing, listed twice, unreadable or outside the folder.
    """
    rows = _rows(folder)
    _check_rows(folder, rows, files_too=not report)
    listed = {PurePosixPath(row.file_name).as_posix() for row in rows}
    names, astray = _audio_files(folder)
    left_out = tuple(name for name in names if name not in listed)
    faults: list[InvalidFile] = []
    if report:
        rows, faults = _usable(folder, rows)
        faults += [fault for fault in astray if fault.file not in listed]
    present = {row.others.get("split", "") for row in rows}
    if report:
        belongs, without = of_a_split([(row.file_name, row.others.get("split")) for row in rows])
        rows, faults = list(compress(rows, belongs)), faults + without
    if split is not None and any(present):
        if split not in present:
            raise MelodyError(
                f"{folder / METADATA} has no rows of split {split!r}{did_you_mean(split, present - {''})}"
            )
        rows = [row for row in rows if row.others.get("split") == split]
    stems = Counter(_stem(row.file_name) for row in rows)
    clips = [_listed_clip(folder, row, with_extension=stems[_stem(row.file_name)] > 1) for row in rows]
    return Corpus(folder.name, clips, left_out=left_out, faults=tuple(faults))


def _usable(folder: Path, rows: list[Row]) -> tuple[list[Row], list[InvalidFile]]:
    """The rows whose files can be read and are no copies of an earlier one; the others with their reason."""
    usable, faults = [], []
    sizes = Counter((folder / row.file_name).stat().st_size for row in rows if (folder / row.file_name).is_file())
    seen: dict[str, str] = {}
    for row in rows:
        path = folder / row.file_name
        try:
            check_audio(path, str(path))
            if sizes[path.stat().st_size] > 1:  # only files of one size can be the same
                check_new(row.file_name, file_hash(path), seen)
            usable.append(row)
        except OSError as error:
            faults.append(InvalidFile(row.file_name, f"cannot read audio {path}: {error.strerror or error}"))
        except MelodyError as error:
            faults.append(InvalidFile(row.file_name, str(error)))
    check_some_are_left(folder.name, len(usable), faults)
    return usable, faults


def of_a_split(said: Sequence[tuple[str, object]]) -> tuple[list[bool], list[InvalidFile]]:
    """Of (file, its split): which are in one of ours, and why the others are not; all are, if none says its own."""
    if not any(split for _, split in said):
        return [True] * len(said), []
    expected = f"expected {', '.join(SPLITS)}"
    faults = [
        InvalidFile(file, f"split of {file} is {split or ''!r}, {expected}")
        for file, split in said
        if split not in SPLITS
    ]
    return [split in SPLITS for _, split in said], faults


def demo_page_corpus(folder: Path) -> Corpus:
    """A clone of the authors' demo page: what its file names tell, identified as by a manifest of it.

    Read are the MusicLM prompts (both systems) and the angle-schedule ablation. Samples whose text their name does not
    tell are in ``left_out``.
    """
    clips, left_out = [], []
    for name in _audio_files(folder)[0]:
        facts = _demo_page_facts(PurePosixPath(name))
        if facts is None:
            left_out.append(name)
            continue
        identifier, text, attributes = facts
        clips.append(_clip(folder / name, identifier, text, {**attributes, "source": name}))
    return Corpus(folder.name, sorted(clips, key=lambda clip: clip.identifier), left_out=tuple(left_out))


def uncaptioned_corpus(folder: Path) -> Corpus:
    """Every audio file below a folder, by its relative path with extension, without texts.

    Raises:
        MelodyError: there is none, one cannot be read, or a link points nowhere.
    """
    names, astray = _audio_files(folder)
    if astray:
        raise MelodyError(f"folder {folder} holds {astray[0].file}: {astray[0].reason}")
    if not names:
        raise MelodyError(f"folder {folder} holds no audio (expected {', '.join(sorted(INPUT_EXTENSIONS))})")
    return Corpus(folder.name, [_clip(folder / name, name, "", {}) for name in names])


def _rows(folder: Path) -> list[Row]:
    path = folder / METADATA
    return [_row(folder, f"{path} line {line}", line, cells) for line, cells in read_table(path, REQUIRED_COLUMNS).rows]


def _row(folder: Path, where: str, line: int, cells: dict[str, str]) -> Row:
    others = {column: cell for column, cell in cells.items() if column not in REQUIRED_COLUMNS}
    row = Row(line, cells["file_name"], cells["text"], others)
    if not row.file_name or not row.text:
        raise MelodyError(f"{where}: {'text' if row.file_name else 'file_name'} is empty")
    there = [name for name in file_names(row.file_name) if (folder / name).is_file()]
    return replace(row, file_name=there[0]) if there else row


def _check_rows(folder: Path, rows: list[Row], *, files_too: bool) -> None:
    """Every row once, inside the folder, and there, unless that is told later."""
    where = folder / METADATA
    if not rows:
        raise MelodyError(f"{where} has a header and no rows")
    lines: dict[str, int] = {}
    missing = []
    for row in rows:
        name = PurePosixPath(row.file_name).as_posix()
        if name in lines:
            raise MelodyError(f"{where} lists {row.file_name!r} twice: lines {lines[name]} and {row.line}")
        lines[name] = row.line
        path = folder / name
        # By its words: a link may point elsewhere.
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise MelodyError(f"{where} line {row.line}: {row.file_name!r} is outside the folder")
        if not path.is_file():
            missing.append(row.file_name)
    if missing and files_too:
        shown = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        raise MelodyError(f"{where} lists {len(missing)} of {len(rows)} files that are not in {folder}: {shown}")


def _listed_clip(folder: Path, row: Row, *, with_extension: bool) -> Clip:
    name = PurePosixPath(row.file_name).as_posix()
    attributes = {column: _value(value) for column, value in row.others.items() if value and column != "tags"}
    tags = tuple(tag.strip() for tag in row.others.get("tags", "").split(",") if tag.strip())
    return _clip(folder / name, name if with_extension else _stem(name), row.text, attributes, tags)


def _clip(path: Path, identifier: str, text: str, attributes: Attributes, tags: tuple[str, ...] = ()) -> Clip:
    return Clip(identifier, text, tags, attributes, check_audio(path, str(path)).duration_s, FileAudio(path))


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _value(text: str) -> str | float | int:
    """A cell's number if it is one, of at most 18 digits before its point: longer ones are names, and stay texts."""
    if re.fullmatch(r"-?\d{1,18}", text):
        return int(text)
    return float(text) if re.fullmatch(r"-?\d{1,18}\.\d+", text) else text


def _demo_page_facts(name: PurePosixPath) -> tuple[str, str, Attributes] | None:
    if name.parent == DEMO_PAGE_SCHEDULES and (match := SCHEDULE_FILE.fullmatch(name.name)):
        prompt, schedule, steps = match["prompt"], match["schedule"], int(match["steps"])
        facts: Attributes = {
            "system": "melody",
            "category": "angle-schedules",
            "angle_schedule": schedule,
            "num_steps": steps,
        }
        return f"angle-schedules/{prompt}.{schedule}.{steps}", prompt.replace("_", " "), facts
    if name.parent.parent == DEMO_PAGE_PROMPTS and (match := PROMPT_FILE.fullmatch(name.name)):
        prompt, system, category = match["prompt"], SYSTEM_BY_ENDING[match["ending"]], name.parent.name
        facts = {"system": system, "category": category}
        return f"musiclm-prompts/{category}/{prompt}.{system}", prompt.replace("-", " "), facts
    return None


def _audio_files(folder: Path) -> tuple[list[str], list[InvalidFile]]:
    """Sounds below a folder by relative path, sorted, hidden ones left out; and folders and links that lead nowhere."""
    names, faults = walk(folder)
    sounds = [name for name in names if PurePosixPath(name).suffix.lower() in {*INPUT_EXTENSIONS, *NOT_READ}]
    odd = [name for name in sounds if printable(name) != name]
    faults += [InvalidFile(printable(name), "its name is not UTF-8") for name in odd]
    return [name for name in sounds if name not in odd], faults


def training_share(corpus: Corpus, split: str) -> Corpus:
    """Train or validation of a corpus that does not say which: by the hash of the identifiers."""
    if split == "test" or any("split" in clip.attributes for clip in corpus):
        return corpus
    if len(corpus) < 2:
        raise MelodyError(f"corpus {corpus.name} has 1 clip; training needs 2 or more, for a validation set of its own")
    ranked = sorted(corpus, key=lambda clip: hashlib.sha256(clip.identifier.encode()).hexdigest())
    count = max(1, round(VALIDATION_SHARE * len(corpus)))
    held_out = {clip.identifier for clip in ranked[:count]}
    chosen = [clip for clip in corpus if (clip.identifier in held_out) == (split == "validation")]
    return Corpus(corpus.name, chosen, left_out=corpus.left_out, faults=corpus.faults)


def _nothing_to_read(folder: Path) -> str:
    names = sorted(
        path.name
        for path in folder.iterdir()
        if path.is_file() and path.suffix in (".csv", ".tsv", ".txt", ".json", ".jsonl")
    )
    hint = did_you_mean(METADATA, names) if names else ""
    count = len(_audio_files(folder)[0])
    bare = f"; it holds {count} audio files, which captions=False takes without texts" if count else ""
    return f"folder {folder} has no {METADATA} (expected columns {', '.join(REQUIRED_COLUMNS)}){hint}{bare}"
