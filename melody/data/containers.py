"""Containers of sound, looked at before they are decoded: is the file whole, and does its header tell the truth?

libsndfile believes a header that says less than there is, mends one that says more in silence, and cannot read some
writers' "length unknown". So the bytes are measured here; a decoder is given stretches of them whose header is right.
What no rule here knows is given as it is, and the count of what was decoded decides.
"""

from __future__ import annotations

import io
import math
import re
import shlex
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from melody.data.flac import check_flac
from melody.data.mpeg import stream_of
from melody.data.stretches import Joined, Stretch
from melody.errors import MelodyError

READ = {
    "WAV": (".wav", ".wave", ".bwf"),
    "WAVEX": (),
    "RF64": (".rf64",),
    "W64": (".w64",),
    "FLAC": (".flac",),
    "OGG": (".ogg", ".oga", ".opus"),
    "MP3": (".mp3", ".mp2"),
    "AIFF": (".aiff", ".aif", ".aifc"),
    "AU": (".au", ".snd"),
    "CAF": (".caf",),
    "NIST": (".sph", ".nist"),
}
"""Formats, as libsndfile calls them, that it decodes and whose end can be checked; and their extensions."""
INPUT_EXTENSIONS = frozenset(extension for extensions in READ.values() for extension in extensions)
NOT_READ = {
    ".m4a": "AAC or ALAC in MP4",
    ".m4b": "AAC in MP4",
    ".aac": "AAC",
    ".wma": "Windows Media",
    ".ape": "Monkey's Audio",
    ".wv": "WavPack",
    ".tta": "True Audio",
    ".mpc": "Musepack",
    ".spx": "Speex",
    ".ac3": "AC-3",
    ".dts": "DTS",
    ".amr": "AMR",
    ".3ga": "AMR or AAC",
    ".mka": "Matroska",
    ".weba": "WebM",
    ".dsf": "DSD",
    ".dff": "DSD",
    ".ra": "RealAudio",
    ".gsm": "GSM",
    ".voc": "VOC",
    ".8svx": "8SVX",
}
"""Extensions of sounds that are not read. Such a file is named, for it was meant to be a clip."""
CUT_SHORT = "it ends before its header says: the file is cut short"
LFS_POINTER = b"version https://git-lfs"
EMPTY = "it is empty: 0 samples, or cut short before the first"
NEAR_UNKNOWN = 4096
"""Writers that cannot go back to a header leave 0, the largest number, or one a little smaller, for what follows it."""
SOX_UNKNOWN = 0x7F000000
"""What SoX leaves in an AIFF."""
EXTENSIBLE = 0xFFFE
MPEG_CODINGS = (0x50, 0x55)
CODINGS_NOT_READ = {0xFF: "AAC", 0x1600: "AAC", 0x160: "Windows Media", 0x161: "Windows Media", 0x162: "Windows Media",
                    0x2000: "AC-3", 0x2001: "DTS"}  # fmt: skip
"""Codings by the number that a WAV's ``fmt`` chunk says (RFC 2361); the first stands for another at its end."""
TRAILING = 1 << 16
"""Ours: bytes behind the samples that may belong to no chunk."""
OGG_HEADER, OGG_FIRST, OGG_LAST = 27, 2, 4
"""Bytes of a page's header before its table of segments, and flags of a stream's first and last page (RFC 3533)."""
W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
W64_DATA = b"data" + bytes.fromhex("f3acd3118cd100c04f8edb8a")


@dataclass(frozen=True)
class Parts:
    """What to decode, one after the other: each a file of stretches, or ``None`` for the file as it is."""

    files: tuple[tuple[Stretch, ...] | None, ...] = (None,)
    samples: int | None = None
    """Where frames were counted: of all of them."""
    channel_mask: int = 0
    """Of a WAV: which speakers its channels are for."""


@dataclass(frozen=True)
class WaveFormat:
    """How a WAV's samples are coded, and which speakers its channels are for, if it says so."""

    tag: int
    channel_mask: int = 0


@dataclass(frozen=True)
class Samples:
    """A chunk of samples: where they begin, how many bytes its header says, and where and how that is written."""

    begin: int
    length: int
    at: int
    form: str
    """As ``struct`` calls the number."""
    before: int = 0
    """Bytes of the chunk that come before the samples, or of its own header, that ``length`` counts too."""


def parts_of(file: BinaryIO, size: int, name: str = "FILE") -> Parts:
    """How to read a file; raises ``MelodyError`` if it is cut short or no sound that we read.

    Args:
        name: for the command that converts it; the message names the file nowhere else.
    """
    file.seek(0)
    head = file.read(64)
    if head.startswith(b"OggS"):
        return _ogg(file, size, head, name)
    for magic, walk in CHUNKED.items():
        if head.startswith(magic):
            return _chunked(file, size, walk(file, size), wave_format(file, size, head), name)
    if head.startswith(b"fLaC"):
        check_flac(file, size)
        return Parts()
    if head.startswith(LFS_POINTER):
        raise MelodyError("it is a pointer of Git LFS and no sound: git lfs pull")
    if (named := named_by_content(head)) is not None:
        raise MelodyError(not_read(named, name))
    return _mpeg(file, 0, size)


def not_read(kind: str, name: str) -> str:
    """The line on a kind of file that is not read, with the command that converts it.

    >>> not_read("AAC", "a/take 2.m4a")
    "it is AAC, which is not read; convert it: ffmpeg -i 'a/take 2.m4a' 'a/take 2.wav'"
    """
    stem, dot, extension = name.rpartition(".")
    target = f"{stem if dot else name}{'.flac' if extension.lower() == 'wav' else '.wav'}"
    return f"it is {kind}, which is not read; convert it: ffmpeg -i {shlex.quote(name)} {shlex.quote(target)}"


def named_by_content(head: bytes) -> str | None:
    """What a file is that we do not read, by its first bytes, whatever its name says.

    >>> named_by_content(bytes(4) + b"ftypM4A ")
    'AAC or ALAC in MP4'
    """
    if head[4:8] == b"ftyp":
        return "AAC or ALAC in MP4"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "AAC"
    kinds = {
        b"\x30\x26\xb2\x75": "Windows Media",
        b"\x1aE\xdf\xa3": "Matroska or WebM",
        b"MPCK": "Musepack",
        b"MAC ": "Monkey's Audio",
        b"wvpk": "WavPack",
        b"TTA1": "True Audio",
        b"#!AMR": "AMR",
    }
    return next((kind for magic, kind in kinds.items() if head.startswith(magic)), None)


def _mpeg(file: BinaryIO, begin: int, end: int) -> Parts:
    """MPEG audio between two places of a file, its frames counted; nothing of the kind there, and the file as it is."""
    stream = stream_of(io.BufferedReader(Joined(file, ((begin, end),))), end - begin)
    if stream is None:
        return Parts()
    if stream.is_cut:
        raise MelodyError(CUT_SHORT)
    stretches = (
        piece if isinstance(piece, bytes) else (begin + piece[0], begin + piece[1]) for piece in stream.stretches
    )
    return Parts((tuple(stretches),), samples=stream.samples)


def _chunked(file: BinaryIO, size: int, samples: Samples | None, coding: WaveFormat, name: str) -> Parts:
    """A file whose samples are one chunk: whole, cut, or with a length that is not known."""
    mask = coding.channel_mask
    if coding.tag in CODINGS_NOT_READ:
        raise MelodyError(not_read(f"{CODINGS_NOT_READ[coding.tag]} in WAV", name))
    if samples is None:
        return Parts(channel_mask=mask)  # libsndfile says what is wrong with it
    bits = 8 * struct.calcsize(samples.form)
    if samples.length == 0 and _are_chunks(file, samples, size):
        raise MelodyError(EMPTY)
    if not _is_unknown(samples.length, bits):
        if samples.begin + samples.length - samples.before > size:
            raise MelodyError(CUT_SHORT)
        _check_rest(file, size, samples)
        if coding.tag in MPEG_CODINGS:
            return _mpeg(file, samples.begin, samples.begin + samples.length)
        return Parts(channel_mask=mask)
    if coding.tag in MPEG_CODINGS:
        return _mpeg(file, samples.begin, size)
    file.seek(0)
    head = file.read(samples.begin)
    length = min(size - samples.begin + samples.before, 2 ** (bits - 1) - 1 if bits == 64 else 2**bits - 2)
    told = struct.pack(samples.form, length)
    fixed = head[: samples.at] + told + head[samples.at + len(told) :]
    return Parts(((fixed, (samples.begin, size)),), channel_mask=mask)


def _are_chunks(file: BinaryIO, samples: Samples, size: int) -> bool:
    """Whether what follows an empty chunk of samples are more chunks, or nothing, and no samples."""
    offset = samples.begin
    while samples.form in ("<I", ">I") and offset < size and len(head := _at(file, offset, 8)) == 8:
        length = struct.unpack(samples.form, head[4:])[0]
        offset += 8 + length + length % 2
    return offset == size


def _is_unknown(length: int, bits: int) -> bool:
    told = length % 2**bits  # −1 is the largest number
    marks = (2**bits, 2 ** (bits - 1), SOX_UNKNOWN + NEAR_UNKNOWN)
    return told == 0 or any(mark - NEAR_UNKNOWN <= told <= mark for mark in marks)


def _check_rest(file: BinaryIO, size: int, samples: Samples) -> None:
    """Raise ``MelodyError`` if much follows the samples that is no chunk, as where a length passed 32 bits."""
    end = samples.begin + samples.length - samples.before
    if any(_at(file, end, 16).startswith(magic) for magic in CHUNKED):
        raise MelodyError("it holds more than its header says: another file follows the samples")
    end += end % 2
    if size - end <= TRAILING or samples.form in ("<q", ">q"):
        return
    file.seek(end)
    name = file.read(4)
    if not all(0x20 <= byte < 0x7F for byte in name):
        raise MelodyError(f"it holds more than its header says: {size - end:,} bytes follow the samples")


def _riff(file: BinaryIO, size: int) -> Samples | None:
    return _chunk(file, size, b"data", "<I")


def _rifx(file: BinaryIO, size: int) -> Samples | None:
    return _chunk(file, size, b"data", ">I")


def _aiff(file: BinaryIO, size: int) -> Samples | None:
    """``SSND`` counts eight bytes of its own before the samples."""
    chunk = _chunk(file, size, b"SSND", ">I")
    return chunk and Samples(chunk.begin + 8, chunk.length, chunk.at, chunk.form, before=8)


def _rf64(file: BinaryIO, size: int) -> Samples | None:
    """The length stands in ``ds64``, which comes first, behind the file's own."""
    sizes, data = _chunk(file, size, b"ds64", "<I"), _chunk(file, size, b"data", "<I")
    if sizes is None or data is None or len(told := _at(file, sizes.begin + 8, 8)) < 8:
        return None
    return Samples(data.begin, struct.unpack("<q", told)[0], sizes.begin + 8, "<q")


def _w64(file: BinaryIO, size: int) -> Samples | None:
    """Names of 16 bytes, lengths of 8 that count their header, chunks at multiples of 8."""
    offset = 40
    while len(head := _at(file, offset, 24)) == 24:
        length = struct.unpack("<q", head[16:])[0]
        if head[:16] == W64_DATA:
            return Samples(offset + 24, length, offset + 16, "<q", before=24)
        if length < 24:
            return None
        offset += (length + 7) // 8 * 8
    return None


def _caf(file: BinaryIO, size: int) -> Samples | None:
    """Lengths of 8 bytes; ``data`` counts four of its own before the samples; −1 is not known."""
    offset = 8
    while len(head := _at(file, offset, 12)) == 12:
        name, length = struct.unpack(">4sq", head)
        if name == b"data":
            return Samples(offset + 16, length, offset + 4, ">q", before=4)
        if length < 0:
            return None
        offset += 12 + length
    return None


def _au(file: BinaryIO, size: int) -> Samples | None:
    order = "<" if _at(file, 0, 4) == b"dns." else ">"
    begin, length = struct.unpack(f"{order}II", _at(file, 4, 8).ljust(8, b"\0"))
    return Samples(begin, length, 8, f"{order}I")


def _nist(file: BinaryIO, size: int) -> Samples | None:
    """A header of text, which says how many samples of how many bytes follow it."""
    head = _at(file, 0, 1024)
    said = {key: int(value) for key, value in re.findall(rb"(\w+) -i (\d+)", head)}
    begin = re.match(rb"NIST_1A\n\s*(\d+)\n", head)
    counts = [said.get(key) for key in (b"sample_count", b"channel_count", b"sample_n_bytes")]
    if begin is None or None in counts or b"shorten" in head:
        return None
    length = math.prod(count for count in counts if count is not None)
    return Samples(int(begin[1]), length, 0, "<q") if length else None


CHUNKED: dict[bytes, Callable[[BinaryIO, int], Samples | None]] = {
    b"RIFF": _riff,
    b"RIFX": _rifx,
    b"RF64": _rf64,
    b"FORM": _aiff,
    W64_RIFF: _w64,
    b"caff": _caf,
    b".snd": _au,
    b"dns.": _au,
    b"NIST_1A": _nist,
}
"""Begin of a file, and how its samples are found."""


def _chunk(file: BinaryIO, size: int, wanted: bytes, form: str) -> Samples | None:
    for name, offset, length in _chunks(file, size, form):
        if name == wanted:
            return Samples(offset, length, offset - 4, form)
    return None


def _chunks(file: BinaryIO, size: int, form: str) -> Iterator[tuple[bytes, int, int]]:
    """Name, begin and length of every chunk of a RIFF or IFF file."""
    offset = 12
    while offset < size and len(head := _at(file, offset, 8)) == 8:
        (length,) = struct.unpack(form, head[4:])
        yield head[:4], offset + 8, length
        offset += 8 + length + length % 2


def wave_format(file: BinaryIO, size: int, head: bytes) -> WaveFormat:
    """What a WAV's ``fmt`` chunk says; nothing of other files."""
    chunk = _chunk(file, size, b"fmt ", "<I") if head[:4] in (b"RIFF", b"RF64") else None
    content = b"" if chunk is None else _at(file, chunk.begin, min(chunk.length, 26))
    tag = int.from_bytes(content[:2], "little")
    if tag != EXTENSIBLE or len(content) < 26:
        return WaveFormat(tag)
    return WaveFormat(int.from_bytes(content[24:26], "little"), int.from_bytes(content[20:24], "little"))


def _ogg(file: BinaryIO, size: int, head: bytes, name: str) -> Parts:
    """Streams one behind the other, each decoded by itself: libsndfile takes the first for all.

    One whose last page is not whole, or not marked as the last, is cut.
    """
    if b"\x7fFLAC" in head:
        raise MelodyError(not_read("FLAC in Ogg", name))
    offset, begins, was_first, was_last = 0, [], False, False
    while len(page := _at(file, offset, OGG_HEADER)) == OGG_HEADER and page.startswith(b"OggS"):
        end = offset + OGG_HEADER + page[-1] + sum(file.read(page[-1]))
        is_first, was_last = bool(page[5] & OGG_FIRST), bool(page[5] & OGG_LAST)
        if is_first and not was_first:
            begins.append(offset)
        if end > size:
            raise MelodyError(CUT_SHORT)
        offset, was_first = end, is_first
    if not was_last:
        raise MelodyError(f"its pages break off after {offset:,} of {size:,} bytes: the file is cut short or damaged")
    if len(begins) < 2:
        return Parts()
    return Parts(tuple(((begin, end),) for begin, end in zip(begins, [*begins[1:], offset], strict=True)))


def _at(file: BinaryIO, offset: int, count: int) -> bytes:
    file.seek(offset)
    return file.read(count)
