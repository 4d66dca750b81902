"""Tables over denoisers (Table 5): how well the velocity of held-out latents is predicted."""

from __future__ import annotations

from melody import registry
from melody.harness.context import Context
from melody.harness.measuring.reference import denoising_unit
from melody.harness.results import Measurement
from melody.harness.suite import Column, Row, Suite
from melody.harness.tables import estimates
from melody.harness.tables.cells import Filled, Filling, Finding, Measure, failure_among, unregistered
from melody.harness.units import Outcome, Unit

MEASURES = {"velocity_mse": Measure("velocity-mse"), "si_snri": Measure("si-snri")}


def plan(suite: Suite, context: Context) -> list[Unit]:
    """One unit a seed for the preset's own denoiser; no other has weights."""
    if not any(row["denoiser"] == context.subject.denoiser for row in rows(suite)):
        return []
    return _units(suite, context)


def fill(filling: Filling) -> Filled:
    """Cells of every listed denoiser and of every plug-in's."""
    filled = Filled()
    for row in rows(filling.suite):
        filled.cells += [
            filling.cell(row, column, filling.attempt(_finding, filling, row, column))
            for column in filling.suite.columns
        ]
    return filled


def rows(suite: Suite) -> list[Row]:
    """The suite's denoisers, and every plug-in's that it does not list."""
    listed = [listed.row for listed in suite.rows]
    plugins = [entry.name for entry in registry.denoisers.entries() if not entry.in_tree]
    known = {row["denoiser"] for row in listed}
    return listed + [{"denoiser": name} for name in plugins if name not in known]


def _finding(filling: Filling, row: Row, column: Column) -> Finding:
    context, name = filling.context, str(row["denoiser"])
    if name != context.subject.denoiser:
        why = f"preset {context.subject.preset!r} holds weights of {context.subject.denoiser!r} only"
        return Finding(absent=unregistered(registry.denoisers, name, why))
    units = _units(filling.suite, context)
    found = [filling.outcome(unit) for unit in units]
    if reason := failure_among(found):
        return Finding(absent=reason, units=tuple(units))
    seeds = context.seeds(filling.suite.settings.seeds)
    return Finding(
        _measured(filling, column, {s: o for s, o in zip(seeds, found, strict=True) if isinstance(o, Outcome)}),
        units=tuple(units),
        inputs=units[0].config["corpus"],
        config={"denoiser": name, "clips": units[0].config["clips"], "angles": "one a clip, stratified over [0, π/2]"},
        seeds=tuple(seeds),
    )


def _measured(filling: Filling, column: Column, outcomes: dict[int, Outcome]) -> Measurement:
    rows = {str(seed): outcome.values[column.measure] for seed, outcome in outcomes.items()}
    by_seed = {seed: sum(values) / len(values) for seed, values in rows.items()}
    expected = len(rows) * filling.suite.settings.clips
    return estimates.over_seeds(by_seed, expected=expected, scored=sum(map(len, rows.values())))


def _units(suite: Suite, context: Context) -> list[Unit]:
    seeds = context.seeds(suite.settings.seeds)
    return [denoising_unit(context, clips=suite.settings.clips, seed=seed) for seed in seeds]
