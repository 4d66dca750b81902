"""A corpus by its name or place: the embedded one, a folder with texts, the authors' demo page, or shards."""

from __future__ import annotations

from pathlib import Path

from melody.data import embedded, folders, shards
from melody.data.corpus import SPLITS, Corpus, Progress, check_split
from melody.errors import MelodyError, did_you_mean


def load_corpus(
    where: str | Path,
    *,
    split: str = "test",
    captions: bool = True,
    num_clips: int | None = None,
    seed: int = 0,
    report: bool = False,
    progress: Progress | None = None,
) -> Corpus:
    """Load a corpus.

    Args:
        where: ``embedded``, or ``embedded:10,30`` for pieces of these lengths in seconds; a folder with
            ``metadata.csv`` (columns ``file_name``, ``text`` and more); a clone of the authors' demo page; shards: a
            folder of ``.tar`` files, or ``shards-{000000..000009}.tar``.
        split: ``train``, ``validation`` or ``test``; of the embedded corpus ``test-2`` too. Of a folder, the rows whose
            column ``split`` says so. A folder without that column is its own test set; for training, a twentieth of it
            (by hash of the identifiers) is ``validation`` and the rest ``train``.
        captions: ``False`` takes every audio file below the folder, with empty texts.
        num_clips: only so many, from the first.
        seed: of the embedded corpus.
        report: leave out files that are unreadable, empty or the same as another, and tell them in ``faults``;
            otherwise the first that is missing, unreadable or empty raises.
        progress: called as the embedded corpus is rendered.

    Raises:
        MelodyError: no such folder or split, no captions, missing, doubled or unreadable files.
    """
    built_in = embedded.is_embedded(str(where))
    check_split(split, embedded.EMBEDDED_SPLITS if built_in else SPLITS)
    if num_clips is not None and num_clips < 1:
        raise MelodyError(f"number of clips is {num_clips}, expected at least 1")
    if built_in:
        durations_s = embedded.durations_of(str(where))
        return embedded.embedded_corpus(split, num_clips, seed, durations_s=durations_s, progress=progress)
    folder = Path(where)
    if str(where).endswith(".tar") or (folder.is_dir() and folders.holds_shards(folder)):
        paths = shards.shard_paths(str(where))
        corpus = shards.shard_corpus(folder.name, paths, split, report=report)
        corpus = folders.training_share(corpus, split)
        return corpus if num_clips is None else corpus[:num_clips]
    if not folder.is_dir():
        hint = did_you_mean(str(where), ["embedded"]) if "/" not in str(where) else ""
        raise MelodyError(f"no corpus {str(where)!r}: expected 'embedded' or a folder{hint}")
    corpus = folders.folder_corpus(folder, split, report=report) if captions else folders.uncaptioned_corpus(folder)
    return corpus if num_clips is None else corpus[:num_clips]


def whole_corpora(where: str) -> list[tuple[str | None, Corpus]]:
    """All clips of a corpus, by split where its clips do not say theirs themselves; raises as ``load_corpus``."""
    if embedded.is_embedded(where):
        return [(split, load_corpus(where, split=split)) for split in SPLITS]
    if (Path(where) / folders.METADATA).is_file():
        return [(None, folders.metadata_corpus(Path(where), None, report=True))]
    if where.endswith(".tar") or folders.holds_shards(Path(where)):
        return [(None, shards.shard_corpus(Path(where).name, shards.shard_paths(where), None, report=True))]
    return [(None, load_corpus(where, report=True))]
