"""Counting and speed of any system: by formula, on a run, composed of parts, projected; and never one for another."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from melody.artifacts.store import Store
from melody.baselines.melody_system import MelodySystem
from melody.config import Preset, load_preset
from melody.errors import MelodyError
from melody.metrics.roofline import TABLE2_V100_S, V100, Load, fit, projected_seconds
from melody.protocols import CallCost, Generation, GenerationStats, System
from melody.registry import systems
from melody.reproduce.jobs import speed
from melody.reproduce.random_systems import PROMPT, random_system, why_not
from melody.reproduce.results import Cell, Projection, Results, Table
from melody.reproduce.runner import reproduce
from melody.reproduce.suite import Row, Suite, load_suite
from melody.reproduce.tables.builder import CellValue, TableBuilder
from melody.reproduce.tables.table import kind_of

OPTIONS = {"num_steps": 2}


class Clock:
    """A clock that moves when a network is called."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


CLOCK = Clock()


class Costly(nn.Module):
    """A network whose call takes as long as it is told, and half as long again the first time."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds, self.called = seconds, 0
        self.layer = nn.Linear(4, 4)

    def forward(self, rows: int) -> Tensor:
        if not self.layer.weight.is_meta:
            CLOCK.now += self.seconds * (1.5 if self.called == 0 else 1.0)
            self.called += 1
        made: Tensor = self.layer(self.layer.weight.new_zeros(rows, 4))
        return made


class Fixed(nn.Module):
    """A network whose calls keep to the device that they were made on."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, given: Tensor) -> Tensor:
        if not given.is_meta:
            CLOCK.now += 0.5
        made: Tensor = self.layer(given)
        return made


class FixedSystem(System):
    """A system whose calls cannot follow one of its networks to another device."""

    name = "fixed"
    sample_rate = 24_000

    def __init__(self, device: str) -> None:
        self.device = device
        with torch.device(device):
            self.network = Fixed()

    @classmethod
    def random(cls, preset: str = "demo", *, seed: int = 0, device: str = "cpu") -> FixedSystem:
        return cls(device)

    def generate(
        self, prompts: Sequence[str], *, duration_s: float, seeds: Sequence[int], **options: Any
    ) -> Generation:
        raise MelodyError("this test makes no clip")

    def work(self, duration_s: float, **options: Any) -> list[CallCost]:
        given = torch.zeros(1, 4, device=self.device)
        return [CallCost("network", "step", "4", 6, self.network, lambda: self.network(given))]


class ToySystem(System):
    """Thirty calls of one network, one of another, and a second that belongs to none."""

    name = "toy"
    sample_rate = 24_000
    longest_s = 20.0

    def __init__(self, device: str) -> None:
        with torch.device(device):
            self.token, self.decoder = Costly(0.25), Costly(1.0)

    @classmethod
    def random(cls, preset: str = "demo", *, seed: int = 0, device: str = "cpu") -> ToySystem:
        return cls(device)

    def generate(
        self, prompts: Sequence[str], *, duration_s: float, seeds: Sequence[int], **options: Any
    ) -> Generation:
        for _ in range(30):
            self.token(2)
        self.decoder(1)
        if not self.token.layer.weight.is_meta:
            CLOCK.now += 1.0
        passes = {"token": 30}
        trace = GenerationStats(passes, {"token": 60}, dict(passes), prefill_tokens=5)
        return Generation(torch.zeros(1, 1, round(duration_s * self.sample_rate)), self.sample_rate, trace)

    def work(self, duration_s: float, **options: Any) -> list[CallCost]:
        return [
            CallCost("token", "one", "4", 30, self.token, lambda: self.token(2), rows=2, serial=15, prefill_tokens=5),
            CallCost("decoder", "all", "4", 1, self.decoder, lambda: self.decoder(1), once=True),
        ]


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> type[ToySystem]:
    """The toy, registered, on a clock that only networks move."""
    monkeypatch.setitem(systems._components, "toy", ToySystem)
    monkeypatch.setattr(time, "perf_counter", CLOCK)
    monkeypatch.setattr(time, "process_time", CLOCK)
    return ToySystem


def suite_of(name: str, rows: list[dict[str, Any]], duration_s: float) -> Suite:
    shipped = load_suite(f"{name}/{name}").model_dump(exclude_unset=True)
    shipped |= {"rows": [{"row": row} for row in rows], "paper": []}
    shipped["settings"]["duration_s"] = duration_s
    return Suite.model_validate(shipped)


def run(suite: Suite, preset: Preset | str, folder: Path, **arguments: Any) -> Results:
    return reproduce([suite], preset=preset, store=Store(folder / "store"), output=folder / "out", **arguments)


def known(number: Any) -> Any:
    assert number is not None
    return number


def cells(table: Table, **row: Any) -> dict[str, Cell]:
    return {cell.column: cell for cell in table.cells if cell.row == row}


def test_counts_on_a_run_are_those_by_formula(tiny_preset: Preset, tmp_path: Path) -> None:
    rows = [{"system": "melody", "duration_s": seconds} for seconds in (1, 1.5)]
    results = run(suite_of("counting", rows, 1.0), tiny_preset, tmp_path)
    (table,) = results.tables
    for row in rows:
        found = cells(table, **row)
        for column in ("passes", "weighted", "prefill"):
            measured, projected = found[column].measured, found[column].projected
            assert measured is not None
            assert projected is not None
            assert measured.value == projected.value > 0
        assert found["tflop"].measured is not None
        assert found["tflop"].projected is not None
        assert found["tflop"].measured.value == pytest.approx(found["tflop"].projected.value, rel=1e-3)
        assert found["gigabytes"].measured is None
    assert "denoiser: 3 calls" in known(cells(table, **rows[0])["passes"].projected).method
    assert not [note for note in table.notes if "on the run, but" in note]
    assert results.failures == []


def test_the_papers_passes_follow_from_shapes_at_10_and_30_s() -> None:
    system = MelodySystem.random("demo", device="meta")
    for duration_s, tokens, steps in ((10.0, 250, 20), (30.0, 750, 180)):
        work = system.work(duration_s, num_steps=20)
        passes = {part: sum(w.calls for w in work if w.part == part and not w.once) for part in {w.part for w in work}}
        assert passes == {"language_model": tokens, "denoiser": steps, "codec": 0, "joint_embedder": 0, "rvq": 0}


def test_a_row_of_what_cannot_be_counted_says_why(toy: type[ToySystem], tiny_preset: Preset, tmp_path: Path) -> None:
    rows = [{"system": name, "duration_s": 30} for name in ("toy", "nobody")]
    results = run(suite_of("counting", rows, 1.0), tiny_preset, tmp_path)
    assert cells(results.tables[0], **rows[0])["passes"].reason == "toy makes clips of 20 s at most, not of 30 s"
    assert cells(results.tables[0], **rows[1])["passes"].reason == "no system 'nobody' is registered"
    assert results.failures == []


def test_parts_add_up_to_the_clip(toy: type[ToySystem], tmp_path: Path) -> None:
    """Thirty calls of 0.25 s and one of 1 s, warm-up left out: 8.5 s, where the whole takes 9.5 s."""
    results = run(suite_of("speed", [{"system": "toy"}], 10.0), load_preset("demo"), tmp_path, budget_s=1000.0)
    (table,) = results.tables
    found = cells(table, system="toy")
    seconds = found["seconds"]
    assert seconds.composed is not None
    assert seconds.measured is not None
    assert seconds.composed.value == pytest.approx(8.5)
    assert seconds.measured.value == pytest.approx(9.5)
    assert known(found["here"].composed).value == pytest.approx(10 / 8.5)
    assert "Composition of toy, preset demo, fp32: 8.5 s of parts against 9.5 s of the whole, -11 %." in table.notes
    assert seconds.provenance is not None
    assert seconds.provenance.precision == "float32"
    assert found["passes"].projected is not None
    assert found["passes"].projected.value == 30


def test_without_a_budget_a_clip_is_composed_and_says_so(toy: type[ToySystem], tmp_path: Path) -> None:
    suite = suite_of("speed", [{"system": "toy"}, {"system": "nobody"}], 10.0)
    results = run(suite, load_preset("demo"), tmp_path, budget_s=3.0)
    seconds = cells(results.tables[0], system="toy")["seconds"]
    assert (seconds.measured, seconds.verdict) == (None, "not attempted")
    assert "composed only: a whole clip and its warm-up take about 17 s" in seconds.reason
    assert known(seconds.composed).value == pytest.approx(8.5, rel=0.6)
    for cell in results.tables[0].cells:  # a number is of one kind, or there is a reason
        assert cell.measured or cell.composed or cell.projected or cell.reason


def test_calls_that_keep_to_their_device_are_timed_with_the_whole_system_on_it(
    toy: type[ToySystem], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(systems._components, "fixed", FixedSystem)
    results = run(suite_of("speed", [{"system": "fixed"}], 10.0), load_preset("demo"), tmp_path, budget_s=5.0)
    seconds = cells(results.tables[0], system="fixed")["seconds"]
    assert known(seconds.composed).value == pytest.approx(3.0)


def test_another_precision_is_in_the_label_and_never_a_whole_clip(toy: type[ToySystem], tmp_path: Path) -> None:
    suite = suite_of("speed", [{"system": "toy"}], 10.0)
    results = run(suite, load_preset("demo"), tmp_path, budget_s=1000.0, precision="bf16")
    seconds = cells(results.tables[0], system="toy")["seconds"]
    assert seconds.measured is None
    assert "fp32 only" in seconds.reason
    assert seconds.provenance is not None
    assert seconds.provenance.precision == "bfloat16"


def test_a_network_of_shapes_gets_values_that_stay_finite(tiny_preset: Preset) -> None:
    system = random_system("melody", tiny_preset, "meta")
    for one in system.work(1.0):
        speed.materialise(one.module, "cpu", torch.float32)
        (again,) = [other for other in system.work(1.0) if speed.key_of(other) == speed.key_of(one)]
        assert again.setup is not None
        with torch.inference_mode():
            again.setup()
            made = again.run()
        assert not isinstance(made, Tensor) or made.device.type == "cpu"
        assert not isinstance(made, Tensor) or torch.isfinite(made).all()
        one.module.to("meta")


def test_our_own_system_is_timed_part_by_part(tiny_preset: Preset, tmp_path: Path) -> None:
    suite = suite_of("speed", [{"system": "melody", "num_steps": 2}], 1.0)
    results = run(suite, tiny_preset, tmp_path, budget_s=20.0)
    found = cells(results.tables[0], system="melody", num_steps=2)
    assert found["here"].measured is not None
    assert found["here"].composed is not None
    assert found["v100"].projected is None
    assert results.failures == []


@pytest.mark.parametrize("name", ["musiclm", "noise2music"])
def test_baselines_are_timed_part_by_part_in_half_precision_too(name: str, tmp_path: Path) -> None:
    """So that no more than one of their networks has to fit a device."""
    results = run(suite_of("speed", [{"system": name}], 1.0), "demo", tmp_path, budget_s=1e-3, precision="bf16")
    assert results.failures == []
    composed = known(cells(results.tables[0], system=name)["seconds"].composed)
    assert composed.value > 0


def test_bad_options_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(MelodyError, match="unknown precision 'fp61'; did you mean 'fp16'"):
        run(load_suite("speed/speed"), "demo", tmp_path, precision="fp61")
    with pytest.raises(MelodyError, match="only the speed table has another precision"):
        run(load_suite("counting/counting"), "demo", tmp_path, precision="bf16")
    with pytest.raises(MelodyError, match="the budget is 0"):
        run(load_suite("speed/speed"), "demo", tmp_path, budget_s=0)
    assert "no system 'x'" in why_not("x")
    assert len(PROMPT.split()) > 20


def test_what_was_fitted_on_the_papers_numbers_reproduces_none_of_them(tones: SimpleNamespace) -> None:
    suite = load_suite("speed/speed")
    row: Row = {"system": "melody", "num_steps": 5}
    builder = TableBuilder(suite, tones.context(), {}, [], kind_of(suite).measures)
    for fitted, verdict in ((True, "not attempted"), (False, "reproduced")):
        value = CellValue(
            projected=Projection(value=7.5, method="a model"), fitted=fitted, unavailable_reason="no V100 is here"
        )
        cell = builder.cell(row, suite.column("v100"), value)
        assert (cell.verdict, cell.projected) == (verdict, value.projected)


def test_the_roofline_finds_the_efficiencies_that_made_its_numbers() -> None:
    machine, step, token = V100["half"], Load(1, 10**13, 10**8), Load(250, 10**9, 4 * 10**8)
    runs = []
    for steps in (5, 10, 20):
        loads = [Load(steps, step.flops, step.weights), token]
        runs.append((loads, steps * step.flops / 125e12 / 0.4 + 250 * token.weights * 2 / 900e9 / 0.8))
    found = fit(runs, machine)
    assert (found.arithmetic, found.memory) == (pytest.approx(0.4), pytest.approx(0.8))
    assert max(map(abs, found.residuals)) < 1e-9
    assert found.possible
    assert projected_seconds(runs[0][0], machine, found) == pytest.approx(runs[0][1])
    with pytest.raises(MelodyError, match="3 or more"):
        fit(runs[:2], machine)


def test_the_papers_rows_lie_within_the_stated_residuals_of_a_roofline() -> None:
    """0.193 s a step and 0.37 s beside: sizes as ``melody info --preset paper`` counts them."""
    rows = [
        ([Load(steps, 7_800 * 10**9, 3 * 10**8), Load(250, 10**9, 43 * 10**7)], s) for steps, s in TABLE2_V100_S.items()
    ]
    found = fit(rows, V100["half"])
    assert max(map(abs, found.residuals)) < 0.01
    assert found.possible
    assert not fit(rows, V100["fp32"]).possible
