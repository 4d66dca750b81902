"""Parameters and seconds of training of every system, from the cards of the weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from melody.artifacts.store import Store
from melody.config import load_preset
from melody.paths import PACKAGE
from melody.pipeline import PARTS, shipped_weights
from melody.reproduce.results import Table
from melody.reproduce.runner import run
from melody.reproduce.subject import preset_context
from melody.reproduce.suite import load_suite

WEIGHTS = PACKAGE / "presets" / "weights"
OWN = shipped_weights(load_preset("demo"))


def card(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "card.json").read_text())
    return content


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Table]:
    """Table 3's columns of the cards, of the demo."""

    def of(*, others: bool, **how: Any) -> Table:
        suite, folder = load_suite("table3"), tmp_path_factory.mktemp("budgets")
        columns = tuple(suite.column(name) for name in ("parameters", "training_seconds"))
        settings = suite.settings.model_copy(update={"judges": False})  # who hear no clip here, and learn for a minute
        suite = suite.model_copy(update={"columns": columns, "paper": (), "settings": settings})
        context = preset_context("demo", **how)
        if not others:
            context.inputs = replace(context.inputs, others={})
        (made,) = run([suite], context, store=Store(folder / "store"), output=folder / "out").tables
        return made

    return of


def value(table: Table, system: str, column: str) -> float:
    (cell,) = (cell for cell in table.cells if cell.row["system"] == system and cell.column == column)
    assert cell.measured is not None, cell.reason
    return cell.measured.value


def test_every_system_has_the_sums_of_its_cards_and_the_table_says_what_they_are_worth(
    table: Callable[..., Table],
) -> None:
    made, own = table(others=True), card(OWN)
    cascade, stages = card(WEIGHTS / "noise2music" / "demo"), card(WEIGHTS / "musiclm" / "demo")
    shared = {part: own[part] for part in ("joint_embedder", "rvq")}
    tokens = {part: own[part] for part in ("semantic_tokenizer", "language_model")}
    for system, parts in (
        ("melody", own),
        ("noise2music", cascade | shared),
        ("musiclm", stages | shared | tokens),
    ):
        seconds, count = (sum(entry[name] for entry in parts.values()) for name in ("seconds", "parameters"))
        assert value(made, system, "training_seconds") == pytest.approx(seconds)
        assert value(made, system, "parameters") == pytest.approx(count / 1e6)
    alone, replaced = (
        sum(entry["seconds"] for entry in entries) for entries in (cascade.values(), (own["codec"], own["denoiser"]))
    )
    (note,) = (note for note in made.notes if note.startswith("Training: the networks that noise2music"))
    assert f"{100 * alone / replaced:.0f} % of the" in note
    fine = stages["fine"]["held_out"]
    said = f"fine {fine['loss']:.3f}, a unigram's {fine['unigram_loss']:.3f}"
    assert any("nats a token" in note and said in note for note in made.notes)


@pytest.mark.parametrize("spoilt", ["none", "no JSON", "another part's"])
def test_weights_without_a_card_are_not_attempted_with_the_reason(
    table: Callable[..., Table], tmp_path: Path, spoilt: str
) -> None:
    for part in PARTS:
        shutil.copy(OWN / f"{part}.safetensors", tmp_path)
    if spoilt == "no JSON":
        (tmp_path / "card.json").write_text("{")
    if spoilt == "another part's":
        known = {part: entry for part, entry in card(OWN).items() if part != "codec"}
        (tmp_path / "card.json").write_text(json.dumps(known))
    made = table(others=False, weights=tmp_path)
    cells = [cell for cell in made.cells if cell.row["system"] == "melody"]
    assert {cell.verdict for cell in cells} == {"not attempted"}
    expected = "'codec'" if spoilt == "another part's" else "no card beside the weights tells"
    assert all(expected in cell.reason for cell in cells)
