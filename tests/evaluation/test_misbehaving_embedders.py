"""Embedders and taggers that declare or give what they must not: one line that names them, and no number."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

import melody
from melody.errors import MelodyError
from melody.protocols import AudioEmbedder, AudioTagger
from melody.registry import Entry, audio_embedders, audio_taggers


class Levels(AudioEmbedder):
    """Two levels of each half second."""

    version: ClassVar[str] = "1"
    sample_rate, dimension, window_s, hop_s = 8_000, 2, 0.5, 0.5

    def embed(self, waveform: Tensor) -> Tensor:
        halves = waveform[: len(waveform) // 4000 * 4000].reshape(-1, 2, 2000)
        return halves.square().mean(dim=2)


class Guesses(AudioTagger):
    """Loud or soft."""

    version: ClassVar[str] = "1"
    sample_rate, labels, window_s, hop_s = 8_000, ("loud", "soft"), 0.5, 0.5

    def tag(self, waveform: Tensor) -> Tensor:
        return Levels().embed(waveform)


GIVEN: dict[str, tuple[Any, str]] = {
    "NaN": (torch.full((2, 2), math.nan), "4 of 4 values are NaN or infinite"),
    "beyond float32": (torch.full((2, 2), 1e300, dtype=torch.float64), "4 of 4 values are NaN or infinite"),
    "complex": (torch.zeros(2, 2, dtype=torch.complex64), "gave torch.complex64; expected real numbers"),
    "no tensor": (np.zeros((2, 2)), r"gave ndarray; expected a tensor \(windows, 2\)"),
    "nothing": (None, r"gave NoneType; expected a tensor \(windows, 2\)"),
    "one axis": (torch.zeros(2), r"gave shape \(2,\); expected \(windows, 2\)"),
    "another width": (torch.zeros(2, 3), r"gave shape \(2, 3\); expected \(windows, 2\)"),
    "no window": (torch.zeros(0, 2), r"gave shape \(0, 2\); .*at least one window"),
}
DECLARED: dict[str, tuple[Any, str]] = {
    "sample_rate": (
        (0, -1, "many", None, 8000.5, math.nan, 10**9, 10**400, True),
        "a whole number of Hz, 1 to 768,000",
    ),
    "window_s": ((math.nan, math.inf, -1, 0, None, "long"), "a number of seconds above 0"),
    "hop_s": ((math.nan, 0), "a number of seconds above 0"),
}
OF_EMBEDDERS = {"dimension": ((0, -1, 2.0, None, 10**12), "a whole number, 1 to 1,048,576")}
OF_TAGGERS = {"labels": (((), "loud", ("a", "a"), ("a", 1), None), "a tuple of texts, no two alike")}


def _declared(own: dict[str, Any]) -> list[tuple[str, Any, str]]:
    return [(name, value, why) for name, (values, why) in {**DECLARED, **own}.items() for value in values]


@pytest.fixture
def embedders(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Install an embedder with other attributes."""

    def install(**attributes: Any) -> None:
        component = type("Odd", (Levels,), {**attributes, "__doc__": "Odd.", "__module__": __name__})
        entry = Entry("odd", "plug-in (x:Odd)", component, version="1")
        monkeypatch.setitem(audio_embedders._load_plugins(), "odd", entry)

    return install


def _fad(**how: Any) -> Any:
    return melody.evaluate("generated", reference="reference", metrics=["fad"], embedders=["odd"], **how)


@pytest.mark.parametrize("case", GIVEN)
def test_what_an_embedder_must_not_give_is_named(folders: Path, embedders: Any, case: str) -> None:
    given, why = GIVEN[case]
    embedders(embed=lambda self, waveform: given)
    with pytest.raises(MelodyError, match=f"odd.*{why}"):
        _fad()


@pytest.mark.parametrize("case", GIVEN)
def test_what_a_tagger_must_not_give_is_named(folders: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    given, why = GIVEN[case]
    component = type("Odd", (Guesses,), {"tag": lambda self, waveform: given, "__module__": __name__})
    monkeypatch.setitem(audio_taggers._load_plugins(), "odd", Entry("odd", "plug-in (x:Odd)", component, version="1"))
    with pytest.raises(MelodyError, match=f"odd.*{why}"):
        melody.evaluate("generated", reference="reference", metrics=["kl"], taggers=["odd"])


def test_what_an_instance_must_not_have_is_named_when_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate of 10⁹ Hz resampled two seconds of sound for ever."""
    for registry, base, own in ((audio_embedders, Levels, OF_EMBEDDERS), (audio_taggers, Guesses, OF_TAGGERS)):
        for name, value, why in _declared(own):
            component = type("Odd", (base,), {name: value, "__module__": __name__})
            entry = Entry("odd", "plug-in (x:Odd)", component, version="1")
            monkeypatch.setitem(registry._load_plugins(), "odd", entry)
            with pytest.raises(
                MelodyError, match=rf"'odd' from plug-in \(x:Odd\): {name} is .*: expected {why}"
            ) as told:
                registry.create("odd")
            assert len(str(told.value)) < 300


@pytest.mark.parametrize("facts", [{"x": object()}, {"x": math.nan}, {"x": {1, 2}}, {1: 2}, None])
def test_an_identity_that_is_no_plain_value_is_named(folders: Path, embedders: Any, facts: Any) -> None:
    embedders(identity=lambda self: facts)
    with pytest.raises(MelodyError, match=r"audio embedder 'odd'"):
        _fad()


def test_one_that_changes_the_sound_changes_no_other_number(folders: Path, embedders: Any) -> None:
    """All that hear a clip at one rate are given the same samples."""
    alone = melody.evaluate("generated", reference="reference", metrics=["peak", "si-sdr"], store="one")
    embedders(embed=lambda self, waveform: waveform.mul_(0)[:4].reshape(2, 2))
    beside = melody.evaluate(
        "generated", reference="reference", metrics=["fad", "peak", "si-sdr"], embedders=["odd"], store="two"
    )
    for name in ("peak", "si-sdr"):
        assert beside[name].value == alone[name].value
