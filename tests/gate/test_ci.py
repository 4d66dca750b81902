"""CI in three commands: ``evaluate``, ``gate`` against last week's result, ``compare --fail-if-worse``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile

import melody as package
from melody.cli import main
from melody.reproduce.results import load_results

Run = Callable[..., tuple[int, str, str]]
RATE = 8_000


def write_clips(
    folder: Path, count: int = 12, *, names: str = "clip", gain: float = 1.0, seed: int = 0, seconds: int = 1
) -> Path:
    """Tones in noise; those of ``gain`` 8 are cut at full scale, which clipping-rate counts."""
    folder.mkdir(parents=True)
    time = np.arange(seconds * RATE) / RATE
    for place in range(count):
        noise = np.random.default_rng([seed, place]).standard_normal(len(time))
        samples = gain * (0.2 * np.sin(2 * np.pi * 110 * (2 + place % 5) * time) + 0.02 * noise)
        soundfile.write(folder / f"{names} {place}.wav", samples.clip(-1, 1), RATE, subtype="FLOAT")
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def melody(here: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out = capsys.readouterr()
        return int(ended.value.code or 0), out.out, out.err

    return run


def evaluated(folder: Path, path: Path, seed: int = 0) -> None:
    metrics = ["clipping-rate", "loudness", "fad"]
    reference, store = folder.parent / "reference", folder.parent / "store"
    package.evaluate(folder, reference=reference, metrics=metrics, seed=seed, store=store).save(path)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of clips, each with its evaluation: ``same`` has other noise, ``bad`` is clipped."""
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder / "reference", 12, seed=9, seconds=5)
    week = {"last-week": {}, "same": {"seed": 1}, "bad": {"gain": 8.0}, "others": {"names": "other"}}
    for name, options in week.items():
        evaluated(write_clips(folder / name, **options), folder / f"{name}.json")
    evaluated(folder / "same", folder / "seeds.json", seed=1)
    return folder


@pytest.fixture
def weeks(here: Path, clips: Path) -> Path:
    """A folder to work in, with the results; the clips stay where they are."""
    for path in clips.glob("*.json"):
        shutil.copy(path, here)
    return clips


def test_evaluate_gate_junit(melody: Run, weeks: Path) -> None:
    code, out, error = melody("gate", "same.json", "--baseline", "last-week.json", "--junit", "gate.xml")
    assert code == 0, error
    assert "paired over 12 clips" in out
    assert "not held, no direction is better: loudness" in out
    root = ElementTree.parse("gate.xml").getroot()
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("3", "0", "1")
    code, out, _ = melody("gate", "bad.json", "--baseline", "last-week.json", "--junit", "gate.xml")
    assert code == 1
    assert "falls  evaluation clipping-rate" in out
    assert "by Holm over 2 metrics" in out
    root = ElementTree.parse("gate.xml").getroot()
    assert (root.get("tests"), root.get("failures")) == ("3", "2")
    assert {case.get("classname") for case in root.iter("testcase")} == {"melody.evaluation"}
    assert melody("gate", "bad.json", "--baseline", "last-week.json", "--by", "100")[0] == 0


def test_a_metric_of_sets_is_paired_by_its_groups_and_other_clips_are_not_paired(melody: Run, weeks: Path) -> None:
    out = melody("gate", "same.json", "-b", "last-week.json")[1]
    line = next(line for line in out.splitlines() if "fad[mel-stats]" in line)
    assert "paired over 12 clips" in line
    assert "not paired" not in line
    code, out, _ = melody("gate", "others.json", "-b", "last-week.json")
    assert code == 0
    assert "not paired: 0 of 24 identifiers agree" in out or "not paired: the clips' identifiers" in out
    line = next(x for x in melody("gate", "seeds.json", "-b", "last-week.json")[1].splitlines() if "fad[" in x)
    assert "not paired: the clips' identifiers or the seeds differ" in line


def test_pairing_finds_what_is_lost_without_it(melody: Run, weeks: Path) -> None:
    """The same clips, each a little worse: less than the clips differ among each other."""
    now, base = (json.loads(Path("last-week.json").read_text()) for _ in range(2))
    for content, more in ((now, 0.1), (base, 0.0)):
        score = next(score for score in content["scores"] if score["name"] == "clipping-rate")
        score["clips"] = {name: place + more for place, name in enumerate(score["clips"])}
        score["value"] = sum(score["clips"].values()) / len(score["clips"])
        score["standard_error"] = 1.0
        content["scores"] = [score]
    Path("base.json").write_text(json.dumps(base))
    Path("now.json").write_text(json.dumps(now))
    assert melody("gate", "now.json", "-b", "base.json")[0] == 1
    score["clips"] = {f"other {name}": value for name, value in score["clips"].items()}
    Path("base.json").write_text(json.dumps(base))
    code, out, _ = melody("gate", "now.json", "-b", "base.json")
    assert code == 0
    assert "not paired: 0 of 24 identifiers agree" in out


def test_holm_runs_over_the_metrics(melody: Run, weeks: Path) -> None:
    """A worsening of 2.2 standard errors falls alone, and not as one of five."""
    content = json.loads(Path("last-week.json").read_text())
    kept = next(score for score in content["scores"] if score["name"] == "clipping-rate")
    base = {**kept, "value": 0.0, "standard_error": 1.0, "clips": {}, "scored": 1000, "expected": 1000}
    for count, code in ((1, 1), (5, 0)):
        for name, worse in (("base", 0.0), ("now", 2.5 * 2**0.5)):
            values = [worse, *[0.0] * (count - 1)]
            scores = [{**base, "name": f"m{place}", "value": value} for place, value in enumerate(values)]
            Path(f"{name}.json").write_text(json.dumps({**content, "scores": scores}))
        found, out, error = melody("gate", "now.json", "-b", "base.json")
        assert found == code, out + error
        assert f"by Holm over {count} metrics" in out


def test_thresholds_hold_and_fall_on_what_evaluate_wrote(melody: Run, weeks: Path) -> None:
    Path("t.toml").write_text(
        '[[thresholds]]\nmetric = "clipping-rate"\nmax = 0.01\n\n'
        '[[thresholds]]\nmetric = "fad[mel-stats]"\nno_worse_than = "last-week.json"\nby_standard_errors = 3\n'
    )
    code, out, error = melody("gate", "same.json", "-t", "t.toml", "--junit", "gate.xml")
    assert code == 0, error
    assert "2 hold, 0 fall" in out
    code, out, _ = melody("gate", "bad.json", "-t", "t.toml", "--junit", "gate.xml")
    assert code == 1
    assert ElementTree.parse("gate.xml").getroot().get("failures") in ("1", "2")


def test_compare_fails_if_worse_and_its_result_is_gated_too(melody: Run, weeks: Path) -> None:
    common = ("-m", "clipping-rate", "-m", "peak")
    assert melody("compare", weeks / "bad", weeks / "same", *common)[0] == 0
    code, out, error = melody("compare", weeks / "bad", weeks / "same", "--fail-if-worse", *common, "--json", "c.json")
    assert code == 1, error
    assert "worse  clipping-rate" in out
    assert melody("compare", weeks / "same", weeks / "bad", "--fail-if-worse", *common)[0] == 0
    assert melody("compare", weeks / "bad", weeks / "same", "clipping-rate", "--fail-if-worse", *common)[0] == 1
    Path("t.toml").write_text('[[thresholds]]\nmetric = "clipping-rate"\nrow = { side = "b" }\nmax = 0.01\n')
    assert melody("gate", "c.json", "-t", "t.toml")[0] == 0
    Path("t.toml").write_text('[[thresholds]]\nmetric = "clipping-rate"\nmax = 0.01\n')
    code, _, error = melody("gate", "c.json", "-t", "t.toml")
    assert code == 2
    assert 'row = { side = "a" }' in error
    assert melody("gate", "c.json", "-b", "c.json")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "b", "fad"], "'fad' was given without --fail-if-worse"),
        (["a", "b", "clipping-rat", "--fail-if-worse"], "unknown metric 'clipping-rat'; did you mean 'clipping-rate'"),
        (["a", "b", "loudness", "--fail-if-worse"], "metric 'loudness' has no better direction"),
    ],
)
def test_a_slip_in_what_must_not_be_worse_is_found_before_the_work(
    melody: Run, arguments: list[str], message: str
) -> None:
    code, _, error = melody("compare", *arguments)
    assert code == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"schema_version": 3, "kind": "evaluation"}', "schema version 3 is newer than this melody reads (1 and 2)"),
        ('{"schema_version": "x", "kind": "evaluation"}', "schema_version is 'x', expected 1 or 2"),
        ('{"kind": "evalution"}', "unknown kind 'evalution'; did you mean 'evaluation'"),
        ('{"results": {"mmlu": 1}, "versions": {}}', "expected 'kind' or 'tables'; it has 'results, versions'"),
        ("[1, 2]", "expected an object, got a list of 2"),
        ('{"tables": [{"suite": 1}]}', "is not a results file: "),
        ("{", "it is not JSON"),
        (None, "cannot read"),
    ],
)
@pytest.mark.parametrize("as_baseline", [False, True])
def test_a_file_that_is_no_result_is_one_line(
    melody: Run, here: Path, content: str | None, message: str, as_baseline: bool
) -> None:
    run = {"created": "", "command": "", "seconds": 0, "cells_computed": 0, "cells_reused": 0, "tables": []}
    Path("good.json").write_text(json.dumps(run))
    if content is not None:
        Path("odd.json").write_text(content)
    files = ["good.json", "-b", "odd.json"] if as_baseline else ["odd.json", "-b", "good.json"]
    code, _, error = melody("gate", *files, "--junit", "gate.xml")
    assert code == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not Path("gate.xml").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.json"], "expected --thresholds FILE or --baseline FILE: neither was given"),
        (["x.json", "-t", "t.toml", "-b", "x.json"], "both were given"),
        (["x.json", "-t", "t.toml", "--by", "2"], "--by was given without --baseline"),
        (["x.json", "-b", "x.json", "--by", "-1"], "Invalid value for '--by'"),
        (["x.json", "-b", "x.json", "--by", "nan"], "Invalid value for '--by'"),
        (["x.json", "-b", "x.json", "--junit", "/proc/gate.xml"], "/proc/gate.xml"),
    ],
)
def test_bad_arguments_of_the_gate_are_one_line(melody: Run, arguments: list[str], message: str) -> None:
    code, _, error = melody("gate", *arguments)
    assert code == 2
    assert message in error


def test_what_only_one_result_has_is_told_and_nothing_in_common_is_bad_input(melody: Run, weeks: Path) -> None:
    content = json.loads(Path("last-week.json").read_text())
    by_name = {score["name"]: score for score in content["scores"]}
    Path("one.json").write_text(json.dumps({**content, "scores": [by_name["clipping-rate"]]}))
    Path("two.json").write_text(json.dumps({**content, "scores": [by_name["fad[mel-stats]"]]}))
    code, out, _ = melody("gate", "one.json", "-b", "last-week.json")
    assert code == 0
    assert "not held, only last-week.json has it: loudness, fad[mel-stats]" in out
    code, _, error = melody("gate", "one.json", "-b", "two.json")
    assert code == 2
    assert "no number that can be held against two.json" in error
    unmeasured = {**by_name["clipping-rate"], "value": None, "reason": "it refuses"}
    Path("one.json").write_text(json.dumps({**content, "scores": [unmeasured]}))
    code, out, _ = melody("gate", "one.json", "-b", "last-week.json")
    assert code == 1
    assert "not measured: it refuses" in out


def test_another_reference_or_embedder_is_not_compared(melody: Run, weeks: Path) -> None:
    content = json.loads(Path("last-week.json").read_text())
    content["reference"]["content"] = "0" * 64
    Path("other.json").write_text(json.dumps(content))
    code, out, _ = melody("gate", "other.json", "-b", "last-week.json")
    assert code == 0
    assert "not held, the reference or the texts are not the baseline's: fad[mel-stats]" in out
    content = json.loads(Path("last-week.json").read_text())
    next(score for score in content["scores"] if score["metric"] == "fad")["source"]["hop_s"] = 7.0
    Path("other.json").write_text(json.dumps(content))
    assert "hop_s of mel-stats are not the baseline's" in melody("gate", "other.json", "-b", "last-week.json")[1]


def test_a_run_of_version_1_is_read_and_holds_against_itself(melody: Run) -> None:
    reference = Path(__file__).parents[2] / "reports" / "demo"
    content = json.loads((reference / "results.json").read_text())
    loaded = load_results(reference / "results.json")
    assert (loaded.schema_version, loaded.kind) == (2, "reproduction")
    code, out, error = melody("gate", reference, "-b", reference)
    assert code == 0, error
    assert "paired by prompt and seed" in out
    assert f"{content['tables'][0]['suite']}" in out


def test_every_kind_of_result_is_a_data_frame(melody: Run, weeks: Path) -> None:
    frame = package.load_results("last-week.json").to_pandas()
    assert list(frame["metric"]) == ["clipping-rate", "loudness", "fad[mel-stats]"] or len(frame) == 3
    row = frame.set_index("metric").loc["fad[mel-stats]"]
    assert row["low"] < row["value"] < row["high"]
    assert row["scored"] == 12
    assert melody("compare", weeks / "same", weeks / "bad", "-m", "peak", "--json", "c.json")[0] == 0
    frame = package.load_results("c.json").to_pandas()
    assert list(frame["row.side"]) == ["a", "b", "a - b"]
    frame = package.load_results(Path(__file__).parents[2] / "reports" / "demo" / "results.json").to_pandas()
    of_table2 = frame[(frame["suite"] == "table2") & (frame["column"] == "fad")].dropna(subset="row.num_steps")
    assert {5, 10, 20} <= set(of_table2["row.num_steps"])
    assert of_table2["value"].notna().any()
    assert Path("frame.csv").write_text(frame.to_csv(index=False))


def test_the_embedded_corpus_as_a_folder_that_evaluate_takes(melody: Run, here: Path) -> None:
    code, out, error = melody("data", "export", "held-out", "--clips", 3)
    assert code == 0, error
    assert "3 clips of embedded/test" in out
    assert sorted(path.name for path in Path("held-out").iterdir()) == [
        "00000.wav", "00001.wav", "00002.wav", "metadata.csv"
    ]  # fmt: skip
    options = ("-m", "peak", "--captions", "held-out/metadata.csv", "--json", "r.json")
    code, _, error = melody("evaluate", "held-out", *options)
    assert code == 0, error
    assert load_results("r.json")["peak"].scored == 3
    code, _, error = melody("data", "export", "held-out", "--clips", 3)
    assert code == 2
    assert "held-out is not empty" in error
    code, _, error = melody("data", "export", "more", "--split", "tets")
    assert code == 2
    assert "did you mean 'test'" in error
    assert not Path("more").exists()
