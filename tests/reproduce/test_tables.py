"""Kinds of tables from elsewhere, and columns of registered metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
import torchmetrics

from melody.artifacts.store import Store
from melody.conformance import candidates, run_checks
from melody.errors import MelodyError
from melody.evaluation.result import Measurement
from melody.protocols import Metric
from melody.registry import Entry, metrics, tables
from melody.reproduce.results import Cell, Results
from melody.reproduce.runner import plan, run
from melody.reproduce.suite import Suite, load_suite
from melody.reproduce.tables.arguments import Uses
from melody.reproduce.tables.builder import CellValue, Quantity
from melody.reproduce.tables.shared_jobs import generation_jobs, settings_row
from melody.reproduce.tables.table import RowJobs, RowResults, Table

ELSEWHERE = "plug-in (elsewhere:Peaks)"
PEAKS = """
name = "peaks"
title = "Peaks"
source = "nobody"
version = "1"
kind = "test-peaks"
settings = { prompts = 3, duration_s = 2.0 }
rows = [{ row = { system = "melody" } }, { row = { system = "nobody" } }]
[[columns]]
name = "peak"
label = "peak"
measure = "peak"
"""
ROWS = """\
rows = [{ row = { system = "real clips" } }, { row = { system = "reference halves" } },
    { row = { system = "white noise" } }, { row = { system = "silence" } }]
"""
COLUMNS = f"""
name = "columns"
title = "Columns"
source = "nobody"
version = "1"
kind = "quality-and-speed"
settings = {{ prompts = 6, duration_s = 2.0, seeds = [0, 1, 2], reference_clips = 12 }}
{ROWS}[axes]
sampler = ["ddim"]
grid = ["melody-linear"]
num_steps = [2, 8]
"""


class Peaks(Table):
    """The largest peak of each system's clips."""

    measures: ClassVar = {"peak": Quantity("peak")}
    uses = Uses(frozenset({"prompts", "duration_s", "seeds"}), listed=frozenset({"system"}))
    planned: ClassVar[list[str]] = []

    def jobs(self, row: Any) -> RowJobs:
        self.planned.append(str(row["system"]))
        return {"clips": list(generation_jobs(self.suite, self.context, settings_row(self.suite)).values())}

    def cell(self, row: Any, column: Any, results: RowResults) -> CellValue:
        if row["system"] == "nobody":
            raise RuntimeError("nobody\nis there")
        peaks = [peak for clips in results.computed("clips") for peak in clips.values["peak"]]
        return CellValue(Measurement(value=max(peaks), expected=9, scored=len(peaks)), jobs=results.planned("clips"))


class NoRows(Peaks):
    """It has no rows."""

    def rows(self) -> Any:
        raise SystemExit("no rows today")


class Root(Metric, torchmetrics.Metric):
    """Mean root mean square of clips."""

    version, direction, unit, input_kind = "1", "none", "", "waveforms"
    tells = frozenset()
    full_state_update = False
    sample_rate = 8000
    total: torch.Tensor
    count: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, waveform: torch.Tensor) -> None:
        if not waveform.isfinite().all():
            raise MelodyError("expected finite samples")
        self.total += waveform.double().square().mean(dim=(1, 2)).sqrt().sum()
        self.count += len(waveform)

    def compute(self) -> torch.Tensor:
        return self.total / self.count


@pytest.fixture
def plugins() -> Iterator[None]:
    """The classes above, as if entry points had named them."""
    for registry, name, component in (
        (tables, "test-peaks", Peaks),
        (tables, "test-no-rows", NoRows),
        (metrics, "test-root", Root),
    ):
        registry._load_plugins()[name] = Entry(name, ELSEWHERE, component, version="1")
    yield
    for name in ("test-peaks", "test-no-rows"):
        del tables._load_plugins()[name]
    del metrics._load_plugins()["test-root"]


@pytest.fixture
def suite_of(tmp_path: Path) -> Callable[..., Suite]:
    """A suite of some text and columns."""

    def write(text: str, *columns: str) -> Suite:
        path = tmp_path / "suite.toml"
        path.write_text(text + "".join(f"\n[[columns]]\n{column}\n" for column in columns))
        return load_suite(path)

    return write


def _run(suites: list[Suite], tones: SimpleNamespace, folder: Path) -> Results:
    return run(suites, tones.context(), store=Store(folder / "store"), output=folder / "out")


def _cell(results: Results, column: str, **row: Any) -> Cell:
    (cell,) = [
        cell
        for cell in results.tables[0].cells
        if cell.column == column and all(cell.row.get(axis) == value for axis, value in row.items())
    ]
    return cell


@pytest.mark.usefixtures("plugins")
def test_a_kind_of_table_from_elsewhere_is_filled(
    suite_of: Callable[..., Suite], tones: SimpleNamespace, tmp_path: Path
) -> None:
    Peaks.planned.clear()
    results = _run([suite_of(PEAKS)], tones, tmp_path)
    peak = _cell(results, "peak", system="melody")
    assert peak.measured is not None
    assert 0.5 < peak.measured.value <= 1
    assert peak.provenance is not None
    assert len(peak.provenance.cells) == 3
    assert peak.metric == "peak"
    assert Peaks.planned == ["melody", "nobody"], "jobs are asked for once a row"
    reason = _cell(results, "peak", system="nobody").reason
    assert reason == f"peaks: table 'test-peaks' from {ELSEWHERE}: RuntimeError: nobody"


@pytest.mark.usefixtures("plugins")
def test_a_kind_of_table_that_cannot_be_planned_spoils_no_other(
    suite_of: Callable[..., Suite], tones: SimpleNamespace, tmp_path: Path
) -> None:
    broken = suite_of(PEAKS.replace("test-peaks", "test-no-rows").replace('"peaks"', '"broken"', 1))
    results = _run([broken, suite_of(PEAKS)], tones, tmp_path)
    assert [table.suite for table in results.tables] == ["peaks"]
    line = f"broken: table 'test-no-rows' from {ELSEWHERE}: SystemExit: no rows today"
    assert results.failures == [line]
    with pytest.raises(MelodyError, match="no rows today") as caught:
        _run([broken], tones, tmp_path)
    assert str(caught.value) == line


@pytest.mark.usefixtures("plugins")
def test_check_plugin_tells_of_a_table() -> None:
    ((kind, entry),) = candidates("test-peaks", None)
    assert {result.state for result in run_checks(kind, entry, {})} == {"holds"}


@pytest.mark.usefixtures("plugins")
def test_columns_of_registered_metrics_are_computed_as_measures_are(
    suite_of: Callable[..., Suite], tones: SimpleNamespace, tmp_path: Path
) -> None:
    suite = suite_of(
        COLUMNS,
        'name = "fad"\nlabel = "FAD"\nmeasure = "fad"\nembedder = "mel-stats"',
        'name = "mcc"\nlabel = "MCC"\nmeasure = "mcc"',
        'name = "fad2"\nlabel = "FAD"\nmetric = "fad"\nembedder = "mel-stats"',
        'name = "mcc2"\nlabel = "MCC"\nmetric = "mcc"',
        'name = "kad"\nlabel = "KAD"\nmetric = "kad"\nembedder = "mel-stats"',
        'name = "root"\nlabel = "RMS"\nmetric = "test-root"',
    )
    results = _run([suite], tones, tmp_path)
    assert results.failures == []
    for steps in (2, 8):
        for own, registered in (("fad", "fad2"), ("mcc", "mcc2")):
            expected, found = (_cell(results, name, num_steps=steps).measured for name in (own, registered))
            assert expected is not None
            assert found is not None
            assert found.value == pytest.approx(expected.value, rel=1e-6)
            assert found.by_seed == pytest.approx(expected.by_seed, rel=1e-6)
            assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-4)
            assert (found.scored, found.expected) == (expected.scored, expected.expected)
    kad = _cell(results, "kad", num_steps=2)
    assert (kad.metric, kad.direction) == ("kad[mel-stats]", "lower")
    assert kad.measured is not None
    assert len(kad.measured.by_seed) == 3
    assert kad.measured.low is not None
    few, many = (_cell(results, "root", num_steps=steps).measured for steps in (2, 8))
    assert few is not None
    assert many is not None
    assert few.value > many.value > 0.3, "a tone in noise that falls with the number of steps"
    assert "seeds" in str(few.interval)
    for column in ("kad", "root"):
        values = {
            name: _cell(results, column, system=name).measured for name in ("real clips", "white noise", "silence")
        }
        assert all(value is not None for value in values.values()), column
    assert _cell(results, "root", system="silence").measured.value == 0  # type: ignore[union-attr]
    real = _cell(results, "root", system="real clips").measured
    assert real is not None
    assert real.value == pytest.approx(0.5 / 2**0.5, rel=0.02), "tones of amplitude 0.5"
    assert "that row" in _cell(results, "root", system="reference halves").reason
    assert _cell(results, "kad", system="reference halves").measured is not None
    again = _run([suite], tones, tmp_path)
    assert again.cells_computed == 0
    assert again.tables == results.tables


SYSTEMS = """
name = "systems"
title = "Systems"
source = "nobody"
version = "1"
kind = "passes-and-preference"
settings = { prompts = 6, duration_s = 2.0, seeds = [0, 1], reference_clips = 12, num_steps = 2 }
rows = [{ row = { system = "melody" } }]
"""


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("text", [SYSTEMS, COLUMNS.replace("quality-and-speed", "samplers").replace(ROWS, "")])
def test_every_table_of_clips_has_columns_of_registered_metrics(
    text: str, suite_of: Callable[..., Suite], tones: SimpleNamespace, tmp_path: Path
) -> None:
    suite = suite_of(
        text,
        'name = "fad"\nlabel = "FAD"\nmeasure = "fad"\nembedder = "mel-stats"',
        'name = "fad2"\nlabel = "FAD"\nmetric = "fad"\nembedder = "mel-stats"',
        'name = "mcc"\nlabel = "MCC"\nmetric = "mcc"',
        'name = "density"\nlabel = "density"\nmetric = "density"\nembedder = "mel-stats"',
        'name = "root"\nlabel = "RMS"\nmetric = "test-root"',
    )
    results = _run([suite], tones, tmp_path)
    assert results.failures == []
    row = results.tables[0].cells[0].row
    fad, fad2, mcc, density, root = (_cell(results, column.name, **row).measured for column in suite.columns)
    assert fad is not None
    assert fad == fad2
    for measured in (mcc, density, root):
        assert measured is not None
        assert measured.low is not None
        assert len(measured.by_seed) == len(suite.settings.seeds)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ('metric = "kadd"', "unknown metric 'kadd'; did you mean 'kad'"),
        ('metric = "kad"', "kad needs an embedder, one of: .*mel-stats"),
        ('metric = "kad"\nembedder = "mel-stat"', "unknown embedder 'mel-stat'; did you mean 'mel-stats'"),
        ('metric = "si-sdr"', "metric 'si-sdr' takes waveform pairs, which a row's clips do not give"),
        ('metric = "loudness"\nembedder = "mel-stats"', "embedder has no use for metric 'loudness'"),
        (
            'metric = "mcc"\nembedder = "mel-stats"',
            "mcc is by the preset's own joint embedding, and not by 'mel-stats'",
        ),
        ('metric = "kad"\nmeasure = "fad"', "expected either measure or metric"),
    ],
)
def test_a_metric_that_a_row_cannot_feed_is_one_line(
    column: str, message: str, suite_of: Callable[..., Suite], tones: SimpleNamespace
) -> None:
    with pytest.raises(MelodyError, match=message) as caught:
        plan([suite_of(COLUMNS, f'name = "x"\nlabel = "x"\n{column}')], tones.context())
    assert "\n" not in str(caught.value)


def test_a_kind_without_clips_has_no_column_of_a_metric(tones: SimpleNamespace) -> None:
    suite = load_suite("table5")
    column = suite.columns[0].model_copy(update={"measure": "", "metric": "kad"})
    with pytest.raises(MelodyError, match="metric has no use here"):
        plan([suite.model_copy(update={"columns": (column, *suite.columns[1:])})], tones.context())
