"""The card of the weights: judges that learn on the spot, and its tables at a small size with the shipped weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from melody.artifacts.store import Store
from melody.data.attributes import Attributes
from melody.data.captions import DRUMS_PHRASES, full_caption
from melody.data.embedded import distinct_combinations
from melody.data.loading import load_corpus
from melody.errors import MelodyError
from melody.evaluation.result import Measurement
from melody.reproduce.attribute_classifiers import trained_classifiers
from melody.reproduce.context import Context
from melody.reproduce.results import Cell, Results, Table
from melody.reproduce.runner import plan, run
from melody.reproduce.subject import preset_context
from melody.reproduce.suite import (
    Column,
    ListedRow,
    Suite,
    TargetClaim,
    group_names,
    load_suite,
    load_suites,
    suite_names,
)
from melody.reproduce.tables.attribute_agreement import constant_guess
from melody.reproduce.tables.builder import check_measures
from melody.reproduce.tables.table import kind_of
from melody.reproduce.verdicts import targets

TRAINING_CLIPS = 128
METRICS = (
    Column(name="registered", label="FAD", metric="fad", embedder="mel-stats"),
    Column(name="level", label="level", metric="loudness"),
)
"""Columns beside those of the shipped suite."""


@pytest.fixture(scope="session")
def context() -> Context:
    context = preset_context("demo")
    context.inputs = replace(context.inputs, corpus_of=lambda: load_corpus("embedded", split="test", num_clips=32))
    return context


def small(name: str) -> Suite:
    suite = load_suite(f"demo-card/{name}")
    sizes: dict[str, Any] = {"prompts": 6, "clips": 4, "reference_clips": 16, "training_clips": TRAINING_CLIPS}
    sizes |= {"duration_s": 4.0 if name == "length" else 2.0, "num_steps": 2}
    sizes = {key: size for key, size in sizes.items() if key in kind_of(suite).uses.settings}
    columns = [*suite.columns, *(METRICS if name == "system" else ())]
    return suite.model_copy(update={"settings": suite.settings.model_copy(update=sizes), "columns": tuple(columns)})


@pytest.fixture(scope="module")
def card(context: Context, tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Path]:
    folder = tmp_path_factory.mktemp("card")
    suites = [small(suite.name.partition("/")[2]) for suite in load_suites(["demo-card"])]
    return run(suites, context, store=Store(folder / "store"), output=folder / "out"), folder


def _table(results: Results, name: str) -> Table:
    return next(table for table in results.tables if table.suite == f"demo-card/{name}")


def _value(table: Table, column: str, **row: str | int) -> float:
    (cell,) = [c for c in table.cells if c.column == column and c.row == row]
    assert cell.measured is not None, cell.reason
    return cell.measured.value


def test_the_group_is_run_by_name_only_and_its_suites_are_valid() -> None:
    assert group_names() == ["counting", "demo-card", "samplers", "speed"]
    assert not any("card" in name for name in suite_names())
    suites = load_suites(["demo-card", "demo-card/codec"])
    assert [s.name for s in suites] == [
        f"demo-card/{name}" for name in ("codec", "denoiser", "joint-embedding", "language-model", "length", "system")
    ]
    for suite in suites:
        check_measures(suite, kind_of(suite).measures)
    with pytest.raises(MelodyError, match="did you mean 'demo-card'"):
        load_suites(["demo-crad"])


def test_judges_learn_from_few_real_clips_and_hear_new_ones() -> None:
    judges = trained_classifiers(load_corpus("embedded", split="train", num_clips=TRAINING_CLIPS))
    held_out = load_corpus("embedded", split="validation", num_clips=32)
    heard = judges.predict(held_out.waveforms(), held_out.sample_rate)
    agreed = [judged.agreement(clip.attributes) for judged, clip in zip(heard, held_out, strict=True)]
    share = {name: sum(row[name] for row in agreed) / len(agreed) for name in agreed[0]}
    # 128 clips teach a sixteenth of what the card's judges learn from; chance is 17, about 20, 50 and 55 %.
    assert share["tempo"] >= 0.7
    assert share["mode"] >= 0.7
    assert share["drums"] >= 0.8
    noise = judges.predict(torch.randn(8, 48_000, generator=torch.Generator().manual_seed(0)), 24_000)
    assert len({judged.instrument for judged in noise}) < 6
    assert judges.training is False


def test_judges_are_the_same_from_the_cache_and_learnt_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    corpus = load_corpus("embedded", split="train", num_clips=8)
    _ = corpus.content_hash()  # rendered before the cache moves
    first = trained_classifiers(corpus)
    clips = corpus.waveforms()
    monkeypatch.setenv("MELODY_CACHE", str(tmp_path))
    again = trained_classifiers(corpus)
    assert list(tmp_path.rglob("classifiers/*/*.safetensors"))
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert first.predict(clips[:2], 24_000) == again.predict(clips[:2], 24_000)


def test_judges_are_the_same_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    corpus = load_corpus("embedded", split="train", num_clips=8)
    _ = corpus.content_hash()
    threads, learnt = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            monkeypatch.setenv("MELODY_CACHE", str(tmp_path / str(number)))
            torch.set_num_threads(number)
            learnt.append(trained_classifiers(corpus).state_dict())
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(tensor, learnt[1][name]) for name, tensor in learnt[0].items())


def test_judges_need_attributes_to_learn_from(tones: Any) -> None:
    with pytest.raises(MelodyError, match="has no attribute 'instrument' to learn from"):
        trained_classifiers(tones.context().inputs.corpus_of())


def test_every_place_of_the_card_has_a_number_or_a_reason(card: tuple[Results, Path]) -> None:
    results, _ = card
    assert results.failures == []
    for table in results.tables:
        rows = {tuple(cell.row.items()) for cell in table.cells}
        assert len(table.cells) == len(rows) * len({cell.column for cell in table.cells})
        for cell in table.cells:
            assert cell.reason
            if cell.measured is not None:
                assert cell.measured.scored == cell.measured.expected, (cell.column, cell.row)
        assert table.targets
        assert all(target.verdict != "not attempted" for target in table.targets)


def test_longer_clips_are_heard_window_by_window_beside_real_pieces_of_their_length(
    card: tuple[Results, Path], context: Context
) -> None:
    table, (_, folder) = _table(card[0], "length"), card
    for sound in ("text", "codec only", "real clips"):
        windows = [_value(table, "mcc", sound=sound, windows=3, window=w) for w in (1, 2, 3)]
        assert len(set(windows)) == 3, "three windows, not one thrice"
    # The real pieces are longer ones, not clips of 10 s that end before the third window does.
    assert context.loaded.pieces(12.0)[0].duration_s == 12.0
    cells = [c for c in table.cells if c.row == {"sound": "real clips", "windows": 3, "window": 3}]
    assert {c.provenance.config["duration_s"] for c in cells if c.provenance} == {12.0}
    longer = [clip for clip in table.clips if clip.title == "text, 12 s"]
    assert longer
    assert soundfile.info(folder / "out" / longer[0].path).duration == pytest.approx(12.0)


def test_the_head_of_a_table_says_what_training_has_met_of_its_prompts(card: tuple[Results, Path]) -> None:
    for name in ("system", "length"):
        (note,) = [note for note in _table(card[0], name).notes if note.startswith("Held-out clips, not held-out")]
        assert "of 6 prompts, 6 have a combination of attributes" in note
        assert "6,144 training clips" in note


def test_columns_of_registered_metrics_have_numbers_of_every_sound(card: tuple[Results, Path]) -> None:
    table = _table(card[0], "system")
    for row in ({"sound": "real clips"}, {"sound": "text"}, {"sound": "white noise"}):
        assert _value(table, "registered", **row) == pytest.approx(_value(table, "fad", **row))
        assert _value(table, "level", **row) < 0


def test_controls_fall_where_they_must(card: tuple[Results, Path]) -> None:
    system = _table(card[0], "system")
    fad = {name: _value(system, "fad", sound=name) for name in ("real clips", "pieces shuffled", "white noise")}
    assert fad["real clips"] < fad["white noise"]
    assert fad["pieces shuffled"] < fad["white noise"]
    for column in ("instrument", "tempo", "mode", "drums"):
        assert 0 <= _value(system, column, sound="constant guess") <= 100
        assert _value(system, column, sound="real clips") >= _value(system, column, sound="white noise") - 1e-9
    codec = _table(card[0], "codec")
    for column, sign in (("si_sdr", 1), ("mr_stft", -1), ("log_mel", -1)):
        own, other = (_value(codec, column, against=name) for name in ("the original", "another clip"))
        assert sign * own > sign * other, column
    denoiser = _table(card[0], "denoiser")
    zero, constant, linear = (_value(denoiser, name, angle="all") for name in ("zero", "constant", "linear"))
    assert constant <= zero
    assert linear <= zero
    assert _value(denoiser, "guided", angle="all") != _value(denoiser, "with_tokens", angle="all")
    model = _table(card[0], "language-model")
    assert _value(model, "loss", model="bigram") < _value(model, "loss", model="unigram")


def test_sounds_of_the_card_can_be_heard_beside_their_originals(card: tuple[Results, Path]) -> None:
    from melody.report.write import write_report

    results, folder = card
    clips = [clip for table in results.tables for clip in table.clips]
    paths = [clip.path for clip in clips]
    assert len(set(paths)) == len(paths)
    for clip in clips:
        assert soundfile.info(folder / "out" / clip.path).samplerate == 24_000
        assert clip.beside in ("", *paths)
    written = {str(path.relative_to(folder / "out")): path for path in write_report(results, folder / "out")}
    assert written["figures/demo-card-codec-spectrograms.png"].read_bytes().startswith(b"\x89PNG")
    assert "figures/demo-card-codec-spectrograms.png" in written["REPORT.md"].read_text(encoding="utf-8")
    assert "What we aim at" in written["report.html"].read_text(encoding="utf-8")


def test_a_second_run_computes_nothing(card: tuple[Results, Path], context: Context, tmp_path: Path) -> None:
    results, folder = card
    suites = [small(table.suite.partition("/")[2]) for table in results.tables]
    again = run(suites, context, store=Store(folder / "store"), output=tmp_path)
    assert (again.cells_computed, again.cells_reused) == (0, results.cells_computed)
    assert again.tables == results.tables


def test_what_cannot_be_asked_for_ends_the_run_before_it_begins(context: Context, tones: Any) -> None:
    for name, row in (
        ("system", {"sound": "txet"}),
        ("length", {"sound": "txet", "windows": 3, "window": 1}),
        ("codec", {"against": "orginal"}),
        ("language-model", {"model": "x"}),
    ):
        suite = small(name)
        bad = suite.model_copy(update={"rows": (suite.rows[0].model_copy(update={"row": row}),)})
        with pytest.raises(MelodyError, match="unknown"):
            plan([bad], context)
    suite = small("length")
    outside = suite.model_copy(update={"rows": (ListedRow(row={"sound": "text", "windows": 3, "window": 4}),)})
    with pytest.raises(MelodyError, match="expected a window from 1 to 3"):
        plan([outside], context)
    with pytest.raises(MelodyError, match="clips of 10 s, and none of 12 s"):
        plan([suite], Context(replace(context.inputs, pieces_of=None)))
    with pytest.raises(MelodyError, match="lacks attributes of the embedded corpus"):
        plan([small("joint-embedding")], tones.context())
    with pytest.raises(MelodyError, match="no training split"):
        plan([small("language-model")], tones.context())


def test_targets_hold_or_fall_short_by_the_number() -> None:
    def cell(sound: str, value: float, p_value: float | None = None) -> Cell:
        measured = Measurement(value=value, low=value - 5, high=value + 5, expected=1, scored=1, p_value=p_value)
        facts = {"metric": "m", "metric_version": "1", "direction": "none", "verdict": "not comparable", "reason": "r"}
        return Cell(row={"sound": sound}, column="drums", label="drums", measured=measured, **facts)  # type: ignore[arg-type]

    claims = [
        TargetClaim(claim="a", column="drums", row={"sound": "text"}, above=70),
        TargetClaim(claim="b", column="drums", row={"sound": "text"}, at_most=70),
        TargetClaim(claim="c", column="drums", row={"sound": "noise"}, below={"sound": "text"}),
        TargetClaim(claim="d", column="drums", row={"sound": "text"}, p_below=0.01),
        TargetClaim(claim="e", column="drums", row={"sound": "silence"}, above=0),
        TargetClaim(claim="f", column="drums", row={"sound": "text"}, above=72),
    ]
    suite = small("system").model_copy(update={"targets": tuple(claims)})
    tested = targets(suite, [cell("text", 72.0, 0.02), cell("noise", 20.0)])
    assert [t.verdict for t in tested] == [
        "holds",
        "falls short",
        "holds",
        "falls short",
        "not attempted",
        "falls short",
    ]
    assert tested[0].reason == "72 (67 to 77), to be above 70"
    with pytest.raises(ValueError, match="expected one of above"):
        TargetClaim(claim="x", column="drums", row={}, above=1, at_most=2)


def test_full_caption_states_what_is_judged() -> None:
    corpus = load_corpus("embedded", split="test", num_clips=64)
    places = distinct_combinations(corpus, 20)
    assert len(set(places)) == 20
    for place in places:
        facts = Attributes.from_mapping(corpus[place].attributes)
        text = full_caption(facts)
        for word in (facts.instrument, f"at {facts.bpm} BPM", f"{facts.mode} key", DRUMS_PHRASES[facts.drums][0]):
            assert word in text
    assert len({full_caption(Attributes.from_mapping(corpus[p].attributes)) for p in places}) == 20
    guess = constant_guess(corpus)
    assert guess.instrument in {clip.attributes["instrument"] for clip in corpus}
