"""A SoundFont that sounds right in symusic: the generators that its synthesizer leaves out, worked into the samples.

Measured with symusic 0.5.9 and ``TimGM6mb.sf2``: a zone's root key, decay and filter (generators 58, 36 and 8 of
the SoundFont 2.04 specification) have no effect, so that most instruments play in another key in each zone (the violin
14 to 28 semitones off) and plucked strings never fade. Here each zone's sample is played out at the zone's middle key
(loop, envelope, filter), and written to a smaller file with plain headers: at one rate and with the right root key.
"""

from __future__ import annotations

import importlib.util
import struct
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from melody.errors import MelodyError

SOUNDFONT = "TimGM6mb.sf2"
DRUM_BANK = 128
SAMPLE_RATE = 24_000
LOWEST_KEY, HIGHEST_KEY = 26, 98
VELOCITY = 90
LONGEST_S = 3.0  # a longer note goes on as it sounds then
TAIL_S = 0.5
SILENT_DB = -66.0
BLOCK = 256

# Generators by their numbers in the specification, section 8.1.2.
FILTER_CUTOFF, ENVELOPE_TO_FILTER = 8, 11
FILTER_ENVELOPE, VOLUME_ENVELOPE = 25, 33  # the first of delay, attack, hold, decay, sustain, release
INSTRUMENT, KEY_RANGE, VELOCITY_RANGE, ATTENUATION = 41, 43, 44, 48
COARSE_TUNE, FINE_TUNE, SAMPLE, LOOPED, SCALE_TUNING, ROOT_KEY = 51, 52, 53, 54, 56, 58
DEFAULTS = {FILTER_CUTOFF: 13500, SCALE_TUNING: 100} | dict.fromkeys((*range(25, 29), *range(33, 37), 30, 38), -12000)
NOT_ADDED = {INSTRUMENT, KEY_RANGE, VELOCITY_RANGE, SAMPLE, LOOPED, ROOT_KEY}

HEADERS = {"phdr": "<20sHHHIII", "inst": "<20sH", "shdr": "<20sIIIIIBbHH", "pbag": "<HH", "ibag": "<HH"}
Generators = dict[int, int]


@dataclass(frozen=True)
class Zone:
    """Keys that share a sample, with the sample as it shall sound at ``key``; a longer note repeats its loop.

    Samples go on after the loop: symusic reads past its end by rounding, and would meet memory that nobody wrote.
    """

    low: int
    high: int
    key: int
    samples: NDArray[np.int16]
    loop_start: int
    loop_end: int
    release: int


class SoundFont:
    """A SoundFont 2 file, read for its zones."""

    def __init__(self, path: Path) -> None:
        content = path.read_bytes()
        self._chunks = dict(_chunks(content))
        if not {"smpl", "pgen", "igen", *HEADERS} <= set(self._chunks):
            raise MelodyError(f"{path} is not a SoundFont 2 file")
        self._tables = {name: list(struct.iter_unpack(form, self._chunks[name])) for name, form in HEADERS.items()}
        self._generators = {name: list(struct.iter_unpack("<HH", self._chunks[name])) for name in ("pgen", "igen")}
        self._samples = np.frombuffer(self._chunks["smpl"], dtype="<i2")

    def zones(self, bank: int, program: int) -> list[Zone]:
        """A preset's zones within our range of keys; raises ``MelodyError`` if there is no such preset."""
        presets = self._tables["phdr"]
        for preset, following in pairwise(presets):
            if (preset[2], preset[1]) == (bank, program):
                found = [
                    zone for g in self._preset_zones(preset[3], following[3]) if (zone := self._zone(g)) is not None
                ]
                ordered = sorted(found, key=lambda zone: zone.low)
                return ordered if bank == DRUM_BANK else _without_gaps(ordered)
        raise MelodyError(f"the SoundFont has no program {program} in bank {bank}")

    def _preset_zones(self, first: int, last: int) -> list[Generators]:
        found: list[Generators] = []
        for added in self._bags("pbag", "pgen", first, last, required=INSTRUMENT):
            instrument = added[INSTRUMENT]
            begin, end = (self._tables["inst"][instrument + i][1] for i in (0, 1))
            for own in self._bags("ibag", "igen", begin, end, required=SAMPLE):
                total = DEFAULTS | own
                for generator in added.keys() - NOT_ADDED:
                    total[generator] = total.get(generator, 0) + added[generator]
                total[KEY_RANGE] = _intersection(own.get(KEY_RANGE), added.get(KEY_RANGE))
                total[VELOCITY_RANGE] = _intersection(own.get(VELOCITY_RANGE), added.get(VELOCITY_RANGE))
                found.append(total)
        return found

    def _bags(self, bags: str, generators: str, first: int, last: int, *, required: int) -> list[Generators]:
        """Generators of each zone; the first zone gives the defaults of the others if it lacks ``required``."""
        found: list[Generators] = []
        common: Generators = {}
        for bag in range(first, last):
            begin, end = self._tables[bags][bag][0], self._tables[bags][bag + 1][0]
            own = {number: _signed(number, amount) for number, amount in self._generators[generators][begin:end]}
            if required in own:
                found.append(common | own)
            elif bag == first:
                common = own
        return found

    def _zone(self, g: Generators) -> Zone | None:
        low, high = max(g[KEY_RANGE] & 255, LOWEST_KEY), min(g[KEY_RANGE] >> 8, HIGHEST_KEY)
        if low > high or not g[VELOCITY_RANGE] & 255 <= VELOCITY <= g[VELOCITY_RANGE] >> 8:
            return None
        _, start, end, loop_start, loop_end, rate, original_key, correction, _, _ = self._tables["shdr"][g[SAMPLE]]
        key = (low + high) // 2
        root = g[ROOT_KEY] if 0 <= g.get(ROOT_KEY, -1) <= 127 else original_key
        cents = (key - root) * g[SCALE_TUNING] + 100 * g.get(COARSE_TUNE, 0) + g.get(FINE_TUNE, 0) + correction
        played_rate = rate * 2 ** (cents / 1200)
        sound = self._samples[start:end].astype(np.float64)
        sustained = bool(g.get(LOOPED, 0) & 1) and loop_end > loop_start
        period = loop_end - loop_start if sustained else 1
        if sustained:
            sound = _looped(sound, loop_start - start, loop_end - start, round(LONGEST_S * played_rate))
        sound = _shaped(_filtered(sound, played_rate, g), played_rate, g)
        tail = max(1, round(TAIL_S * played_rate / period)) * period
        after = sound[-tail:] if sustained else np.zeros(tail)
        whole = soxr.resample(np.concatenate([sound, after, after[: tail // 4]]), played_rate, SAMPLE_RATE)
        samples = np.clip(np.round(whole), -32768, 32767).astype(np.int16)
        loop = [round(place / played_rate * SAMPLE_RATE) for place in (len(sound), len(sound) + len(after))]
        return Zone(low, high, key, samples, loop[0], loop[1], max(g[VOLUME_ENVELOPE + 5], -6000))


def original_soundfont() -> Path:
    """The General MIDI SoundFont that pretty_midi ships, found without importing pretty_midi (which takes seconds).

    Raises:
        MelodyError: pretty_midi is not installed, or does not ship the file.
    """
    spec = importlib.util.find_spec("pretty_midi")
    for folder in list(spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder) / SOUNDFONT).is_file():
            return path
    raise MelodyError(f"the embedded corpus needs {SOUNDFONT}, which pretty_midi ships: pip install pretty_midi")


def prepared_soundfont(programs: tuple[int, ...]) -> bytes:
    """The file for symusic: these General MIDI programs and the standard drum kit."""
    original = SoundFont(original_soundfont())
    presets = {(0, program): original.zones(0, program) for program in sorted(set(programs))}
    presets[DRUM_BANK, 0] = original.zones(DRUM_BANK, 0)
    return _written(presets)


def _without_gaps(zones: list[Zone]) -> list[Zone]:
    """Zones whose keys leave none out: the alto saxophone of ``TimGM6mb.sf2`` lacks key 64 and would skip that note."""
    highest = 0
    filled = list(zones)
    for i, zone in enumerate(zones):
        if i and zone.low > highest + 1:
            filled[i] = replace(zone, low=highest + 1)
        highest = max(highest, zone.high)
    return filled


def _looped(sound: NDArray[np.float64], start: int, end: int, length: int) -> NDArray[np.float64]:
    """The sample to the end of its loop, then the loop again and again, ``length`` samples or a little more."""
    repeats = max(0, -(-(length - end) // (end - start)))
    return np.concatenate([sound[:end], np.tile(sound[start:end], repeats)])


def _envelope(g: Generators, first: int, seconds: NDArray[np.float64], *, in_db: bool) -> NDArray[np.float64]:
    """Delay, attack, hold, decay, sustain: in decibels (volume), or from 0 to 1 (filter)."""
    delay, attack, hold, decay = (2 ** (g[first + i] / 1200) for i in range(4))
    since_attack = seconds - delay
    since_decay = since_attack - attack - hold
    rise: NDArray[np.float64] = np.clip(since_attack / attack, 1e-5 if in_db else 0, 1)
    fallen = np.clip(since_decay / decay, 0, None)
    if not in_db:
        return rise * (1 - np.minimum(fallen, g.get(first + 4, 0) / 1000))
    decibels: NDArray[np.float64] = 20 * np.log10(rise) - np.minimum(100 * fallen, g.get(first + 4, 0) / 10)
    return decibels


def _shaped(sound: NDArray[np.float64], rate: float, g: Generators) -> NDArray[np.float64]:
    """The volume envelope without its release, and the zone's attenuation."""
    level = _envelope(g, VOLUME_ENVELOPE, np.arange(len(sound)) / rate, in_db=True)
    gain_db = level - 0.4 * g.get(ATTENUATION, 0) / 10  # 0.4: the scale that hardware and other synthesizers use
    return np.where(level > SILENT_DB, sound * 10 ** (gain_db / 20), 0)


def _filtered(sound: NDArray[np.float64], rate: float, g: Generators) -> NDArray[np.float64]:
    """The low-pass filter, its cutoff moved by the filter envelope block by block."""
    from scipy.signal import lfilter  # late: a second of every command that needs none of it

    seconds = np.arange(0, len(sound), BLOCK) / rate
    envelope = _envelope(g, FILTER_ENVELOPE, seconds, in_db=False)
    cutoffs = 8.176 * 2 ** ((g[FILTER_CUTOFF] + g.get(ENVELOPE_TO_FILTER, 0) * envelope) / 1200)
    if cutoffs.min() >= 0.45 * rate:
        return sound
    out, state = np.empty_like(sound), np.zeros(2)
    for i, cutoff in enumerate(np.clip(cutoffs, 40, 0.45 * rate)):
        b, a = _low_pass(float(cutoff), rate)
        place = slice(i * BLOCK, (i + 1) * BLOCK)
        out[place], state = lfilter(b, a, sound[place], zi=state)
    return out


def _low_pass(cutoff: float, rate: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Second-order Butterworth low-pass by the bilinear transform: (b, a)."""
    k = np.tan(np.pi * cutoff / rate)
    scale = 1 / (1 + np.sqrt(2) * k + k * k)
    gain = k * k * scale
    return (gain, 2 * gain, gain), (1.0, 2 * (k * k - 1) * scale, (1 - np.sqrt(2) * k + k * k) * scale)


def _written(presets: dict[tuple[int, int], list[Zone]]) -> bytes:
    """The presets as a SoundFont 2 file: one instrument a preset, one sample a zone."""
    phdr, inst, ibag, igen, shdr, smpl = b"", b"", b"", b"", b"", bytearray()
    zones = 0
    for number, ((bank, program), own) in enumerate(presets.items()):
        name = f"{bank}-{program}".encode()
        phdr += struct.pack(HEADERS["phdr"], name, program, bank, number, 0, 0, 0)
        inst += struct.pack(HEADERS["inst"], name, zones)
        for zone in own:
            ibag += struct.pack("<HH", 4 * zones, 0)
            igen += struct.pack("<HBB", KEY_RANGE, zone.low, zone.high)
            igen += struct.pack("<HhHH", VOLUME_ENVELOPE + 5, zone.release, LOOPED, 1) + struct.pack(
                "<HH", SAMPLE, zones
            )
            start, end = len(smpl) // 2, len(smpl) // 2 + len(zone.samples)
            loop = (start + zone.loop_start, start + zone.loop_end)
            shdr += struct.pack(HEADERS["shdr"], name, start, end, *loop, SAMPLE_RATE, zone.key, 0, 0, 1)
            smpl += zone.samples.tobytes() + bytes(2 * 46)  # the specification's 46 zeros between samples
            zones += 1
    count = len(presets)
    pdta = [
        ("phdr", phdr + struct.pack(HEADERS["phdr"], b"EOP", 0, 0, count, 0, 0, 0)),
        ("pbag", b"".join(struct.pack("<HH", i, 0) for i in range(count + 1))),
        ("pmod", bytes(10)),
        ("pgen", b"".join(struct.pack("<HH", INSTRUMENT, i) for i in range(count)) + bytes(4)),
        ("inst", inst + struct.pack(HEADERS["inst"], b"EOI", zones)),
        ("ibag", ibag + struct.pack("<HH", 4 * zones, 0)),
        ("imod", bytes(10)),
        ("igen", igen + bytes(4)),
        ("shdr", shdr + struct.pack(HEADERS["shdr"], b"EOS", 0, 0, 0, 0, 0, 0, 0, 0, 0)),
    ]
    info = [("ifil", struct.pack("<HH", 2, 1)), ("isng", b"EMU8000\0"), ("INAM", b"prepared\0\0")]
    lists = [("INFO", info), ("sdta", [("smpl", bytes(smpl))]), ("pdta", pdta)]
    body = b"".join(_riff("LIST", name.encode() + b"".join(_riff(*c) for c in chunks)) for name, chunks in lists)
    return _riff("RIFF", b"sfbk" + body)


def _riff(name: str, content: bytes) -> bytes:
    return name.encode() + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def _chunks(content: bytes) -> list[tuple[str, bytes]]:
    """The sub-chunks of a RIFF file's lists, by name."""
    found, place = [], 12
    while place + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, place)
        if name == b"LIST":
            place += 12
            continue
        found.append((name.decode("latin-1"), content[place + 8 : place + 8 + size]))
        place += 8 + size + size % 2
    return found


def _signed(number: int, amount: int) -> int:
    unsigned = number in (KEY_RANGE, VELOCITY_RANGE, INSTRUMENT, SAMPLE, LOOPED)
    return amount if unsigned or amount < 0x8000 else amount - 0x10000


def _intersection(a: int | None, b: int | None) -> int:
    """Of two ranges packed as low + 256 · high; None is everything."""
    ranges = [(r & 255, r >> 8) for r in (a, b) if r is not None] or [(0, 127)]
    return max(low for low, _ in ranges) + 256 * min(high for _, high in ranges)
