"""Small folders of sounds, and metrics and a tagger from outside of the tree, one of every kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import soundfile
import torch
import torchmetrics
from torch import Tensor

from melody.protocols import AudioTagger, Metric
from melody.registry import Entry, audio_taggers, metrics

RATE = 8_000


def sound(place: int, *, seconds: float = 1.0, noise: float = 0.01, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """A tone that swells, another one for every place, in a little noise."""
    time = np.arange(round(seconds * rate)) / rate
    tone = (
        0.3 * np.sin(2 * np.pi * 110 * (2 + place % 5) * time) * (1 + 0.5 * np.sin(2 * np.pi * (1 + place % 3) * time))
    )
    drawn = np.random.default_rng([seed, place]).standard_normal(len(time))
    samples: np.ndarray = (tone / 1.5 + noise * drawn).astype(np.float32)
    return samples


def write_folder(folder: Path, count: int = 6, **how: Any) -> Path:
    """A folder with so many clips, every other one in a folder below."""
    (folder / "sub").mkdir(parents=True)
    for place in range(count):
        below = "sub" if place % 2 else "."
        soundfile.write(folder / below / f"clip {place}.wav", sound(place, **how), RATE, subtype="PCM_16")
    return folder


class _Summed(torchmetrics.Metric, Metric):
    """A mean, as others' metrics are."""

    version: ClassVar[str] = "7"
    direction: ClassVar[Any] = "lower"
    full_state_update: bool | None = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def add(self, value: Tensor) -> None:
        self.total += value.double()
        self.count += 1

    def compute(self) -> Tensor:
        return self.total / self.count


class Crossings(_Summed):
    """How often a clip crosses zero."""

    input_kind: ClassVar[Any] = "waveforms"

    def update(self, waveform: Tensor) -> None:
        self.add((waveform[0, 0].sign().diff() != 0).double().mean())


class Refuses(_Summed):
    """Takes clips of ten seconds only."""

    input_kind: ClassVar[Any] = "waveforms"

    def update(self, waveform: Tensor) -> None:
        raise ValueError("ten seconds, please")


class HighestPeak(torchmetrics.Metric, Metric):
    """The highest of all peaks: no mean, and keeps every clip's."""

    version: ClassVar[str] = "1"
    direction: ClassVar[Any] = "none"
    input_kind: ClassVar[Any] = "waveforms"
    full_state_update: bool | None = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("peaks", [], dist_reduce_fx="cat")

    def update(self, waveform: Tensor) -> None:
        self.peaks.append(waveform.abs().amax(dim=(1, 2)))

    def compute(self) -> Tensor:
        return torch.cat(self.peaks).max()


class Apart(_Summed):
    """Mean absolute difference of a pair."""

    input_kind: ClassVar[Any] = "waveform_pairs"

    def update(self, preds: Tensor, target: Tensor) -> None:
        self.add((preds - target).abs().mean())


class Spread(torchmetrics.Metric, Metric):
    """Distance of the sets' standard deviations: needs all vectors."""

    version: ClassVar[str] = "1"
    direction: ClassVar[Any] = "lower"
    input_kind: ClassVar[Any] = "embeddings"
    full_state_update: bool | None = False

    def __init__(self, dimension: int = 1) -> None:
        super().__init__()
        for side in ("generated", "reference"):
            self.add_state(side, [], dist_reduce_fx="cat")

    def update(self, embeddings: Tensor, real: bool) -> None:
        (self.reference if real else self.generated).append(embeddings)

    def compute(self) -> Tensor:
        a, b = (torch.cat(side).double() for side in (self.generated, self.reference))
        return (a.std(dim=0) - b.std(dim=0)).square().sum()


class Nearest(torchmetrics.Metric, Metric):
    """Share of clips whose own text is the nearest: no mean of clips."""

    version: ClassVar[str] = "1"
    direction: ClassVar[Any] = "higher"
    input_kind: ClassVar[Any] = "text_audio_embeddings"
    full_state_update: bool | None = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("texts", [], dist_reduce_fx="cat")
        self.add_state("sounds", [], dist_reduce_fx="cat")

    def update(self, text_embeddings: Tensor, audio_embeddings: Tensor) -> None:
        self.texts.append(text_embeddings)
        self.sounds.append(audio_embeddings)

    def compute(self) -> Tensor:
        nearness = torch.cat(self.sounds) @ torch.cat(self.texts).T
        return (nearness.argmax(dim=1) == torch.arange(len(nearness))).double().mean()


class Labels(_Summed):
    """Share of windows with the first label; the reference is not looked at."""

    input_kind: ClassVar[Any] = "labels"
    needs_reference = False

    def update(self, logits: Tensor, real: bool) -> None:
        if not real:
            self.total += (logits.argmax(dim=1) == 0).double().sum()
            self.count += len(logits)


class Loudness(AudioTagger):
    """Loud or soft."""

    sample_rate = RATE
    labels = ("loud", "soft")
    window_s = hop_s = 0.5
    version: ClassVar[str] = "1"

    def __init__(self, window: int = 1) -> None:
        self.window = window

    def tag(self, waveform: Tensor) -> Tensor:
        power = waveform[: len(waveform) // 4000 * 4000].reshape(-1, 4000).square().mean(dim=1)
        return torch.stack([power - 0.01, 0.01 - power], dim=1)


PLUGINS = {
    "test-crossings": Crossings,
    "test-highest-peak": HighestPeak,
    "test-apart": Apart,
    "test-spread": Spread,
    "test-nearest": Nearest,
    "test-labels": Labels,
}


@pytest.fixture
def plugins() -> Iterator[Sequence[str]]:
    """The metrics and the tagger above, as if entry points had named them."""
    for name, component in PLUGINS.items():
        metrics._load_plugins()[name] = Entry(name, f"plug-in (elsewhere:{name})", component, version="1")
    audio_taggers._load_plugins()["test-loudness"] = Entry("test-loudness", "plug-in (x:y)", Loudness, version="1")
    yield list(PLUGINS)
    for name in PLUGINS:
        del metrics._load_plugins()[name]
    del audio_taggers._load_plugins()["test-loudness"]


@pytest.fixture
def refuses() -> Iterator[str]:
    """A metric that refuses every clip."""
    metrics._load_plugins()["test-refuses"] = Entry("test-refuses", "plug-in (x:y)", Refuses, version="1")
    yield "test-refuses"
    del metrics._load_plugins()["test-refuses"]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with ``generated`` and ``reference``, six clips each of the same names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MELODY_CACHE", str(tmp_path / "cache"))
    write_folder(tmp_path / "generated", noise=0.02, seed=1)
    write_folder(tmp_path / "reference", seed=2)
    return tmp_path


@pytest.fixture
def make() -> Callable[..., Any]:
    """``write_folder``, for test modules, which cannot import it."""
    return write_folder


@pytest.fixture
def samples() -> Callable[..., np.ndarray]:
    """``sound``, likewise."""
    return sound
