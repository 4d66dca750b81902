"""Tempo, beats and key beside librosa's on clips of the embedded corpus, scored by mir_eval."""

from __future__ import annotations

from statistics import median

import librosa
import mir_eval
import numpy as np
import pytest
import torch

from melody.data.corpus import Clip
from melody.data.loading import load_corpus
from melody.metrics.rhythm import beats_s, tempo_bpm
from melody.metrics.tonality import Key, chroma, key_of_chroma

RATE = 24_000
TEMPO_TOLERANCE = 0.04
"""Of the ratio, at the octave too: librosa's tempi are those of whole lags of 21 ms (at 140 BPM 5 % apart)."""
BEATS_F_MEASURE = 0.8
"""Median, with a window of 70 ms: librosa's tracker is given our tempo, so that octaves do not decide."""
CHROMA_CORRELATION = 0.85
KEY_SCORE = 0.85
"""MIREX's weighted score, mean: 1 the same key, 0.5 a fifth off, 0.3 the relative, 0.2 the parallel."""


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return list(load_corpus("embedded", split="validation", num_clips=32))[2::4]


def name_of(key: Key | None) -> str:
    assert key is not None
    return f"{key.name.replace(' flat', 'b').replace(' sharp', '#')}"


def test_tempo_and_beats_are_librosas(clips: list[Clip]) -> None:
    agreed, scores = 0, []
    for clip in clips:
        waveform = clip.waveform(RATE)
        tempo = tempo_bpm(waveform, RATE)
        assert tempo is not None
        theirs = float(librosa.feature.tempo(y=waveform.numpy(), sr=RATE)[0])
        agreed += any(abs(tempo / theirs * octave - 1) <= TEMPO_TOLERANCE for octave in (0.5, 1, 2))
        _, beats = librosa.beat.beat_track(y=waveform.numpy(), sr=RATE, bpm=tempo, units="time")
        scores.append(mir_eval.beat.f_measure(beats, beats_s(waveform, RATE).numpy()))
    assert agreed >= 7
    assert median(scores) >= BEATS_F_MEASURE


def test_beats_lie_on_the_written_beats_as_often_as_librosas(clips: list[Clip]) -> None:
    """Given the same, true tempo, librosa's tracker; ours with its own tempo, where that is the true one."""
    ours, theirs = [], []
    for clip in clips:
        waveform, bpm = clip.waveform(RATE), float(clip.attributes["bpm"])
        tempo = tempo_bpm(waveform, RATE)
        assert tempo is not None
        if abs(tempo / bpm - 1) > TEMPO_TOLERANCE:
            continue
        written = np.arange(0, clip.duration_s, 60 / bpm)
        ours.append(mir_eval.beat.f_measure(written, beats_s(waveform, RATE).numpy()))
        _, beats = librosa.beat.beat_track(y=waveform.numpy(), sr=RATE, bpm=bpm, units="time")
        theirs.append(mir_eval.beat.f_measure(written, beats))
    assert len(ours) >= 5
    assert np.mean(ours) >= np.mean(theirs) - 0.05


def test_chroma_and_key_are_librosas(clips: list[Clip]) -> None:
    scores = []
    for clip in clips:
        waveform = clip.waveform(RATE)
        ours = chroma(waveform, RATE).sum(dim=0)
        theirs = torch.from_numpy(librosa.feature.chroma_cqt(y=waveform.numpy(), sr=RATE).mean(axis=1))
        assert float(torch.corrcoef(torch.stack([ours, theirs.double()]))[0, 1]) >= CHROMA_CORRELATION
        scores.append(mir_eval.key.weighted_score(name_of(key_of_chroma(theirs)), name_of(key_of_chroma(ours))))
    assert np.mean(scores) >= KEY_SCORE
