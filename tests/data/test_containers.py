"""Every container is read to its end, or named: whatever its header promises, and whoever wrote it."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from melody.data.audio import read_audio
from melody.data.containers import INPUT_EXTENSIONS, NOT_READ
from melody.data.decoding import decode, header_of
from melody.errors import MelodyError

RATE, SECONDS = 44_100, 2.0
SAMPLES = round(RATE * SECONDS)
FRAME = 1_152


def music(seed: int = 0, channels: int = 1, seconds: float = SECONDS, rate: int = RATE) -> np.ndarray:
    """Noise that grows louder: no part of it is like another, and an encoder's bit rate varies."""
    count = round(seconds * rate)
    drawn = np.random.default_rng(seed).standard_normal((count, channels))
    sound: np.ndarray = (0.2 * drawn * np.linspace(0.01, 1, count)[:, None]).astype(np.float32)
    return sound


def encoded(samples: np.ndarray, rate: int = RATE, **how: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, **how)
    return buffer.getvalue()


def mp3(samples: np.ndarray, mode: str = "VARIABLE", rate: int = RATE) -> bytes:
    """An MP3 as libsndfile writes it, which begins with a header frame."""
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer, "w", rate, samples.shape[1], format="MP3", bitrate_mode=mode, compression_level=0.3
    ) as file:
        file.write(samples)
    return buffer.getvalue()


def frame_length(head: bytes) -> int:
    """Bytes of an MPEG-1 frame of layer III."""
    kbits = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)[head[2] >> 4]
    rate = (44_100, 48_000, 32_000)[head[2] >> 2 & 3]
    return 144_000 * kbits // rate + (head[2] >> 1 & 1)


def without_header(content: bytes) -> bytes:
    """What an encoder leaves in a pipe: the same frames without the one that says how many there are."""
    assert b"Xing" in content[:200] or b"Info" in content[:200]
    return content[frame_length(content) :]


def chunk_at(content: bytes, name: bytes) -> int:
    return content.index(name) + len(name)


def with_size(content: bytes, name: bytes, size: bytes) -> bytes:
    at = chunk_at(content, name)
    return content[:at] + size + content[at + len(size) :]


@pytest.fixture
def place(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def put(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return put


@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_an_mp3_from_a_pipe_is_read_to_its_end(mode: str, channels: int, rate: int) -> None:
    content = mp3(music(channels=channels, rate=rate), mode, rate)
    whole, bare = decode(content), decode(without_header(content))
    assert len(whole.mono) == round(SECONDS * rate)
    # Without its header nothing tells what the encoder padded, so the sound begins a little later.
    assert len(whole.mono) <= len(bare.mono) <= len(whole.mono) + 3 * FRAME
    late = next(n for n in range(2 * FRAME) if np.abs(bare.mono[n : n + 2_000] - whole.mono[:2_000]).max() < 1e-4)
    np.testing.assert_allclose(bare.mono[late : late + len(whole.mono)], whole.mono, atol=1e-3)
    assert header_of(without_header(content)).frames == len(bare.mono)


def test_tags_and_rubbish_around_the_frames_are_no_sound() -> None:
    bare = without_header(mp3(music()))
    tag = b"ID3\x04\x00\x00" + bytes([0, 0, 8, 0]) + bytes(1024)
    for spoilt in (tag + bare, tag + tag + bare, bare + b"TAG" + bytes(125), bytes(100) + bare):
        np.testing.assert_array_equal(decode(spoilt).mono, decode(bare).mono)
    half = len(bare) // 2
    cut = next(n for n in range(half, len(bare)) if bare[n : n + 2] == bare[:2] and bare[n + 2] & 0xC == bare[2] & 0xC)
    spoilt = decode(bare[:cut] + b"rubbish" * 100 + bare[cut:])
    assert len(spoilt.mono) == len(decode(bare).mono)


@pytest.mark.parametrize("bare", [False, True])
def test_joined_mp3s_are_read_to_the_last(bare: bool) -> None:
    parts = [mp3(music(seed)) for seed in (1, 2)]
    joined = b"".join(without_header(part) if bare else part for part in parts)
    assert 2 * SAMPLES <= len(decode(joined).mono) <= 2 * SAMPLES + 6 * FRAME


def in_wav(content: bytes, tag: int, size: int | None = None, channels: int = 1) -> bytes:
    """Coded sound in a WAV, as ffmpeg writes it."""
    form = struct.pack("<HHIIHHHHIHHH", tag, channels, RATE, 16_000, 1, 0, 12, 1, 2, 1152, 1, 1393)
    chunks = b"WAVEfmt " + struct.pack("<I", len(form)) + form
    chunks += b"fact" + struct.pack("<II", 4, 3 * SAMPLES)  # ffmpeg counts more samples than there are
    return b"RIFF\xff\xff\xff\x7f" + chunks + b"data" + struct.pack("<I", size or len(content)) + content


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("size", [None, 0xFFFFFFFF])
def test_an_mp3_in_a_wav_is_read_as_it_is_outside(channels: int, size: int | None) -> None:
    for bare in (mp3(music(channels=channels)), without_header(mp3(music(channels=channels)))):
        wav = in_wav(bare, 0x55, size, channels)
        np.testing.assert_array_equal(decode(wav).mono, decode(bare).mono)
        assert header_of(wav).frames == header_of(bare).frames
        with pytest.raises(MelodyError, match="cut short"):
            decode(in_wav(bare, 0x55, channels=channels)[:-5_000])


def test_a_wav_of_a_coding_that_is_not_read_is_named() -> None:
    with pytest.raises(MelodyError, match=r"it is AAC in WAV, which is not read; convert it: ffmpeg -i FILE"):
        header_of(in_wav(bytes(1000), 0xFF))


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
@pytest.mark.parametrize("bare", [False, True])
def test_joined_mp3s_of_one_and_two_channels_are_named_before_they_are_decoded(
    order: tuple[int, int], bare: bool
) -> None:
    parts = [mp3(music(channels=channels)) for channels in order]
    joined = b"".join(without_header(part) if bare else part for part in parts)
    was, now = ({1: "mono", 2: "stereo"}[channels] for channels in order)
    for look in (header_of, decode):
        with pytest.raises(MelodyError, match=f"its streams differ: MPEG audio in {was}, then in {now}"):
            look(joined)


def test_a_damaged_file_says_where() -> None:
    flac = bytearray(encoded(music(), format="FLAC", subtype="PCM_16"))
    flac[len(flac) // 2 : len(flac) // 2 + 100] = bytes(100)
    with pytest.raises(MelodyError, match=r"it cannot be decoded after 1\.\d+ s: the file is cut short or damaged"):
        decode(bytes(flac))
    ogg = bytearray(encoded(music(), format="OGG", subtype="VORBIS"))
    pages = [at for at in range(len(ogg)) if ogg[at : at + 4] == b"OggS"]
    ogg[pages[-2] : pages[-2] + 4] = bytes(4)
    with pytest.raises(MelodyError, match=f"its pages break off after {pages[-2]:,} of {len(ogg):,} bytes"):
        header_of(bytes(ogg))


def test_a_joined_flac_is_not_read_to_its_first_end() -> None:
    with pytest.raises(MelodyError, match="it holds more than its header says: something follows its 88,200 samples"):
        decode(2 * encoded(music(), format="FLAC", subtype="PCM_16"))


@pytest.mark.parametrize(("how", "rate"), [({"subtype": "VORBIS"}, RATE), ({"subtype": "OPUS"}, 48_000)])
def test_joined_ogg_streams_are_read_to_the_last(how: dict[str, str], rate: int) -> None:
    first, second = (encoded(music(seed, rate=rate), rate, format="OGG", **how) for seed in (1, 2))
    expected = np.concatenate([decode(first).mono, decode(second).mono])
    np.testing.assert_array_equal(decode(first + second).mono, expected)
    assert header_of(first + second).frames == len(expected) == 2 * round(SECONDS * rate)
    other = encoded(music(rate=rate, channels=2), rate, format="OGG", **how)
    with pytest.raises(MelodyError, match="its streams differ"):
        decode(first + other)


UNKNOWN = {
    "RIFF, as SoX and espeak": ("WAV", b"data", struct.pack("<I", 0x7FFFF000)),
    "RIFF, as arecord": ("WAV", b"data", struct.pack("<I", 0x80000000)),
    "RIFF, the largest number": ("WAV", b"data", struct.pack("<I", 0x7FFFFFFF)),
    "RIFF, the largest of all": ("WAV", b"data", struct.pack("<I", 0xFFFFFFFF)),
    "RIFF, less a header": ("WAV", b"data", struct.pack("<I", 0xFFFFFFFF - 36)),
    "RIFF, none": ("WAV", b"data", struct.pack("<I", 0)),
    "AIFF, none": ("AIFF", b"SSND", struct.pack(">I", 0)),
    "AIFF, as SoX": ("AIFF", b"SSND", struct.pack(">I", 0x7F000008)),
    "CAF": ("CAF", b"data", struct.pack(">q", -1)),
    "RF64": ("RF64", b"ds64\x1c\x00\x00\x00", bytes(24)),
    "W64": ("W64", b"data" + bytes.fromhex("f3acd3118cd100c04f8edb8a"), struct.pack("<q", -1)),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_a_length_that_the_writer_did_not_know(case: str) -> None:
    kind, name, size = UNKNOWN[case]
    content = encoded(music(), format=kind, subtype="PCM_16")
    spoilt = with_size(content, name, size)
    assert spoilt != content
    np.testing.assert_array_equal(decode(spoilt).mono, decode(content).mono)
    assert header_of(spoilt).frames == SAMPLES


def test_an_au_and_a_flac_from_a_pipe() -> None:
    au = bytearray(encoded(music(), format="AU", subtype="PCM_16"))
    au[8:12] = b"\xff" * 4
    assert len(decode(bytes(au)).mono) == header_of(bytes(au)).frames == SAMPLES
    flac = bytearray(encoded(music(), format="FLAC", subtype="PCM_16"))
    flac[8 + 13] &= 0xF0  # the 36 bits of STREAMINFO for the number of samples
    flac[8 + 14 : 8 + 18] = bytes(4)
    assert len(decode(bytes(flac)).mono) == header_of(bytes(flac)).frames == SAMPLES


def test_every_container_is_whole_as_written_and_named_when_cut() -> None:
    kinds = {"WAV": "PCM_16", "WAVEX": "PCM_24", "RF64": "FLOAT", "W64": "PCM_16", "AIFF": "PCM_16", "AU": "PCM_16"}
    kinds |= {"CAF": "ALAC_16", "FLAC": "PCM_16", "OGG": "VORBIS", "MP3": "MPEG_LAYER_III", "NIST": "PCM_16"}
    for kind, subtype in kinds.items():
        content = encoded(music(channels=2), format=kind, subtype=subtype)
        assert header_of(content).frames == len(decode(content).mono) == SAMPLES, kind
        for cut in (content[: len(content) // 2], content[: len(content) * 9 // 10]):
            for look in (header_of, decode):
                with pytest.raises(MelodyError, match=r"cut short|before its header"):
                    look(cut)


def test_a_length_past_32_bits_is_no_silent_loss() -> None:
    content = encoded(music(), format="WAV", subtype="PCM_16")
    wrapped = with_size(content, b"data", struct.pack("<I", 1000))
    with pytest.raises(MelodyError, match="it holds more than its header says"):
        header_of(wrapped)


def test_headers_that_lie_allocate_nothing() -> None:
    import tracemalloc

    bare = without_header(mp3(music()))
    promising = mp3(music())
    at = next(promising.index(tag) for tag in (b"Xing", b"Info") if tag in promising)
    promising = promising[: at + 8] + struct.pack(">I", 0xFFFFFFFF) + promising[at + 12 :]
    flac = bytearray(encoded(music(), format="FLAC", subtype="PCM_16"))
    flac[8 + 13] |= 0x0F
    flac[8 + 14 : 8 + 18] = b"\xff" * 4
    wav = encoded(music(), format="WAV", subtype="PCM_16")
    lies = {"cut short": (promising, bytes(flac), with_size(wav, b"data", struct.pack("<I", 0x70000000)))}
    slow, fast = (wav[:24] + struct.pack("<I", rate) + wav[28:] for rate in (1, 2_000_000_000))
    lies["its rate is"] = (slow, fast)
    lies["channels; expected at most 64"] = (encoded(music(channels=1)[:100].repeat(70, axis=1), format="WAV"),)
    tracemalloc.start()
    for reason, contents in lies.items():
        for content in contents:
            for look in (header_of, decode):
                with pytest.raises(MelodyError, match=reason):
                    look(content)
    assert tracemalloc.get_traced_memory()[1] < 100_000_000
    tracemalloc.stop()
    assert len(decode(bare).mono) > 0


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\0\0\0\x1cftypM4A \0\0\0\0", "AAC or ALAC in MP4"),
        (b"\xff\xf1\x50\x80" * 100, "AAC"),
        (b"wvpk" + bytes(100), "WavPack"),
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
        (b"OggS" + bytes(22) + b"\x01\x33\x7fFLAC\x01\x00", "FLAC in Ogg"),
    ],
)
def test_what_is_not_read_is_named_whatever_its_extension(place: object, content: bytes, kind: str) -> None:
    path = place("it's.mp3", content)  # type: ignore[operator]
    with pytest.raises(MelodyError, match=kind) as raised:
        read_audio(path, RATE)
    told = str(raised.value)
    assert "\n" not in told
    assert "git lfs pull" in told or "convert it: ffmpeg -i '" in told


def test_formats_whose_end_cannot_be_checked_are_named() -> None:
    with pytest.raises(MelodyError, match=r"VOC .*not read; convert it: ffmpeg -i FILE FILE\.wav"):
        decode(encoded(music(), format="VOC", subtype="PCM_16"))
    assert not set(INPUT_EXTENSIONS) & set(NOT_READ)


def test_pipes_and_devices_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "endless.wav").symlink_to("/dev/zero")
    for name in ("pipe.wav", "endless.wav"):
        with pytest.raises(MelodyError, match="it is no regular file"):
            decode(tmp_path / name)


def test_channels_are_kept_or_mixed() -> None:
    stereo = music(channels=2)
    sound = decode(encoded(stereo, format="WAV", subtype="FLOAT"), keep_channels=True)
    assert sound.channels is not None
    np.testing.assert_array_equal(sound.channels, stereo.T)
    np.testing.assert_allclose(sound.mono, stereo.mean(axis=1), atol=1e-7)
    assert sound.peak == pytest.approx(float(np.abs(stereo).max()))
    assert decode(encoded(stereo, format="WAV")).channels is None


def test_speakers_are_those_of_the_file() -> None:
    six = music(channels=6, seconds=0.1)
    assert header_of(encoded(six, format="FLAC")).layout == "FL FR FC LFE BL BR"
    assert header_of(encoded(six, format="OGG", subtype="VORBIS")).layout == "FL FC FR BL BR LFE"
    masked = bytearray(encoded(music(channels=4, seconds=0.1), format="WAVEX", subtype="PCM_16"))
    at = masked.index(b"fmt ") + 8 + 20
    masked[at : at + 4] = struct.pack("<I", 0b1111)
    assert header_of(bytes(masked)).layout == "FL FR FC LFE"
    assert header_of(encoded(music(channels=9, seconds=0.1), format="WAV")).layout == ""


def test_sound_behind_what_a_header_tells_is_named() -> None:
    flac = bytearray(encoded(music(), format="FLAC", subtype="PCM_16"))
    flac[22:26] = struct.pack(">I", SAMPLES // 3)  # the lower bits of STREAMINFO's number of samples
    joined = [mp3(music(seed, rate=rate), rate=rate) for seed, rate in ((1, RATE), (2, 48_000))]
    kinds = ("AU", "CAF", "W64", "AIFF", "WAV", "RF64")
    twice = [2 * encoded(music(), format=kind, subtype="PCM_16") for kind in kinds]
    for content in (bytes(flac), b"".join(joined), b"".join(map(without_header, joined)), *twice):
        for look in (header_of, decode):
            with pytest.raises(MelodyError, match=r"it holds more than its header says|its streams differ"):
                look(content)


@pytest.mark.parametrize("channels", [1, 8])
@pytest.mark.parametrize("seconds", [0.001, 0.1, 1.7])
@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_24"])
def test_a_flac_whose_header_is_right_is_read(channels: int, seconds: float, subtype: str) -> None:
    content = encoded(music(channels=channels, seconds=seconds), format="FLAC", subtype=subtype)
    assert header_of(content).frames == len(decode(content).mono) == round(seconds * RATE)
    assert header_of(content + b"TAG" + bytes(125)).frames == round(seconds * RATE)
