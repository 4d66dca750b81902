"""One picture of sounds beside what they were made from, for the formats that play no sound."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melody.errors import MelodyError
from melody.report.png import few_colours
from melody.report.sounds import RANGE_DB, mel_spectrogram, read_sound
from melody.reproduce.results import Clip, Table

ROW_INCHES, WIDTH_INCHES = 1.6, 9.0
Pair = tuple[Clip, Clip]


def draw_beside(table: Table, folder: Path) -> tuple[str, bytes] | None:
    """What the picture shows and the picture as PNG, each original to the left; none where nothing can be compared."""
    by_path = {clip.path: clip for clip in table.clips}
    pairs = [(by_path[clip.beside], clip) for clip in table.clips if clip.beside in by_path]
    read = [(pair, [_read(folder, clip) for clip in pair]) for pair in pairs]
    rows = [(pair, sounds) for pair, sounds in read if all(sound is not None for sound in sounds)]
    if not rows:
        return None
    text = "Mel spectrograms, 80 dB: " + "; ".join(f"{a.title} beside {b.title} ({a.text})" for (a, b), _ in rows)
    return text, _picture(rows)


def _read(folder: Path, clip: Clip) -> tuple[NDArray[np.float32], int] | None:
    try:
        _, sound = read_sound(folder, clip.path)
    except MelodyError:  # the list of sounds says what is wrong with it
        return None
    return sound.mono, sound.header.sample_rate


def _picture(rows: Sequence[tuple[Pair, Sequence[Any]]]) -> bytes:
    from matplotlib import rc_context

    with rc_context({"text.parse_math": False}):  # a title with dollar signs is a title
        return _drawn(rows)


def _drawn(rows: Sequence[tuple[Pair, Sequence[Any]]]) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, ROW_INCHES * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 2, squeeze=False)
    for line, (pair, sounds) in zip(axes, rows, strict=True):
        for place, clip, (waveform, rate) in zip(line, pair, sounds, strict=True):
            shown = mel_spectrogram(waveform, rate)
            extent = (0, len(waveform) / rate, 0, 1)
            place.imshow(shown, origin="lower", aspect="auto", cmap="magma", vmin=-RANGE_DB, vmax=0, extent=extent)
            place.set_title(clip.title, fontsize=8, loc="left")
            place.set_yticks([])
            place.tick_params(labelsize=7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, facecolor="white", metadata={"Software": None})
    return few_colours(buffer.getvalue())
