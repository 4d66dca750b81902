"""What an evaluation gives: values, intervals, controls, pairing, any registered metric, and the same after a kill."""

from __future__ import annotations

import csv
import functools
import json
import operator
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import melody
from melody.artifacts.store import Store
from melody.data.audio import read_audio
from melody.data.recordings import read_recording
from melody.embedders.mel_stats import MelStats
from melody.errors import MelodyError
from melody.evaluation.controls import judged
from melody.evaluation.feature_store import FeatureStore
from melody.evaluation.plan import MetricRun
from melody.evaluation.result import Comparison, Control, Evaluation
from melody.evaluation.scoring import MetricValue, over_texts
from melody.metrics.frechet import Statistics, fad_with_jackknife, frechet_distance_of
from melody.metrics.levels import peak
from melody.metrics.statistics import jackknife
from melody.report.evaluated import evaluated
from melody.report.page import render_page

FAST = ["fad", "peak", "clipping-rate"]


def clip_statistics(folder: Path) -> list[Statistics]:
    embedder = MelStats()
    # By identifier, which sorts "clip 0" before "sub/clip 1".
    names = sorted(folder.rglob("*.wav"), key=lambda path: path.relative_to(folder).with_suffix("").as_posix())
    return [Statistics.of(embedder.embed(read_audio(path, 24_000))) for path in names]


def numbers(result: Evaluation | Comparison) -> dict[str, Any]:
    """All but what a clock or the store decides."""
    moving = {"created", "seconds", "sounds_computed", "sounds_reused", "command"}
    return {name: value for name, value in result.model_dump(exclude={"a", "b"}).items() if name not in moving}


def test_values_and_intervals_are_those_of_the_metrics_themselves(folders: Path) -> None:
    result = melody.evaluate("generated", reference="reference", metrics=FAST, skip_bad=True)
    ours, theirs = clip_statistics(folders / "generated"), clip_statistics(folders / "reference")
    total = theirs[0]
    for one in theirs[1:]:
        total = total + one
    expected = fad_with_jackknife(ours, total)
    fad = result["fad"]
    assert fad.name == "fad[mel-stats]"
    assert fad.value == pytest.approx(expected.value, rel=1e-9)
    assert (fad.low, fad.high) == pytest.approx((expected.low, expected.high), rel=1e-6)
    assert (fad.scored, fad.expected, fad.direction) == (6, 6, "lower")
    assert fad.source["sample_rate"] == 24_000
    assert fad.source["dimension"] == 48
    files = sorted((folders / "generated").rglob("*.wav"))
    peaks = [float(peak(torch.from_numpy(soundfile.read(f, dtype="float32")[0])[None, None])) for f in files]
    assert result["peak"].value == pytest.approx(np.mean(peaks), rel=1e-9)
    assert set(result["peak"].clips) == {"clip 0", "sub/clip 1", "clip 2", "sub/clip 3", "clip 4", "sub/clip 5"}
    assert result["peak"].worst[0].file.endswith(".wav")
    assert result["peak"].interval is not None


def test_too_few_windows_are_a_warning_in_the_result(folders: Path) -> None:
    result = melody.evaluate("generated", reference="reference", metrics=["fad"], skip_bad=True)
    assert "6 windows for 48 dimensions" in result["fad"].warnings[0]
    assert any("reference is too small" in one.reason for one in result.skipped)
    assert "singular covariance" in result["fad"].warnings[0]
    assert result["fad"].bias > 0


def test_controls_are_measured_and_what_cannot_tell_them_is_flagged(folders: Path, make: Any) -> None:
    make(folders / "music", count=16, seed=4)
    result = melody.evaluate("generated", reference="music", metrics=FAST, skip_bad=True)
    fad = {control.name: control for control in result["fad"].controls}
    assert set(fad) == {"reference halves", "white noise", "silence", "one clip repeated"}  # 6 clips are no half of 16
    assert fad["reference halves"].distinguished is None
    assert fad["white noise"].distinguished is True
    assert fad["silence"].distinguished is True
    assert fad["silence"].value > 5 * fad["reference halves"].value
    clipping = result["clipping-rate"]
    assert clipping.value == 0
    assert {control.name for control in clipping.controls} == {"reference", "white noise", "silence"}
    assert (
        clipping.indistinguishable_from == clipping.beaten_by == []
    )  # neither noise nor silence clips: it need not tell them
    page = render_page(evaluated(result))
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "<audio" in page


def test_every_kind_of_metric_from_elsewhere_is_fed(folders: Path, plugins: list[str]) -> None:
    with (folders / "captions.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file_name", "text"])
        names = sorted(path.relative_to(folders / "generated") for path in (folders / "generated").rglob("*.wav"))
        rows.writerows([[name.with_suffix(".flac"), f"a tone, number {place}"] for place, name in enumerate(names)])
    result = melody.evaluate(
        "generated",
        reference="reference",
        captions="captions.csv",
        metrics=plugins,
        taggers=["test-loudness"],
        skip_bad=True,
    )
    names = {score.metric: score.name for score in result.scores}
    assert names == {
        "test-crossings": "test-crossings",
        "test-highest-peak": "test-highest-peak",
        "test-apart": "test-apart",
        "test-spread": "test-spread[mel-stats]",
        "test-nearest": "test-nearest[melody-demo]",
        "test-labels": "test-labels[test-loudness]",
    }
    for score in result.scores:
        assert score.value is not None, score
        assert score.scored == 6
        assert score.low is not None, score
        assert score.low <= score.value <= score.high
    assert "jackknife" in result["test-nearest"].interval
    assert result["test-nearest"].clips == {}
    assert "jackknife" in result["test-highest-peak"].interval
    assert "t interval" in result["test-crossings"].interval
    apart = {control.name: control.value for control in result["test-apart"].controls}
    assert apart["reference itself"] == 0
    assert apart["white noise"] > result["test-apart"].value
    shuffled = {control.name for control in result["test-nearest"].controls}
    assert {"texts shuffled", "one clip repeated", "white noise", "silence"} <= shuffled
    ours = soundfile.read(folders / "generated" / "clip 0.wav", dtype="float32")[0]
    theirs = soundfile.read(folders / "reference" / "clip 0.wav", dtype="float32")[0]
    assert result["test-apart"].clips["clip 0"] == pytest.approx(np.abs(ours - theirs).mean(), rel=1e-6)


def test_without_names_all_is_measured_that_can_be(folders: Path) -> None:
    alone = melody.evaluate("generated")
    assert {"loudness", "peak", "silence-rate"} <= {score.metric for score in alone.scores}
    assert "fad" not in {score.metric for score in alone.scores}
    assert any("--reference" in note and "fad" in note for note in alone.notes)
    assert melody.evaluate("generated").sounds_computed == 0


def test_a_metric_that_refuses_every_clip_is_told_or_if_named_a_fault(folders: Path, refuses: str) -> None:
    result = melody.evaluate("generated")
    assert refuses not in {score.metric for score in result.scores}
    assert any(refuses in note and "ten seconds, please" in note for note in result.notes)
    with pytest.raises(MelodyError, match="ten seconds, please"):
        melody.evaluate("generated", metrics=[refuses])


def test_comparison_pairs_by_name_and_leaves_the_same_clips_out_of_both(folders: Path, make: Any) -> None:
    make(folders / "other", noise=0.1, seed=3)
    result = melody.compare("generated", "other", reference="reference", metrics=["fad", "peak"], skip_bad=True)
    a, b, reference = (clip_statistics(folders / name) for name in ("generated", "other", "reference"))
    total = functools.reduce(operator.add, reference)

    def difference(pairs: list[tuple[Statistics, Statistics]]) -> float:
        first, second = (functools.reduce(operator.add, side) for side in zip(*pairs, strict=True))
        return frechet_distance_of(first, total) - frechet_distance_of(second, total)

    expected = jackknife(list(zip(a, b, strict=True)), difference)
    fad = result["fad"]
    assert fad.value == pytest.approx(expected.value, rel=1e-9)
    assert (fad.low, fad.high) == pytest.approx((expected.low, expected.high), rel=1e-6)
    assert fad.pairs == 6
    assert (fad.better, result["peak"].better) == ("a", "no direction")
    assert result["peak"].p_value == pytest.approx(2 / 2**6)
    assert result["peak"].p_holm >= result["peak"].p_value
    assert "A − B" in render_page(evaluated(result))
    how = {"reference": "reference", "metrics": ["fad", "peak"], "skip_bad": True}
    same = melody.compare("generated", "generated", allow_overlap=True, **how)
    assert [row.value for row in same.differences] == [0, 0]
    assert [row.p_value for row in same.differences] == [1, 1]


def test_comparison_refuses_clips_without_a_partner(folders: Path, make: Any) -> None:
    make(folders / "other", count=5, seed=3)
    with pytest.raises(MelodyError, match=r"no 'sub/clip 5' in"):
        melody.compare("generated", "other", metrics=["peak"])
    result = melody.compare("generated", "other", metrics=["peak"], skip_bad=True)
    assert result["peak"].pairs == 5
    assert [Path(one.file).name for one in result.skipped] == ["clip 5.wav"]


def test_results_are_read_again_as_they_were(folders: Path) -> None:
    result = melody.evaluate("generated", metrics=["peak", "loudness"])
    result.save("result.json")
    assert melody.load_results("result.json") == result
    Path("result.json").write_text("{}")
    with pytest.raises(MelodyError, match="is not a results file"):
        melody.load_results("result.json")


def test_new_sound_under_an_old_name_is_measured_anew_and_a_damaged_record_too(folders: Path, samples: Any) -> None:
    before = melody.evaluate("generated", metrics=["peak"])
    soundfile.write("generated/clip 0.wav", 2 * samples(0), 8_000)
    after = melody.evaluate("generated", metrics=["peak"])
    assert after.sounds_computed == 1
    assert after["peak"].clips["clip 0"] > 1.5 * before["peak"].clips["clip 0"]
    record = next(Path("cache/store/features").rglob("*.safetensors"))
    content = bytearray(record.read_bytes())
    content[-1] ^= 1
    record.write_bytes(bytes(content))
    assert numbers(melody.evaluate("generated", metrics=["peak"])) == numbers(after)


def test_a_killed_evaluation_goes_on_with_the_same_numbers(folders: Path, make: Any) -> None:
    make(folders / "many", count=30, seconds=0.6, seed=5)
    command = [sys.executable, "-m", "melody", "evaluate", "many", "-m", "peak", "-m", "loudness", "--json", "out.json"]
    environment = {**os.environ, "PYTHONPATH": str(Path(melody.__file__).parents[1])}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    records = Path("cache/store/features")
    deadline = time.monotonic() + 3600  # on a busy machine the imports alone take minutes
    while not list(records.rglob("*.safetensors")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = len(list(records.rglob("*.safetensors")))
    assert 1 <= kept < 30, "the process was not in the middle of its work"
    assert not Path("out.json").exists()
    again = melody.evaluate("many", metrics=["peak", "loudness"])
    assert again.sounds_reused >= 1
    assert again.sounds_computed + again.sounds_reused == 30
    whole = melody.evaluate("many", metrics=["peak", "loudness"], store="elsewhere")
    assert json.dumps(numbers(again), sort_keys=True) == json.dumps(numbers(whole), sort_keys=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": ["fad"]}, "--reference"),
        ({"metrics": ["mcc"]}, "--captions"),
        ({"metrics": ["fda"], "reference": "reference"}, "did you mean 'fad'"),
        ({"metrics": ["fad"], "reference": "reference", "embedders": ["mel-stat"]}, "did you mean 'mel-stats'"),
        ({"metrics": ["fad"], "reference": "reference", "embedders": ["mel-stats:x=1"]}, "unknown key 'x'"),
        ({"metrics": ["peak"], "reference": "nowhere"}, "no such folder"),
        ({"metrics": ["mcc"], "captions": "nowhere.csv"}, "cannot read nowhere.csv"),
    ],
)
def test_what_cannot_be_had_is_said_before_anything_is_computed(
    folders: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(MelodyError, match=message) as error:
        melody.evaluate("generated", **arguments)
    assert "\n" not in str(error.value)
    assert not list(folders.rglob("*.safetensors"))


def test_a_ranking_is_no_mean_of_single_clips_even_where_it_equals_one() -> None:
    texts = torch.eye(6)
    audio = texts.clone()
    audio[:2] = texts[[1, 0]]  # two clips find one another's text; the median rank is 1 all the same
    run = MetricRun("median-rank[x]", "median-rank", {}, None, None, "")
    number = over_texts(run, texts, audio, [str(place) for place in range(6)], 0)
    assert number.value == 1
    assert number.clips == {}  # alone, every clip finds its text
    assert number.estimate is not None
    assert "jackknife" in number.estimate.method


def test_a_control_that_was_refused_is_not_told_apart() -> None:
    refused = Control(name="silence", value=None, n=3, reason="fad-inf: 3 clips and 8 draws; expected at least 4 and 1")
    infinite = Control(name="silence", value=None, n=3, reason="the value is -inf")
    found = judged([refused, infinite], MetricValue(value=1.0), "lower")
    assert [one.distinguished for one in found] == [None, True]


def test_one_embedder_with_two_arguments_has_two_rows(folders: Path, plugins: list[str]) -> None:
    taggers = ["test-loudness:window=1", "test-loudness:window=2"]
    result = melody.evaluate("generated", metrics=["test-labels"], taggers=taggers)
    assert [score.name for score in result.scores] == [f"test-labels[{name}]" for name in taggers]
    compared = melody.compare("generated", "reference", metrics=["test-labels"], taggers=taggers)
    assert len(compared.differences) == 2


def test_two_evaluations_at_once_do_not_lose_what_the_other_wrote(tmp_path: Path) -> None:
    records = FeatureStore(Store(tmp_path))
    ours, theirs = records.read("ab" * 32), records.read("ab" * 32)
    ours.add("one", {"vectors": torch.zeros(1)})
    theirs.add("other", {"vectors": torch.ones(1)})
    records.write("ab" * 32, ours)
    records.write("ab" * 32, theirs)
    assert records.read("ab" * 32).feature("one") is not None
    assert records.read("ab" * 32).feature("other") is not None


def test_texts_go_with_their_clips_in_whatever_order_the_rows_are(folders: Path) -> None:
    rows = [f"{'sub/' if n % 2 else ''}clip {n}.wav,{text}" for n, text in enumerate(("drums", "a slow piano") * 3)]
    values = []
    for order in (rows, rows[::-1]):
        Path("captions.csv").write_text("\n".join(["file_name,text", *order]))
        values.append(melody.evaluate("generated", captions="captions.csv", metrics=["mcc"])["mcc"].clips)
    assert values[0] == values[1]
    swapped = [row.replace("drums", "x").replace("a slow piano", "drums").replace("x", "a slow piano") for row in rows]
    Path("captions.csv").write_text("\n".join(["file_name,text", *swapped]))
    assert melody.evaluate("generated", captions="captions.csv", metrics=["mcc"])["mcc"].clips != values[0]


def test_stereo_is_averaged_and_resampled_along_time(tmp_path: Path) -> None:
    time_s = np.arange(48_000) / 48_000
    left, right = (0.5 * np.sin(2 * np.pi * hertz * time_s) for hertz in (300, 700))
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], axis=1), 48_000, subtype="FLOAT")
    heard = read_recording(tmp_path / "stereo.wav").at(24_000)
    assert len(heard) == 24_000
    middle = slice(2_000, -2_000)
    assert np.abs(heard.numpy()[middle] - (left + right)[::2][middle] / 2).max() < 1e-3


def test_rankings_of_two_systems_are_compared_by_the_paired_jackknife(folders: Path, make: Any) -> None:
    make(folders / "other", noise=0.3, seed=3)
    names = [path.relative_to("other").with_suffix("").as_posix() for path in sorted(Path("other").rglob("*.wav"))]
    rows = [f"{name},text number {place}" for place, name in enumerate(names)]
    Path("captions.csv").write_text("\n".join(["file_name,text", *rows]))
    ranks = {"captions": "captions.csv", "metrics": ["median-rank"], "skip_bad": True}
    result = melody.compare("generated", "other", **ranks)["median-rank"]
    values = [melody.evaluate(folder, **ranks)["median-rank"].value for folder in ("generated", "other")]
    assert result.value == pytest.approx(values[0] - values[1])
    assert result.p_value is not None
    assert "jackknife" in result.interval
    assert melody.compare("other", "other", allow_overlap=True, **ranks)["median-rank"].p_value == 1


def test_metrics_that_a_small_set_is_too_small_for_are_told_or_if_named_faults(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, seed in (("few", 1), ("many", 2)):
        make(tmp_path / name, 3 if name == "few" else 12, seed=seed, seconds=12.0)
    result = melody.evaluate("few", reference="many")
    measured = {score.metric for score in result.scores}
    assert {"fad", "kad", "peak"} <= measured
    assert "fad-inf" not in measured
    assert any("fad-inf[mel-stats] is not measured" in note and "at least 4" in note for note in result.notes)
    with pytest.raises(MelodyError, match="fad-inf"):
        melody.evaluate("few", reference="many", metrics=["fad-inf"])
    compared = melody.compare("few", "few", reference="many", allow_overlap=True)
    assert "fad-inf" not in {row.metric for row in compared.differences}


def test_no_interval_passes_the_range_of_its_metric(folders: Path, tmp_path: Path) -> None:
    with (tmp_path / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["file_name", "text"])
        names = [path.relative_to("generated").as_posix() for path in sorted(Path("generated").rglob("*.wav"))]
        rows.writerows([name, f"music of kind {place}"] for place, name in enumerate(names))
    result = melody.evaluate(
        "generated",
        reference="reference",
        captions=tmp_path / "metadata.csv",
        metrics=["recall-at-1", "precision", "clipping-rate"],
        skip_bad=True,
    )
    for name, top in (("recall-at-1[melody-demo]", 100), ("precision[mel-stats]", 1), ("clipping-rate", 1)):
        score = result[name]
        if score.low is not None:
            assert 0 <= score.low <= score.high <= top
    assert any(score.low is not None for score in result.scores)
