"""``melody report`` of every kind of result: each format of it, and one line for what is no result of ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from melody.cli import main
from melody.evaluation.result import Comparison, Evaluation, SavedResult
from melody.listening.analysis import analyse
from melody.report.evaluated import evaluated
from melody.report.frames import frames
from melody.report.page import render_page
from melody.reproduce.results import Results, load_results

Run = Callable[..., tuple[int, str, str]]
RATINGS = "rater,item,question,system_a,system_b,heard_first,answer\n"


@pytest.fixture
def melody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out = capsys.readouterr()
        return int(ended.value.code or 0), out.out, out.err

    return run


def score(name: str, value: float, direction: str, **controls: tuple[float, bool, bool]) -> dict[str, Any]:
    return {
        "name": name, "metric": name.partition("[")[0], "version": "1", "input_kind": "waveforms", "value": value,
        "low": value - 0.1, "high": value + 0.1, "direction": direction, "expected": 4, "scored": 4,
        "controls": [
            {"name": control.replace("_", " "), "value": number, "n": 4, "distinguished": told, "no_worse": no_worse}
            for control, (number, told, no_worse) in controls.items()
        ],
    }  # fmt: skip


def evaluation(**more: Any) -> dict[str, Any]:
    inputs = {
        "folder": "clips", "expected": 4, "read": 4, "others": 0, "seconds": 40.0, "formats": {"WAV": 4},
        "beyond_full_scale": 0, "highest_peak": 0.5, "content": "abc",
    }  # fmt: skip
    scores = [
        score("fad[mel-stats]", 5.5, "lower", reference_halves=(0.5, True, False), silence=(9.0, True, False)),
        score("beat-strength", 0.9, "higher", reference=(0.8, True, False)),
        score("key-clarity", 0.7, "higher", silence=(0.7, False, True)),
        score("clipping-rate", 0.3, "lower", silence=(0.0, True, True)),
    ]
    return {
        "schema_version": 2, "kind": "evaluation", "created": "", "seconds": 1, "sounds_computed": 4,
        "sounds_reused": 0, "generated": inputs, "reference": inputs, "scores": scores,
        "circumstances": {"seed": 0, "device": "cpu", "versions": {}, "commit": None}, **more,
    }  # fmt: skip


def comparison() -> dict[str, Any]:
    def difference(name: str, better: str) -> dict[str, Any]:
        return {
            "name": name, "metric": name.partition("[")[0], "version": "1", "direction": "lower", "a": 5.5, "b": 4.0,
            "value": 1.5, "low": 0.5, "high": 2.5, "pairs": 4, "p_value": 0.01, "p_holm": 0.02, "better": better,
        }  # fmt: skip

    rows = [difference("fad[mel-stats]", "b"), difference("clipping-rate", "undecided")]
    one = evaluation()
    return {
        "schema_version": 2, "kind": "comparison", "created": "", "seconds": 1, "a": one, "b": one, "pairs": 4,
        "differences": rows,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (evaluation(), "2 metrics against these clips, 1 for them, and 1 that cannot tell."),
        (comparison(), "B is better by fad[mel-stats]."),
    ],
    ids=["evaluation", "comparison"],
)
def test_a_result_is_rendered_in_a_folder_of_its_name(melody: Run, content: dict[str, Any], told: str) -> None:
    Path("now.json").write_text(json.dumps(content))
    code, out, error = melody("report", "now.json", "--jsonl")
    assert (code, error) == (0, "")
    written = {str(path) for path in Path("now-report").rglob("*") if path.is_file()}
    names = ("REPORT.md", "report.html", f"tables/{content['kind']}.csv", f"tables/{content['kind']}.jsonl")
    assert written == {f"now-report/{name}" for name in names}
    assert set(out.split()) >= written
    markdown, page = (Path("now-report", name).read_text() for name in names[:2])
    for text in (" ".join(out.split()), page, markdown.replace("\\", "")):
        assert told in text
    table = pd.read_csv(f"now-report/tables/{content['kind']}.csv")
    assert table["metric"].tolist() == load_results("now.json").to_pandas()["metric"].tolist()


def test_what_is_bad_stands_first_and_what_cannot_tell_is_one_line(melody: Run) -> None:
    Path("now.json").write_text(json.dumps(evaluation()))
    out = melody("report", "now.json")[1]
    lines = [line for line in out.split("Quality")[0].splitlines() if line[:1] in "✗✓?"]
    assert [line[:1] for line in lines if line] == ["✗", "✗", "✓", "?"]
    assert "worse than music" in " ".join(out.split())
    assert "no better than silence" in " ".join(out.split())


def test_a_listening_test_is_rendered_too(melody: Run) -> None:
    answers = ["first", "second", "similar"]
    rows = [
        f"r{rater},i{item},musicality,melody,musiclm,a,{answers[(rater + item) % 3]}"
        for rater in range(4)
        for item in range(5)
    ]
    Path("ratings.csv").write_text(RATINGS + "\n".join(rows) + "\n")
    analyse(Path("ratings.csv")).save("results.json")
    assert melody("report", ".")[0] == 0
    assert "musiclm" in Path("report.html").read_text()
    assert Path("tables/listening.csv").read_text().startswith("suite,row.question")


def test_version_1_of_an_evaluation_is_read_by_its_own_names(melody: Run) -> None:
    content = evaluation(schema_version=1)
    for one in content["scores"]:
        one["takes"] = {"waveforms": "clips"}[one.pop("input_kind")]
        for control in one["controls"]:
            control["told_apart"] = control.pop("distinguished")
    Path("old.json").write_text(json.dumps(content))
    assert load_results("old.json") == Evaluation.model_validate(evaluation())
    assert melody("report", "old.json")[0] == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"schema_version": 3, "kind": "comparison"}', "schema version 3 is newer than this melody reads (1 and 2)"),
        ('{"kind": "comparision"}', "unknown kind 'comparision'; did you mean 'comparison'"),
        ('{"results": {"mmlu": 1}, "versions": {}}', "expected 'kind' or 'tables'; it has 'results, versions'"),
        ('{"kind": "evaluation", "scores": 3}', "now.json is not a results file: "),
        ("[1, 2]", "expected an object, got a list of 2"),
        ("RIFF....WAVE", "it is not JSON"),
        (None, "cannot read"),
    ],
)
def test_what_is_no_result_is_one_line_and_writes_nothing(melody: Run, content: str | None, message: str) -> None:
    if content is not None:
        Path("now.json").write_text(content)
    code, out, error = melody("report", "now.json")
    assert (code, out) == (2, "")
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not Path("now-report").exists()


def test_json_lines_hold_what_the_csv_holds(melody: Run, results: Results) -> None:
    results.save("results.json")
    assert melody("report", ".", "--jsonl")[0] == 0
    for suite, part, frame in frames(results):
        name = f"tables/{suite}{'-' if part else ''}{part}.jsonl"
        lines = [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]
        assert len(lines) == len(frame)
        assert list(lines[0]) == list(frame.columns)


@pytest.mark.parametrize("model", [Evaluation, Comparison])
def test_a_result_without_numbers_is_rendered(melody: Run, model: type[SavedResult]) -> None:
    content = evaluation(scores=[]) if model is Evaluation else {**comparison(), "differences": []}
    Path("now.json").write_text(json.dumps(content))
    assert melody("report", "now.json")[0] == 0


def test_a_page_of_48_clips_is_small(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 240_000)
    content = evaluation()
    for place in range(48):
        soundfile.write(tmp_path / f"{place}.wav", noise, 24_000)
        worst = {"identifier": f"{place}", "file": f"{place}.wav", "value": 0.1}
        content["scores"][place % 4].setdefault("worst", []).append(worst)
    content["generated"] = {**content["generated"], "folder": str(tmp_path)}
    compared = {**comparison(), "a": content, "b": content}
    for result in (Evaluation.model_validate(content), Comparison.model_validate(compared)):
        page = render_page(evaluated(result, tmp_path / "page.html"))
        assert len(page) < 3_000_000
        assert page.count("<audio") == 12
        assert page.count("data:audio") == 2, "the others are fetched when they are played"
