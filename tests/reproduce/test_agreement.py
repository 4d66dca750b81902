"""Instrument agreement: judges hear the clips of a table's prompts, the real ones and the controls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from melody.artifacts.store import Store
from melody.data.captions import named_instrument
from melody.data.embedded import distinct_prompts
from melody.data.loading import load_corpus
from melody.errors import MelodyError
from melody.reproduce.context import Context
from melody.reproduce.jobs.embedded_clips import EmbeddedClips
from melody.reproduce.jobs.job import JobResult
from melody.reproduce.results import Table
from melody.reproduce.runner import plan, run
from melody.reproduce.subject import preset_context
from melody.reproduce.suite import Suite, load_suite
from melody.reproduce.tables import estimates


def table2(**settings: object) -> Suite:
    """A row, and the one column."""
    suite = load_suite("table2")
    sizes = {"prompts": 3, "duration_s": 2.0, "reference_clips": 16, "training_clips": 128, "seeds": (0, 1), **settings}
    return suite.model_copy(
        update={
            "settings": suite.settings.model_copy(update=sizes),
            "axes": {**suite.axes, "num_steps": (2,)},
            "columns": (suite.column("instrument"),),
            "compare": False,
            "paper": (),
            "orderings": (),
        }
    )


@pytest.fixture(scope="module")
def context() -> Context:
    context = preset_context("demo")
    context.inputs = replace(context.inputs, corpus_of=lambda: load_corpus("embedded", split="test", num_clips=16))
    return context


@pytest.fixture(scope="module")
def filled(context: Context, tmp_path_factory: pytest.TempPathFactory) -> Table:
    folder = tmp_path_factory.mktemp("agreement")
    return run([table2()], context, store=Store(folder / "store"), output=folder / "out").tables[0]


def test_generated_real_and_control_clips_are_heard(filled: Table) -> None:
    cells = {str(cell.row.get("system", "melody")): cell for cell in filled.cells}
    measured = {name: cell.measured for name, cell in cells.items() if cell.measured is not None}
    assert set(measured) == {"melody", "real clips", "white noise", "silence", "one clip repeated"}
    own, real = measured["melody"], measured["real clips"]
    assert own.scored == own.expected == 6
    assert set(own.by_seed) == {"0", "1"}
    assert own.value == pytest.approx(sum(own.by_seed.values()) / 2)
    assert real.scored == 16
    assert real.value > max(measured[name].value for name in ("white noise", "silence", "one clip repeated"))
    assert (cells["melody"].unit, cells["melody"].direction) == ("%", "higher")
    assert any("instrument agreement" in note and note.startswith("Controls:") for note in filled.notes)


def test_tables_share_the_runs_that_judges_hear(context: Context) -> None:
    def runs(name: str) -> set[str]:
        suite = load_suite(name)
        few = suite.settings.model_copy(update={"training_clips": 128})
        jobs = plan([suite.model_copy(update={"settings": few})], context).jobs
        return {job.key for job in jobs if job.kind == "generation"}

    assert runs("table2") & runs("table4")


def test_without_training_clips_the_cell_says_so(context: Context, tmp_path: Path) -> None:
    found = run(
        [table2()], Context(replace(context.inputs, training_of=None)), store=Store(tmp_path / "store"), output=tmp_path
    )
    cells = [cell for cell in found.tables[0].cells if "sampler" in cell.row]
    assert [cell.measured for cell in cells] == [None]
    assert "no training clips" in cells[0].reason


def test_a_column_without_judges_is_refused(context: Context) -> None:
    with pytest.raises(MelodyError, match="judges = true"):
        plan([table2(judges=False)], context)


def test_every_prompt_names_its_instrument() -> None:
    clips = distinct_prompts(64, split="test")
    assert [named_instrument(clip.text) for clip in clips] == [clip.attributes["instrument"] for clip in clips]
    assert named_instrument("Saxophone, then a flute") == "saxophone"
    assert named_instrument("an organist") is None


def heard(*rows: list[float]) -> dict[int, EmbeddedClips]:
    results = [JobResult({"clips": len(row), "instrument_agreement": row}) for row in rows]
    return {seed: EmbeddedClips((result,)) for seed, result in enumerate(results)}


def test_the_interval_stays_within_per_cent_and_is_never_empty() -> None:
    mixed = estimates.agreement(heard([1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]))
    assert mixed.value == pytest.approx(87.5)
    assert mixed.low is not None
    assert mixed.high is not None
    assert 0 <= mixed.low < 87.5 < mixed.high <= 100
    for value in (0.0, 1.0):
        alike = estimates.agreement(heard([value] * 4, [value] * 4))
        assert alike.value == 100 * value
        assert alike.low is not None
        assert alike.high is not None
        assert alike.low < alike.high
        assert "Wilson" in alike.interval


def test_prompts_that_name_no_instrument_are_told() -> None:
    with pytest.raises(MelodyError, match="no prompt names an instrument"):
        estimates.agreement_of(EmbeddedClips((JobResult({"clips": 2, "instrument_agreement": []}),)))
