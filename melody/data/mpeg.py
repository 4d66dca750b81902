"""MPEG audio (MP3, MP2): its frames, counted, and a header that says their number.

A decoder takes the number of frames from a header frame (``Xing`` or ``Info``), or guesses it from the first frame's
bit rate. Encoders that write to a pipe leave no such header, and files that were joined one too small. We count.

Sources: ISO/IEC 11172-3 and 13818-3, section 2.4.2.3 (frame header); the tags' layouts as LAME and Fraunhofer write
them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from melody.data.stretches import Stretch, length_of
from melody.errors import MelodyError

RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""Sample rates in Hz by the header's version: 3 is MPEG-1, 2 MPEG-2, 0 MPEG-2.5."""
LOW_KBITS = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
KBITS = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): LOW_KBITS,
    (False, 3): LOW_KBITS,
}
"""Kilobits a second by MPEG-1 or later, and layer, for the header's 1 to 14."""
SIDE = {(True, False): 32, (True, True): 17, (False, False): 17, (False, True): 9}
"""Bytes of side information before a tag, by MPEG-1 or later, and mono."""
HEAD = 4
START = 192
"""Bytes of a frame that hold all that we look at: header, checksum, side information, tag."""
SEARCHED = 1 << 16
"""Ours: how many bytes before the first frame may be something else."""
IN_A_ROW = 3
"""Ours: frames that must follow each other for us to take bytes for MPEG audio."""
SLACK_FRAMES = 2
"""Frames by which a file may be shorter than its header says: an encoder's padding."""
HAS_FRAMES, HAS_BYTES = 1, 2
VBRI_AT, VBRI_FRAMES = 36, 14
INFO_KBITS = 5
"""Index of a bit rate whose frame has room for a tag at every version and sample rate."""


@dataclass(frozen=True)
class Frame:
    """What a frame's header says: bytes, samples, where a tag would begin."""

    length: int
    samples: int
    side: int
    kind: int
    """The bits that all frames of one stream share: version, layer, sample rate."""
    rate: int
    mono: bool


@dataclass(frozen=True)
class Tag:
    """A header frame's tag: its name, where in the frame it begins, the number of frames if it says one."""

    name: bytes
    at: int
    promised: int | None


@dataclass(frozen=True)
class Stream:
    """A file's header frame and its frames of sound, one behind the other; samples of all of them."""

    stretches: tuple[Stretch, ...]
    samples: int
    """A gapless file's are fewer, by what its encoder padded."""
    is_cut: bool


def frame_of(head: bytes) -> Frame | None:
    """A frame's header, if four bytes are one; a frame of free bit rate has no known length, and is none."""
    if len(head) < HEAD or head[0] != 0xFF or head[1] < 0xE0:
        return None
    version, layer, index = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3), head[2] >> 4
    rate_index, padding, mono = head[2] >> 2 & 3, head[2] >> 1 & 1, head[3] >> 6 == 3
    if version == 1 or layer == 4 or index in (0, 15) or rate_index == 3:
        return None
    first = version == 3
    rate, bits = RATES[version][rate_index], 1000 * KBITS[first, layer][index - 1]
    kind = (head[1] & 0x1E) << 8 | (head[2] & 0x0C)
    if layer == 1:
        return Frame((12 * bits // rate + padding) * 4, 384, HEAD, kind, rate, mono)
    samples = 576 if layer == 3 and not first else 1152
    return Frame(samples // 8 * bits // rate + padding, samples, HEAD + SIDE[first, mono], kind, rate, mono)


def stream_of(file: BinaryIO, size: int) -> Stream | None:
    """The frames of a file, or ``None`` if it is no MPEG audio.

    What is no frame of sound is left out: tags, rubbish between frames, header frames of files that were joined.

    Raises:
        MelodyError: frames of another sample rate, version, layer or number of channels follow, which no decoder reads
            with the first.
    """
    begin = _after_tags(file)
    first = _find(file, begin, min(size, begin + SEARCHED), size, kind=None)
    head = b"" if first is None else _read(file, first, HEAD)
    if first is None or (kind := frame_of(head)) is None:
        return None
    tag: Tag | None = None
    sound: Frame | None = None
    pieces: list[Stretch] = []
    count, is_cut = 0, False
    for offset, frame, start in _frames(file, first, size):
        if (own_tag := _tag(start, frame)) is not None:
            tag = own_tag if offset == first else tag
        elif offset + frame.length > size:
            is_cut = True
        else:
            sound = sound or frame
            _check_channels(sound, frame)
            count += 1
            _join(pieces, offset, offset + frame.length)
    if tag is not None and tag.promised is not None:
        is_cut = count < tag.promised - SLACK_FRAMES
    if not count:
        return None
    length = sum(map(length_of, pieces))
    if tag is not None and tag.promised is not None and tag.name != b"VBRI":
        pieces.insert(0, _corrected(_read(file, first, kind.length), tag, count, length))
    elif _is_layer_three(head):
        pieces.insert(0, _header(head, count, length))
    return Stream(tuple(pieces), count * kind.samples, is_cut)


def _corrected(frame: bytes, tag: Tag, count: int, length: int) -> bytes:
    """A file's own header frame with the true numbers; what it says of padding stays."""
    flags = int.from_bytes(frame[tag.at + 4 : tag.at + 8], "big")
    told = struct.pack(">I", count)
    if flags & HAS_BYTES:
        told += _sized(len(frame) + length)
    at = tag.at + 8
    return frame[:at] + told + frame[at + len(told) :]


def _header(head: bytes, count: int, length: int) -> bytes:
    """A header frame of ours, like a frame with ``head``; without a checksum."""
    own = bytes([0xFF, head[1] | 1, INFO_KBITS << 4 | head[2] & 0x0C, head[3]])
    frame = frame_of(own)
    assert frame is not None
    told = b"Info" + struct.pack(">II", HAS_FRAMES | HAS_BYTES, count) + _sized(frame.length + length)
    return (own.ljust(frame.side, b"\0") + told).ljust(frame.length, b"\0")


def _sized(length: int) -> bytes:
    return struct.pack(">I", min(length, 0xFFFFFFFF))


def _join(pieces: list[Stretch], begin: int, end: int) -> None:
    """Add a piece of the file, to the last one if it follows it."""
    last = pieces[-1] if pieces else b""
    if isinstance(last, tuple) and last[1] == begin:
        pieces[-1] = (last[0], end)
    else:
        pieces.append((begin, end))


def _is_layer_three(head: bytes) -> bool:
    return head[1] >> 1 & 3 == 1


def _frames(file: BinaryIO, offset: int, size: int) -> Iterator[tuple[int, Frame, bytes]]:
    """Every frame: place, header, first bytes; what lies between is passed over."""
    last: Frame | None = None
    while offset < size:
        start = _read(file, offset, START)
        frame = frame_of(start)
        if frame is not None and (last is None or frame.kind == last.kind):
            last = frame
            yield offset, frame, start
            offset += frame.length
            continue
        next_frame = _find(file, offset, size, size, None)
        if next_frame is None:
            return
        _check_alike(last, frame_of(_read(file, next_frame, HEAD)))
        offset = next_frame


def _check_alike(last: Frame | None, other: Frame | None) -> None:
    """Raise ``MelodyError`` if sound of another kind begins, as in files that were joined."""
    if last is None or other is None or last.kind == other.kind:
        return
    rates = f"MPEG audio of {last.rate:,} Hz, then of {other.rate:,} Hz"
    raise MelodyError(f"its streams differ: {rates if last.rate != other.rate else 'MPEG audio of two kinds'}")


def _check_channels(first: Frame, other: Frame) -> None:
    """Raise ``MelodyError`` if one has one channel, and the other two."""
    if first.mono != other.mono:
        was, now = ("mono" if frame.mono else "stereo" for frame in (first, other))
        raise MelodyError(f"its streams differ: MPEG audio in {was}, then in {now}")


def _find(file: BinaryIO, begin: int, end: int, size: int, kind: int | None) -> int | None:
    """The next place between ``begin`` and ``end`` where frames follow each other."""
    while begin < end:
        block = _read(file, begin, min(SEARCHED, end - begin))
        at = block.find(b"\xff")
        while at >= 0:
            if _are_frames(file, begin + at, size, kind):
                return begin + at
            at = block.find(b"\xff", at + 1)
        begin += SEARCHED
    return None


def _are_frames(file: BinaryIO, offset: int, size: int, kind: int | None) -> bool:
    """Whether frames of one kind follow each other here, up to the file's end or a tag behind them."""
    for number in range(IN_A_ROW):
        head = _read(file, offset, HEAD)
        if number and (offset == size or head[:3] in (b"TAG", b"ID3", b"APE", b"LYR")):
            return True
        frame = frame_of(head)
        if frame is None or kind not in (None, frame.kind):
            return False
        kind, offset = frame.kind, offset + frame.length
    return True


def _tag(start: bytes, frame: Frame) -> Tag | None:
    """The tag of a header frame, from a frame's first bytes."""
    for at in (frame.side, frame.side + 2):  # some encoders put it behind a checksum
        if (name := start[at : at + 4]) in (b"Xing", b"Info"):
            flags, count = struct.unpack(">II", start[at + 4 : at + 12].ljust(8, b"\0"))
            return Tag(name, at, count if flags & HAS_FRAMES else None)
    if start[VBRI_AT : VBRI_AT + 4] == b"VBRI":
        at = VBRI_AT + VBRI_FRAMES
        return Tag(b"VBRI", VBRI_AT, int.from_bytes(start[at : at + 4], "big"))
    return None


def _after_tags(file: BinaryIO) -> int:
    """Where the ID3v2 tags at the beginning end."""
    offset = 0
    while (head := _read(file, offset, 10))[:3] == b"ID3" and len(head) == 10:
        length = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        offset += 10 + length + (10 if head[5] & 0x10 else 0)
    return offset


def _read(file: BinaryIO, offset: int, count: int) -> bytes:
    file.seek(offset)
    return file.read(count)
