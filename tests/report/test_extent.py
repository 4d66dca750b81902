"""A result of any size renders at once, to files of a bounded size that say what they leave out."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from melody.report.reproduction import reproduction
from melody.report.terminal import print_document
from melody.report.write import write_report
from melody.reproduce.results import Results, load_results

MOST_BYTES = 60_000_000
LONGEST_S = 120.0
"""Of processor time; some 20 s on an idle machine."""


def rendered(content: Any, folder: Path) -> str:
    """The page, after all files and the terminal were held to their terms."""
    path = folder / "results.json"
    path.write_text(json.dumps(content))
    begin = time.process_time()
    loaded = load_results(path)
    written = write_report(loaded, folder)
    with (folder / "terminal.txt").open("w", encoding="utf-8") as file:
        print_document(reproduction(loaded), Console(file=file, width=100), verbose=True)
    assert time.process_time() - begin < LONGEST_S
    shown = [one for one in written if one.suffix != ".csv"]
    assert sum(one.stat().st_size for one in shown) < MOST_BYTES
    return (folder / "report.html").read_text(encoding="utf-8")


def cell(number: int, metric: str, row: dict[str, Any]) -> dict[str, Any]:
    known = {"value": 1.0 + number, "low": 0.5, "high": 2.0 + number, "expected": 1, "scored": 1}
    return {
        "row": row, "column": metric, "label": metric, "metric": metric, "metric_version": "1", "direction": "lower",
        "verdict": "not comparable", "reason": f"reason {number}", "measured": known,
    }  # fmt: skip


def run(*tables: dict[str, Any]) -> dict[str, Any]:
    return {"created": "", "command": "", "seconds": 1, "cells_computed": 0, "cells_reused": 0, "tables": list(tables)}


def table(cells: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"suite": "s", "title": "t", "source": "x", "cells": cells, **more}


def test_a_hundred_thousand_rows(tmp_path: Path) -> None:
    cells = [cell(number, "passes", {"system": f"s{number}"}) for number in range(100_000)]
    page = rendered(run(table(cells)), tmp_path)
    assert "2,000 of 100,000 cells are shown; all of them are in the CSV file." in page
    assert "(60 of 2,000 bars)" in page
    assert "100000 cells" in page
    assert (tmp_path / "tables" / "s.csv").read_text(encoding="utf-8").count("\n") == 100_001


@pytest.mark.parametrize("metrics", [("fad", "mcc", "rtf"), ("passes", "flops"), ("passes-by-formula",)])
def test_many_rows_in_every_plot(tmp_path: Path, metrics: tuple[str, ...]) -> None:
    steps = [{"num_steps": 1 + n % 7} if metrics[0] == "fad" else {} for n in range(400)]
    cells = [
        cell(n, metric, {"sampler": f"s{n // 7}", "grid": f"g{n % 50}", **steps[n]})
        for n in range(400)
        for metric in metrics
    ]
    assert " of " in rendered(run(table(cells)), tmp_path)
    assert any((tmp_path / "figures").glob("*.png"))


def test_many_tables_clips_orderings_and_notes(tmp_path: Path) -> None:
    clips = [{"title": "t", "text": "x", "path": f"{n}.wav"} for n in range(20_000)]
    orderings = [{"claim": f"c{n}", "column": "fad", "verdict": "undecided", "reason": "r"} for n in range(20_000)]
    full = table([cell(0, "fad", {"x": 1})], clips=clips, orderings=orderings, notes=["n"] * 20_000)
    page = rendered(run(*[{**full, "suite": f"s{n}"} for n in range(3)]), tmp_path)
    assert "500 of 20,000 clips are shown; all of them are in results.json." in page
    page = rendered(run(*[table([cell(0, "fad", {"x": 1})], suite="same") for _ in range(3_000)]), tmp_path)
    assert "50 of 3,000 tables of this run are shown" in page


def test_every_cell_on_an_axis_and_in_a_column_of_its_own(tmp_path: Path) -> None:
    own_axes = table([cell(n, "fad", {f"axis{n}": n}) for n in range(3_000)])
    own_columns = table([cell(n, f"fad[{n}]", {"n": n}) for n in range(3_000)], suite="columns")
    page = rendered(run(own_axes, own_columns), tmp_path)
    assert "20 of 3,000 cells are shown" in page
    assert "63 of 3,000 cells are shown" in page
    assert '""axis2999"": 2999' in (tmp_path / "tables" / "s.csv").read_text(encoding="utf-8")


def test_what_was_configured_however_deep(tmp_path: Path) -> None:
    config: Any = "x"
    for _ in range(200):
        config = {"in": [config]}
    known = {"preset": "p", "device": "cpu", "precision": "float32", "seeds": [0], "sample_count": 1, "versions": {}}
    deep = {**cell(0, "fad", {"n": 1}), "provenance": {**known, "commit": None, "config": config}}
    assert "…" in rendered(run(table([deep])), tmp_path)


LONG = {"label", "title", "reason", "suite", "system", "claim"}


def longer(content: Any) -> Any:
    """The same with a megabyte more in some texts."""
    if isinstance(content, list):
        return [longer(one) for one in content]
    if not isinstance(content, dict):
        return content
    more = "ab $x^<b>" * 110_000
    return {
        key: f"{one} {more}" if key in LONG and isinstance(one, str) else longer(one) for key, one in content.items()
    }


def test_labels_of_a_megabyte(results: Results, tmp_path: Path) -> None:
    content = json.loads(results.model_dump_json())
    content["tables"] = [{**one, "cells": one["cells"][:8]} for one in content["tables"][:2]]
    page = rendered(longer(content), tmp_path)
    assert len(page) < 3_000_000
    assert "… (990," in page
