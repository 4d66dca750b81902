"""``attribute-agreement``: whether a clip has the attributes that its text asked for, by small judges of sound.

The judges are classifiers that learn from real clips with known attributes, and from nothing else: no generated
clip, no codec. Their own accuracy on held-out real clips is the most that any system can be credited with.

- *Instrument* (of those in the training clips) and *drums* (yes or no): a small convolutional network on the log-mel
  spectrogram, pooled over time.
- *Tempo*: autocorrelations of onset strength in five bands, read at multiples of each candidate's beat and scored by
  one network for all candidates. Candidates span the training clips' tempi, 1 % apart. A judged tempo agrees if it is
  within 8 % of the truth; twice or half the tempo does not.
- *Mode* (major or minor): chroma of the whole clip, of its beginning and its end, in the bass and above it, scored by
  one network for each of twelve tonics, so that every key learns from all the others.

Agreement is the share of clips judged to be as their text says; every clip counts one. Direction: higher is better.
Sounds are brought to the same power first, so that loudness decides nothing. What the judges learn from is degraded at
random (colour, noise, muffling; chroma without beginning and end), so that how clean a sound is decides little.

Networks, features and all constants are ours. Tempo by autocorrelation of onset strength: Ellis (2007),
doi:10.1080/09298210701653344. Tempo within 8 %: Gouyon et al. (2006) take 4 %, MIREX's tempo task 8 %. Version 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from melody.checks import check_finite
from melody.data.audio import resampled
from melody.dsp.mel import mel_filterbank
from melody.dsp.spectrum import magnitudes
from melody.errors import MelodyError

VERSION = "1"
ATTRIBUTES = ("instrument", "tempo", "mode", "drums")
MODES = ("major", "minor")
TEMPO_TOLERANCE = 0.08

SAMPLE_RATE = 24_000
SHORTEST_S = 2.0  # shorter sounds are padded with silence
FFT_SIZE, HOP, NUM_MELS = 1_024, 240, 64
FRAME_RATE = SAMPLE_RATE // HOP
TIMBRE_POOL = 2
POWER_FLOOR = 1e-6  # of a sound of power 1

ONSET_BANDS = ((0, 64), (0, 8), (8, 20), (20, 40), (40, 64))
ONSET_GAIN = 1e3
ONSET_MEAN_FRAMES = 101
MAX_LAG = 6 * FRAME_RATE
BEATS = (1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4, 1.0, 4 / 3, 3 / 2, 2.0, 5 / 2, 3.0, 4.0, 6.0, 8.0)
TEMPO_STEP = 1.01

PITCH_FFT_SIZE, PITCH_HOP = 8_192, 1_200
LOWEST_PITCH, BASS_BELOW, PITCH_END = 33, 53, 93
PITCH_GAIN = 1e2
EDGE_S = 1.5
CHROMA_ROWS, PITCH_CLASSES = 6, 12


@dataclass(frozen=True)
class Features:
    """What the judges hear of ``B`` clips."""

    timbre: Tensor
    """Mel powers every 20 ms, ``(B, 64, F)``."""
    rhythm: Tensor
    """Autocorrelation of onset strength by band and lag in steps of 10 ms, ``(B, 5, MAX_LAG)``."""
    chroma: Tensor
    """Bass and upper chroma of the whole, the beginning and the end, ``(B, 6, 12)``."""

    def __len__(self) -> int:
        return len(self.timbre)

    def __getitem__(self, rows: Tensor | slice) -> Features:
        return Features(self.timbre[rows], self.rhythm[rows], self.chroma[rows])

    @staticmethod
    def joined(parts: Sequence[Features]) -> Features:
        """The clips of all parts in order."""
        return Features(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Features)))


@dataclass(frozen=True)
class AttributePrediction:
    """What a clip sounds like."""

    instrument: str
    bpm: float
    mode: str
    drums: bool

    def agreement(self, facts: Mapping[str, str | float | int]) -> dict[str, bool]:
        """Which of ``ATTRIBUTES`` are as a clip's attributes say (``instrument``, ``bpm``, ``mode``, ``drums``).

        >>> heard = AttributePrediction("organ", 100.0, "major", True)
        >>> heard.agreement({"instrument": "organ", "bpm": 107, "mode": "minor", "drums": "yes"})
        {'instrument': True, 'tempo': True, 'mode': False, 'drums': True}
        """
        return {
            "instrument": self.instrument == facts["instrument"],
            "tempo": abs(self.bpm / float(facts["bpm"]) - 1) <= TEMPO_TOLERANCE,
            "mode": self.mode == facts["mode"],
            "drums": self.drums == (facts["drums"] == "yes"),
        }


def features(waveforms: Tensor, sample_rate: int) -> Features:
    """What the judges hear of clips ``(B, T)`` or ``(B, 1, T)``; raises ``MelodyError`` for other shapes, and NaN."""
    rows = waveforms[:, 0] if waveforms.ndim == 3 and waveforms.shape[1] == 1 else waveforms
    if rows.ndim != 2 or rows.numel() == 0:
        shape = tuple(waveforms.shape)
        raise MelodyError(f"attribute-agreement: the waveforms have shape {shape}; expected (B, T) or (B, 1, T)")
    check_finite(rows, "attribute-agreement: the waveforms")
    return Features.joined([_clip_features(resampled(row.cpu().float(), sample_rate, SAMPLE_RATE)) for row in rows])


class TimbreClassifier(nn.Module):
    """Instrument and drums: ``(B, 64, F)`` mel powers -> logits ``(B, instruments + 1)``, drums last."""

    def __init__(self, instruments: int) -> None:
        super().__init__()
        widths = (1, 12, 24, 48, 64)
        strides = ((2, 2), (2, 2), (2, 2), (2, 1))
        blocks = [
            nn.Sequential(nn.Conv2d(a, b, 3, stride=s, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
            for a, b, s in zip(widths, widths[1:], strides, strict=False)
        ]
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(2 * widths[-1] * NUM_MELS // 16, instruments + 1)

    def forward(self, log_power: Tensor) -> Tensor:
        hidden = self.blocks((log_power[:, None] + 4) / 1.5).flatten(1, 2)  # (B, channels · bands, frames)
        return self.head(self.dropout(torch.cat([hidden.mean(dim=2), hidden.amax(dim=2)], dim=1)))  # type: ignore[no-any-return]


class TempoClassifier(nn.Module):
    """Tempo: ``(B, 5, MAX_LAG)`` autocorrelations -> logits ``(B, candidates)``."""

    candidates: Tensor

    def __init__(self, candidates: Tensor) -> None:
        super().__init__()
        self.register_buffer("candidates", candidates)
        width = len(BEATS) * len(ONSET_BANDS) + 1
        self.net = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 1))

    def forward(self, rhythm: Tensor) -> Tensor:
        lag = 60 * FRAME_RATE / self.candidates[:, None] * torch.tensor(BEATS)  # (candidates, beats)
        position = lag.clamp(max=MAX_LAG - 2)
        before = position.floor().long()
        share = position - before
        read = rhythm[:, :, before] * (1 - share) + rhythm[:, :, before + 1] * share
        known = (read * (lag <= MAX_LAG - 2)).permute(0, 2, 1, 3).flatten(2)  # (B, candidates, bands · beats)
        tempo = torch.log2(self.candidates / 100)[None, :, None].expand(len(known), -1, 1)
        return self.net(torch.cat([3 * known, tempo], dim=2))[..., 0]  # type: ignore[no-any-return]


class KeyClassifier(nn.Module):
    """Key: ``(B, 6, 12)`` chroma -> logits ``(B, 12 tonics, 2 modes)``."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(CHROMA_ROWS * PITCH_CLASSES, 64), nn.GELU(), nn.Dropout(0.2), nn.Linear(64, len(MODES))
        )

    def forward(self, chroma: Tensor) -> Tensor:
        rolled = torch.stack([chroma.roll(-tonic, dims=2).flatten(1) for tonic in range(PITCH_CLASSES)], dim=1)
        return self.net(rolled)  # type: ignore[no-any-return]


class AttributeClassifiers(nn.Module):
    """The judges of all attributes, as they come out of training on real clips."""

    def __init__(self, instruments: Sequence[str], candidates: Tensor) -> None:
        super().__init__()
        self.instruments = tuple(instruments)
        self.timbre = TimbreClassifier(len(self.instruments))
        self.tempo = TempoClassifier(candidates)
        self.key = KeyClassifier()

    def predict(self, waveforms: Tensor, sample_rate: int) -> list[AttributePrediction]:
        """Judge clips ``(B, T)`` or ``(B, 1, T)`` in [-1, 1] at any sample rate, each by itself.

        Raises:
            MelodyError: another shape, or NaN.
        """
        return self.predict_features(features(waveforms, sample_rate))

    @torch.inference_mode()
    def predict_features(self, heard: Features) -> list[AttributePrediction]:
        """As ``predict``, of what was heard."""
        was_training = self.training
        self.eval()
        timbre = torch.cat([self.timbre(log_power(heard.timbre[i : i + 1])) for i in range(len(heard))])
        bpm = _best_tempo(self.tempo(heard.rhythm), self.tempo.candidates)
        mode = self.key(heard.chroma).logsumexp(dim=1).argmax(dim=1)
        self.train(was_training)
        return [
            AttributePrediction(self.instruments[int(row[:-1].argmax())], float(b), MODES[int(m)], bool(row[-1] > 0))
            for row, b, m in zip(timbre, bpm, mode, strict=True)
        ]


def tempo_candidates(lowest: float, highest: float) -> Tensor:
    """BPM from ``lowest`` to ``highest`` or just beyond, 1 % apart."""
    return lowest * TEMPO_STEP ** torch.arange(math.ceil(math.log(highest / lowest, TEMPO_STEP)) + 1)


def log_power(timbre: Tensor, floor: Tensor | float = POWER_FLOOR) -> Tensor:
    """Mel powers as ``TimbreClassifier`` takes them."""
    return torch.log10(timbre + floor)


def _best_tempo(logits: Tensor, candidates: Tensor) -> Tensor:
    """The candidate with most probability within the tolerance around it: neighbours share a peak."""
    near = (candidates[:, None] / candidates - 1).abs() <= TEMPO_TOLERANCE / 2
    return candidates[(torch.softmax(logits, dim=1) @ near.float()).argmax(dim=1)]


def _clip_features(waveform: Tensor) -> Features:
    padded = nn.functional.pad(waveform, (0, max(0, round(SHORTEST_S * SAMPLE_RATE) - len(waveform))))
    sound = padded / padded.square().mean().sqrt().clamp(min=1e-4)
    mel = _mel_power(sound)
    timbre = nn.functional.avg_pool1d(mel[None], TIMBRE_POOL)
    return Features(timbre, _autocorrelation(_onset_strength(mel))[None], _chroma(_pitch_strength(sound))[None])


def _mel_power(sound: Tensor) -> Tensor:
    """``(64, F)`` at 100 Hz."""
    bands = mel_filterbank(NUM_MELS, FFT_SIZE, SAMPLE_RATE, 40.0, SAMPLE_RATE / 2)
    return bands @ magnitudes(sound, FFT_SIZE, HOP, centred=True).square()


def _onset_strength(mel: Tensor) -> Tensor:
    """Rise of log power by band, less its mean over the second around: ``(5, F − 1)``."""
    rise = torch.log1p(ONSET_GAIN * mel).diff(dim=1).clamp(min=0)
    rows = torch.stack([rise[low:high].mean(dim=0) for low, high in ONSET_BANDS])[None]
    mean = nn.functional.avg_pool1d(
        rows, ONSET_MEAN_FRAMES, stride=1, padding=ONSET_MEAN_FRAMES // 2, count_include_pad=False
    )
    return (rows - mean)[0]


def _autocorrelation(onsets: Tensor) -> Tensor:
    """``(5, F)`` -> ``(5, MAX_LAG)``, 1 at lag 0; lags that few frames reach are not scaled up beyond four times."""
    frames = onsets.shape[1]
    spectrum = torch.fft.rfft(onsets, 2 * frames)
    raw = torch.fft.irfft(spectrum.abs().square(), 2 * frames)[:, : min(MAX_LAG, frames)]
    scale = frames / (frames - torch.arange(raw.shape[1])).clamp(min=frames / 4)
    normalised = raw / raw[:, :1].clamp(min=1e-9) * scale
    return nn.functional.pad(normalised, (0, MAX_LAG - raw.shape[1]))


def _pitch_strength(sound: Tensor) -> Tensor:
    """Compressed magnitude by semitone: ``(PITCH_END − LOWEST_PITCH, F)`` at 20 Hz."""
    frequencies = torch.fft.rfftfreq(PITCH_FFT_SIZE, 1 / SAMPLE_RATE).clamp(min=1.0)
    pitch = 69 + 12 * torch.log2(frequencies / 440)
    triangles = (1 - (pitch - torch.arange(LOWEST_PITCH, PITCH_END)[:, None]).abs() / 0.5).clamp(min=0)
    weights = triangles / triangles.sum(dim=1, keepdim=True).clamp(min=1e-9)
    return torch.log1p(PITCH_GAIN * (weights @ magnitudes(sound, PITCH_FFT_SIZE, PITCH_HOP, centred=True)))


def _chroma(pitches: Tensor) -> Tensor:
    """``(6, 12)``, each row with mean 0 and deviation 1."""
    edge = round(EDGE_S * SAMPLE_RATE / PITCH_HOP)
    classes = torch.arange(LOWEST_PITCH, PITCH_END) % PITCH_CLASSES
    bass = BASS_BELOW - LOWEST_PITCH
    rows = [
        torch.zeros(PITCH_CLASSES).index_add(0, classes[some], part.mean(dim=1)[some])
        for part in (pitches, pitches[:, :edge], pitches[:, -edge:])
        for some in (slice(None, bass), slice(bass, None))
    ]
    chroma = torch.stack(rows)
    return (chroma - chroma.mean(dim=1, keepdim=True)) / chroma.std(dim=1, keepdim=True).clamp(min=1e-4)
