"""FLAC: how many samples there are by its last frame, for its header may say fewer, and a decoder believes it.

Source: RFC 9639, sections 8.2 (STREAMINFO), 9.1 (frame header) and 9.3 (frame footer).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from melody.errors import MelodyError

TAIL = 1 << 18
"""Ours: bytes at the end that hold the last frame of all but odd files."""
STREAMINFO_BYTES = 42
HEADER_BYTES = 16
"""A frame header's most."""
BLOCK_SIZES = {1: 192, **{code: 576 << code - 2 for code in range(2, 6)}, **{c: 256 << c - 8 for c in range(8, 16)}}
"""Samples of a frame by its code; after 6 and 7 they stand behind the coded number."""
RATE_BYTES = {12: 1, 13: 2, 14: 2}


def check_flac(file: BinaryIO, size: int) -> None:
    """Raise ``MelodyError`` if a file's last frame ends after the last sample that its header tells."""
    file.seek(0)
    head = file.read(STREAMINFO_BYTES)
    told = int.from_bytes(head[18:26], "big") & (1 << 36) - 1
    if len(head) < STREAMINFO_BYTES or not told:
        return
    file.seek(max(STREAMINFO_BYTES, size - TAIL))
    end = _end_of_last(file.read(), int.from_bytes(head[8:10], "big"))
    if end is not None and end > told:
        raise MelodyError(f"it holds more than its header says: {end:,} samples, not {told:,}")


def _end_of_last(tail: bytes, block_size: int) -> int | None:
    """Samples up to the end of the frame that ends where the file does; ``None`` if something else is there."""
    for at in _starts(tail):
        end = _end_of(tail[at : at + HEADER_BYTES], block_size)
        if end is not None and _crc(tail[at:], 16, 0x8005) == 0:
            return end
    return None


def _starts(tail: bytes) -> Iterator[int]:
    """Where frames may begin, the last first."""
    at = tail.rfind(b"\xff")
    while at >= 0:
        if tail[at + 1 : at + 2] in (b"\xf8", b"\xf9"):
            yield at
        at = tail.rfind(b"\xff", 0, at)


def _end_of(head: bytes, block_size: int) -> int | None:
    """The first sample after a frame, from its header; ``None`` if it is none."""
    if len(head) < 6 or head[3] & 1 or (length := _coded_bytes(head[4])) is None:
        return None
    code, number = head[2] >> 4, head[4] & (0x7F if length == 1 else 0x7F >> length)
    for byte in head[5 : 4 + length]:
        number = number << 6 | byte & 0x3F
    offset = 4 + length
    size_bytes = code - 5 if code in (6, 7) else 0
    samples = int.from_bytes(head[offset : offset + size_bytes], "big") + 1 if size_bytes else BLOCK_SIZES.get(code)
    offset += size_bytes + RATE_BYTES.get(head[2] & 0x0F, 0)
    if samples is None or _crc(head[: offset + 1], 8, 0x07):
        return None
    return samples + (number if head[1] & 1 else number * block_size)


def _coded_bytes(first: int) -> int | None:
    """Bytes of a coded number by its first one."""
    ones = 8 - (first ^ 0xFF).bit_length()
    return 1 if ones == 0 else None if ones in (1, 8) else ones


def _crc(content: bytes, bits: int, polynomial: int) -> int:
    """0 where the checksum that ends the content is right."""
    top, mask, table = bits - 8, (1 << bits) - 1, []
    for byte in range(256):
        value = byte << top
        for _ in range(8):
            value = (value << 1 ^ (polynomial if value >> bits - 1 & 1 else 0)) & mask
        table.append(value)
    checksum = 0
    for byte in content:
        checksum = (checksum << 8 & mask) ^ table[checksum >> top ^ byte]
    return checksum
