"""Parts of a file, one behind the other, as one file: for a decoder that the file itself would mislead."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import BinaryIO

Stretch = bytes | tuple[int, int]
"""Bytes of our own, or begin and end of a part of the file."""


class Joined(io.RawIOBase):
    """Stretches of ``file`` as one file to read and to seek in; nothing is held but what is ours.

    A decoder asks from within a callback, which raises nothing: ``error`` keeps what the system refused.
    """

    def __init__(self, file: BinaryIO, stretches: Sequence[Stretch]) -> None:
        super().__init__()
        self._file, self._stretches = file, tuple(stretches)
        self._size = sum(map(length_of, stretches))
        self._place = 0
        self.error: OSError | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted, done = len(buffer), 0
        while done < wanted and (piece := self._next(wanted - done)):
            buffer[done : done + len(piece)] = piece
            done += len(piece)
            self._place += len(piece)
        return done

    def _next(self, most: int) -> bytes:
        """What follows at the place where we are, out of one stretch."""
        before = 0
        for stretch in self._stretches:
            length = length_of(stretch)
            if self._place < before + length:
                begin = self._place - before
                return self._piece(stretch, begin, min(length, begin + most))
            before += length
        return b""

    def _piece(self, stretch: Stretch, begin: int, end: int) -> bytes:
        if isinstance(stretch, bytes):
            return stretch[begin:end]
        try:
            self._file.seek(stretch[0] + begin)
            return self._file.read(end - begin)
        except OSError as error:
            self.error = error
            return b""


def length_of(stretch: Stretch) -> int:
    """Its bytes."""
    return len(stretch) if isinstance(stretch, bytes) else stretch[1] - stretch[0]
