"""Clips that two sets share: a set measured against itself, or a reference that lies inside of the generated folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from melody.data.listing import AudioFolder
from melody.errors import MelodyError
from melody.evaluation.extract import ClipRef
from melody.evaluation.scoring import some

REMEDY = "give folders without common clips, or say --allow-overlap"


def check_apart(ours: AudioFolder, other: AudioFolder, *, allowed: bool) -> list[str]:
    """What is to be told of files that stand in both listings, links resolved.

    Raises:
        MelodyError: there are such files, and that is not allowed.
    """
    theirs = {_identity(clip.path) for clip in other.clips}
    shared = [clip.name for clip in ours.clips if _identity(clip.path) in theirs]
    if not shared:
        return []
    if len(shared) == len(ours.clips) == len(other.clips):
        told = f"{ours.folder} and {other.folder} hold the same files"
    else:
        told = (
            f"{len(shared)} of {len(ours.clips)} clips of {ours.folder} are clips of {other.folder} too: {some(shared)}"
        )
    if not allowed:
        raise MelodyError(f"{told}; {REMEDY}")
    return [told]


def _identity(path: Path) -> tuple[int, int]:
    """Which file it is, by whatever name or link."""
    status = path.stat()
    return status.st_dev, status.st_ino


def copies(generated: Sequence[ClipRef], reference: Sequence[ClipRef]) -> list[str]:
    """What is to be told of generated clips that are copies of clips of the reference, byte for byte."""
    theirs = {sound.key for sound in reference}
    shared = [sound.name for sound in generated if sound.key in theirs]
    return [f"{len(shared)} generated clips are copies of reference clips: {some(shared)}"] if shared else []
