"""A suite's own prompts: a CSV file beside it, its texts in every key, and every slip in one line."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from melody.errors import MelodyError
from melody.reproduce.suite import Suite, load_suite
from melody.reproduce.tables.shared_jobs import generation_jobs, settings_row

TEXTS = [f"a tone of {frequency} Hz" for frequency in (220, 330, 440)]


def _suite(small_suite: Path, folder: Path, prompts: str, content: str | None, count: str = "") -> Suite:
    text = small_suite.read_text().replace("prompts = 3", count)
    (folder / "own.toml").write_text(f'prompts = "{prompts}"\n{text}')
    if content is not None:
        (folder / prompts).write_text(content)
    return load_suite(folder / "own.toml")


def test_the_texts_are_those_of_the_file_and_in_the_keys(
    small_suite: Path, tmp_path: Path, tones: SimpleNamespace
) -> None:
    context = tones.context()
    suite = _suite(small_suite, tmp_path, "prompts.csv", "id,text\n" + "".join(f"x,{text}\n" for text in TEXTS))
    assert (context.texts(suite), suite.settings.prompts) == (TEXTS, 3)
    jobs = generation_jobs(suite, context, settings_row(suite, 2))
    assert {tuple(job.config["prompts"]) for job in jobs.values()} == {tuple(TEXTS)}
    fewer = _suite(small_suite, tmp_path, "prompts.csv", None, "prompts = 2")
    assert context.texts(fewer) == TEXTS[:2]


@pytest.mark.parametrize(
    ("content", "count", "message"),
    [
        (None, "", "cannot read .*prompts.csv"),
        ("file_name\na.wav\n", "", "column 'text' is missing"),
        ("id,text\n1,\n", "", "line 2: the text is empty"),
        ("text\na waltz\nrock\na waltz\n", "", "line 4: the text is that of line 2: 'a waltz'"),
        ("text\na waltz\n", "prompts = 3", "settings.prompts is 3, and prompts has 1 texts"),
        ("text\n", "", "has a header and no rows"),
    ],
)
def test_a_slip_is_one_line(small_suite: Path, tmp_path: Path, content: str | None, count: str, message: str) -> None:
    with pytest.raises(MelodyError, match=message) as error:
        _suite(small_suite, tmp_path, "prompts.csv", content, count)
    assert "\n" not in str(error.value)


def test_kinds_that_need_the_clips_of_the_texts_refuse_other_texts(tmp_path: Path) -> None:
    (tmp_path / "prompts.csv").write_text("text\na waltz\n")
    shipped = Path(__file__).parents[2] / "eval" / "suites" / "demo-card" / "joint-embedding.toml"
    (tmp_path / "own.toml").write_text(f'prompts = "prompts.csv"\n{shipped.read_text()}')
    with pytest.raises(MelodyError, match="prompts have no use in a suite of kind 'retrieval'"):
        load_suite(tmp_path / "own.toml")
