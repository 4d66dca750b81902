"""Controls and silence: of how many clips, with which interval, asked of whom, and what no mean hides."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from rich.console import Console

import melody
from melody.errors import MelodyError
from melody.evaluation.result import Control, Score
from melody.report.evaluated import evaluated
from melody.report.page import render_page
from melody.report.terminal import print_document

RATE = 8_000


def controls_of(score: Score) -> dict[str, Control]:
    return {control.name: control for control in score.controls}


def silence(path: Path) -> None:
    soundfile.write(path, np.zeros(RATE, np.float32), RATE)


def test_halves_stand_beside_as_many_generated_clips_and_every_control_says_of_how_many(
    folders: Path, make: Any
) -> None:
    make(folders / "ours", count=24, seed=1, seconds=2.0)
    make(folders / "music", count=24, seed=2, seconds=2.0)
    fad = melody.evaluate("ours", reference="music", metrics=["fad"], skip_bad=True)["fad"]
    found = controls_of(fad)
    halves, as_many = found["reference halves"], found["generated, as many"]
    assert (halves.n, halves.against) == (as_many.n, as_many.against) == (12, 12)
    assert as_many.value > fad.value  # fewer clips, a larger distance: the reason why the two may not be compared
    assert as_many.distinguished is as_many.no_worse is None
    assert {(one.n, one.against) for name, one in found.items() if name in ("white noise", "silence")} == {(16, 24)}
    for name in ("reference halves", "generated, as many", "white noise"):
        assert found[name].low <= found[name].value <= found[name].high


def test_controls_of_waveforms_texts_and_pairs_have_intervals(folders: Path) -> None:
    names = sorted(path.relative_to("generated").as_posix() for path in Path("generated").rglob("*.wav"))
    rows = [f"{name},a tone number {place}" for place, name in enumerate(names)]
    Path("captions.csv").write_text("\n".join(["file_name,text", *rows]))
    result = melody.evaluate(
        "generated", reference="reference", captions="captions.csv", metrics=["peak", "mcc", "log-mel"]
    )
    for score in result.scores:
        noise = controls_of(score)["white noise"]
        assert noise.n == 6
        assert noise.low <= noise.value <= noise.high


def test_a_control_that_scores_no_worse_than_the_clips_is_told(folders: Path, make: Any) -> None:
    make(folders / "bad", noise=0.9, seed=7)
    score = melody.evaluate("bad", reference="reference", metrics=["log-mel"])["log-mel"]
    assert "white noise" in score.beaten_by
    assert score.indistinguishable_from == []  # every clip as its own target is far better than noise
    good = melody.evaluate("generated", reference="reference", metrics=["log-mel"])["log-mel"]
    assert good.beaten_by == []
    compared = melody.compare("bad", "generated", reference="reference", metrics=["log-mel"])
    assert "white noise" in compared["log-mel"].beaten_by
    page = render_page(evaluated(melody.evaluate("bad", reference="reference", metrics=["log-mel"])))
    assert "no better than white noise" in page


@pytest.mark.parametrize("metric", ["si-sdr", "si-snr"])
def test_a_silent_clip_lifts_no_mean(folders: Path, metric: str) -> None:
    before = melody.evaluate("generated", reference="reference", metrics=[metric])[metric]
    silence(folders / "generated" / "clip 0.wav")
    with pytest.raises(MelodyError, match=r"generated/clip 0\.wav.*silent"):
        melody.evaluate("generated", reference="reference", metrics=[metric])
    result = melody.evaluate("generated", reference="reference", metrics=[metric], skip_bad=True)
    after = result[metric]
    assert (after.scored, after.expected) == (5, 6)
    assert "clip 0" not in after.clips
    assert after.value == pytest.approx(np.mean([v for name, v in before.clips.items() if name != "clip 0"]))
    assert any(one.file == "generated/clip 0.wav" and one.metrics == [metric] for one in result.skipped)
    assert controls_of(after)["silence"].value is None


def test_a_silent_target_makes_no_mean(folders: Path) -> None:
    silence(folders / "reference" / "clip 0.wav")
    with pytest.raises(MelodyError, match=r"generated/clip 0\.wav.*the target is silent"):
        melody.evaluate("generated", reference="reference", metrics=["mr-stft"])
    result = melody.evaluate("generated", reference="reference", metrics=["mr-stft"], skip_bad=True)
    assert result["mr-stft"].value < 10
    assert result["mr-stft"].scored == 5


def test_every_mean_with_silent_clips_in_it_says_so(folders: Path, plugins: list[str]) -> None:
    silence(folders / "generated" / "clip 0.wav")
    silence(folders / "generated" / "sub" / "clip 1.wav")
    silence(folders / "reference" / "clip 4.wav")
    metrics = ["fad", "peak", "loudness", "silence-rate", "log-mel", "test-apart", "test-labels"]
    result = melody.evaluate(
        "generated", reference="reference", metrics=metrics, taggers=["test-loudness"], skip_bad=True
    )
    for score in result.scores:
        assert any("2 of the clips are silent: clip 0, sub/clip 1" in one for one in score.warnings), score.name
    assert any("no finite value of their own: clip 0, sub/clip 1" in one for one in result["loudness"].warnings)
    assert result.generated.silent == ["clip 0.wav", "sub/clip 1.wav"]
    text = printed(result, 120)
    assert "1 reference clips are silent: clip 4.wav" in text


def test_rows_of_controls_are_told_apart_at_80_columns(folders: Path) -> None:
    text = printed(melody.evaluate("generated", reference="reference", skip_bad=True), 80)
    lines = [line.strip() for line in text.splitlines()]
    heads = [place for place, line in enumerate(lines) if line.startswith("metric, and its controls")]
    assert heads
    controls = lines[heads[0] :]
    for metric in ("precision[mel-stats]", "recall[mel-stats]", "fad[mel-stats]", "density[mel-stats]"):
        assert sum(line.startswith(metric) for line in controls) >= 1
    for name in ("reference halves", "one clip repeated", "targets shuffled"):
        assert sum(line.startswith(f"– {name} ") for line in controls) > 1
    assert max(map(len, lines)) <= 80


def test_a_comparison_says_first_who_won_and_stands_whole_at_80_columns(folders: Path) -> None:
    result = melody.compare("generated", "reference", metrics=["peak", "key-clarity", "clipping-rate"])
    lines = [line.rstrip() for line in printed(result, 80).splitlines()]
    verdicts = {"a": "A better", "b": "B better"}
    for row, title in zip(result.differences, ("peak, full scale", "key-clarity ↑", "clipping-rate ↓"), strict=True):
        assert any(line.startswith(title) for line in lines)
        assert any(f"{title}: verdict {verdicts.get(row.better, row.better)};" in line for line in lines), row
    assert max(map(len, lines)) <= 80


def printed(result: Any, width: int) -> str:
    out = io.StringIO()
    print_document(evaluated(result), Console(file=out, width=width), verbose=True)
    return out.getvalue()
