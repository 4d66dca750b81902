"""Table 5's study: its shipped weights make the table, and what is missing or does not fit is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from melody.artifacts.files import file_hash
from melody.artifacts.store import Store
from melody.config import load_preset
from melody.evaluation.result import Measurement, Sample
from melody.pipeline import shipped_weights
from melody.reproduce.context import Context
from melody.reproduce.jobs import denoiser_ablation
from melody.reproduce.jobs.denoiser_ablation import FOLDER, Study
from melody.reproduce.orderings import orderings
from melody.reproduce.results import Cell, Table
from melody.reproduce.runner import run
from melody.reproduce.subject import preset_context
from melody.reproduce.suite import Column, load_suite
from melody.reproduce.tables.denoiser_comparison import RANKED, no_rank

NAMES = ("dual-path", "unet-1d", "unet-2d")
SEEDS = load_suite("table5").settings.seeds
needs_weights = pytest.mark.skipif(
    not (FOLDER / "card.json").is_file(), reason=f"the study's weights are not in {FOLDER.name}"
)


@pytest.fixture(scope="module")
def context() -> Context:
    return preset_context("demo")


@pytest.fixture(scope="module")
def table(context: Context, tones: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Table:
    folder = tmp_path_factory.mktemp("table5")
    suite = tones.small("table5", clips=6)
    return run([suite], context, store=Store(folder / "store"), output=folder / "out").tables[0]


@needs_weights
def test_the_card_speaks_of_the_weights_that_are_there() -> None:
    card = json.loads((FOLDER / "card.json").read_text())
    assert set(card) == {f"{name}-{seed}" for name in NAMES for seed in SEEDS}
    assert {path.stem for path in FOLDER.glob("*.safetensors")} == set(card)
    demo = shipped_weights(load_preset("demo"))
    for stem, entry in card.items():
        assert entry["sha256"] == file_hash(FOLDER / f"{stem}.safetensors")
        assert entry["seed"] == int(stem[-1])
        for part, digest in entry["needs"].items():
            assert digest == file_hash(demo / f"{part}.safetensors")
    assert len({(e["steps"], e["settings"]["batch_size"]) for e in card.values()}) == 1
    for name in NAMES:
        preset = load_preset(f"table5-{name}").training
        rates = {card[f"{name}-{seed}"]["settings"]["learning_rate"] for seed in SEEDS}
        assert preset is not None
        assert rates == {preset.dpd.learning_rate}  # type: ignore[union-attr]


@needs_weights
def test_every_architecture_has_a_row_of_its_own_weights(table: Table) -> None:
    cells = {(cell.row["denoiser"], cell.column): cell for cell in table.cells}
    errors = []
    for name in NAMES:
        error, size = cells[name, "velocity_mse"].measured, cells[name, "parameters"].measured
        assert error is not None
        assert size is not None
        assert set(error.by_seed) == set(map(str, SEEDS))
        assert error.scored == error.expected == 6 * len(SEEDS)
        assert error.value < 0.54, "the error of predicting zero"
        assert error.interval == "95 % t interval over prompts", "of clips only: one training seed ships"
        errors.append(error.value)
        assert 0.49 < size.value < 0.52
    own = cells["dual-path of preset demo", "velocity_mse"].measured
    assert own is not None
    assert own.value < min(errors), "five times the size and far longer trained"
    assert cells["dual-path of preset demo", "parameters"].measured.value == pytest.approx(2.553, abs=0.001)  # type: ignore[union-attr]
    assert cells["dual-path of preset demo", "training_steps"].verdict == "not attempted"


@needs_weights
def test_one_training_seed_decides_no_ordering(table: Table) -> None:
    assert len(table.orderings) == 4
    for ordering in table.orderings:
        assert (ordering.verdict, ordering.p_holm) == ("undecided", None)
        assert "1 seed in common gives no interval over seeds" in ordering.reason
        assert ordering.difference is not None
        assert set(ordering.difference.by_seed) == set(map(str, SEEDS))


@needs_weights
def test_the_error_of_zero_stands_beside_each(table: Table) -> None:
    zeros = [cell.measured for cell in table.cells if cell.column == "zero_mse"]
    assert all(zero is not None and 0.4 < zero.value < 0.7 for zero in zeros)


def _row(error: float, improvement: float, zero: float = 0.55) -> list[Cell]:
    values = {"velocity_mse": error, "si_snri": improvement, "zero_mse": zero, "parameters": 0.5}
    reason = no_rank("unet-1d", values) or None
    return [
        _cell(column, values.get(column.name)).model_copy(
            update={"no_rank": reason if column.measure in RANKED else None}
        )
        for column in load_suite("table5").columns
    ]


def _cell(column: Column, value: float | None) -> Cell:
    seeds = {"0": value, "1": value, "2": value}
    sample = Sample(of="mean", rows=[[value] * 4] * 3) if value is not None else None
    measured = None if value is None else Measurement(value=value, by_seed=seeds, expected=3, scored=3, sample=sample)
    return Cell(
        row={"denoiser": "unet-1d"},
        column=column.name,
        label=column.label,
        metric=column.measure,
        metric_version="1",
        direction="none",
        verdict="not comparable",
        reason="other data",
        measured=measured,
    )


@pytest.mark.parametrize(
    ("error", "improvement", "reason"),
    [
        (0.33, 2.0, None),
        (0.33, -0.9, "its SI-SNRi is -0.9 dB, that of zero 0 dB"),
        (0.33, 0.0, "its SI-SNRi is 0 dB"),
        (0.56, 2.0, "its velocity MSE is 0.56, that of zero 0.55"),
    ],
)
def test_what_does_not_beat_zero_has_no_rank(error: float, improvement: float, reason: str | None) -> None:
    cells = {cell.column: cell for cell in _row(error, improvement)}
    assert cells["parameters"].no_rank is None
    for name in ("velocity_mse", "si_snri"):
        said = cells[name].no_rank
        assert (said is None) == (reason is None)
        assert reason is None or reason in str(said)
    best = [cell.model_copy(update={"row": {"denoiser": "dual-path"}}) for cell in _row(0.1, 9.0)]
    tested = orderings(load_suite("table5"), [*cells.values(), *best])
    against = [one for one in tested if "UNet-1D" in one.claim]
    assert len(against) == 2
    for one in against:
        assert (one.verdict == "undecided") == (reason is not None)
        assert reason is None or one.reason.startswith("no rank: unet-1d does not beat predicting zero")


def test_missing_weights_are_named(tmp_path: Path, context: Context) -> None:
    found = Study.of("unet-1d", SEEDS, tmp_path)
    assert found is not None
    reason = found.lacking(context)
    assert reason is not None
    assert ", ".join(f"unet-1d-{seed}.safetensors" for seed in SEEDS) in reason
    assert "melody train dpd --preset table5-unet-1d" in reason


@needs_weights
def test_another_tokenizer_than_the_one_it_learnt_from(context: Context) -> None:
    subject = context.inputs.subject
    other = replace(subject, part_weights={**subject.part_weights, "semantic_tokenizer": "another"})
    found = Study.of("dual-path", SEEDS)
    assert found is not None
    assert found.lacking(context) is None
    assert "another semantic tokenizer" in str(found.lacking(Context(replace(context.inputs, subject=other))))


def test_what_is_not_in_the_study() -> None:
    assert Study.of("of-somebody-else", SEEDS) is None
    assert load_preset("table5-unet-1d").name == denoiser_ablation.PREFIX + "unet-1d"
