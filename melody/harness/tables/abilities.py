"""What a system can do (Table 1): the abilities that a run can test, as 1 for yes and 0 for no."""

from __future__ import annotations

import torch

from melody.harness.context import Context, texts_hash
from melody.harness.results import Measurement
from melody.harness.suite import Column, Row, Suite
from melody.harness.tables import estimates
from melody.harness.tables.cells import Filled, Filling, Finding, Measure, failure_among
from melody.harness.tables.count import other_system
from melody.harness.tables.runs import generation_units, settings_row, timing
from melody.harness.units import Failure, Outcome, Unit
from melody.metrics.cosine import permutation_p_value
from melody.metrics.real_time_factor import real_time_factor

MEASURES = {
    "training_hours": Measure("training-data", "none", "1,000 h"),
    "continuation": Measure("audio-continuation", "higher", "yes = 1"),
    "faster_than_real_time": Measure("faster-than-real-time", "higher", "yes = 1"),
    "various_prompts": Measure("various-text-prompts", "higher", "yes = 1"),
    "producers": Measure("judged-by-music-producers", "higher", "yes = 1"),
}
UNTESTED = {
    "training_hours": "a preset's training data is in its card; no data of the paper was published",
    "producers": "needs music producers as listeners",
}
ALPHA = 0.05
CONTINUATION = "audio-continuation"


def plan(suite: Suite, context: Context) -> list[Unit]:
    """Generations for distinct prompts, and their timing."""
    row = settings_row(suite)
    return [*generation_units(suite, context, row).values(), timing(suite, context, row)]


def fill(filling: Filling) -> Filled:
    """Every system by every ability."""
    filled = Filled()
    for listed in filling.suite.rows:
        filled.cells += [
            filling.cell(listed.row, column, filling.attempt(_finding, filling, listed.row, column))
            for column in filling.suite.columns
        ]
    return filled


def _finding(filling: Filling, row: Row, column: Column) -> Finding:
    if reason := other_system(filling, row):
        return Finding(absent=reason)
    if column.measure in UNTESTED:
        return Finding(absent=UNTESTED[column.measure])
    if column.measure == "continuation":
        return _continuation(filling, str(row["system"]))
    return _speed(filling) if column.measure == "faster_than_real_time" else _prompts(filling)


def _continuation(filling: Filling, name: str) -> Finding:
    one = filling.context.systems[name]
    if CONTINUATION not in one.abilities:
        declared = ", ".join(sorted(one.abilities)) or "none"
        return Finding(absent=f"system {name!r} does not declare {CONTINUATION!r} (it declares: {declared})")
    return Finding(absent=f"system {name!r} declares {CONTINUATION!r}; this suite has no test of it")


def _speed(filling: Filling) -> Finding:
    unit = timing(filling.suite, filling.context, settings_row(filling.suite))
    outcome = filling.outcome(unit)
    if isinstance(outcome, Failure):
        return Finding(absent=outcome.reason, units=(unit,))
    factors = [real_time_factor(outcome.values["duration_s"], s) for s in outcome.values["seconds"].values()]
    seeds = tuple(filling.context.seeds(filling.suite.settings.seeds))
    interval = f"real-time factors {', '.join(f'{factor:.3g}' for factor in factors)}"
    measured = Measurement(value=float(min(factors) > 1), interval=interval, expected=len(seeds), scored=len(factors))
    return Finding(measured, units=(unit,), config=settings_row(filling.suite), seeds=seeds)


def _prompts(filling: Filling) -> Finding:
    """Yes if clips fit their own prompts better than shuffled ones, by a permutation test over prompts."""
    units = generation_units(filling.suite, filling.context, settings_row(filling.suite))
    found = [filling.outcome(unit) for unit in units.values()]
    if reason := failure_among(found):
        return Finding(absent=reason, units=tuple(units.values()))
    pairs = [estimates.joint(outcome) for outcome in found if isinstance(outcome, Outcome)]
    audio = torch.stack([audio for _, audio in pairs]).mean(dim=0)  # seeds of one prompt are not independent
    p_value = permutation_p_value(pairs[0][0], audio)
    prompts = filling.suite.settings.prompts
    measured = Measurement(
        value=float(p_value < ALPHA),
        interval=f"permutation test over {prompts} prompts, one-sided, seeds averaged, at {ALPHA:g}",
        p_value=p_value,
        expected=prompts * len(units),
        scored=sum(len(audio) for _, audio in pairs),
    )
    texts = next(iter(units.values())).config["prompts"]
    return Finding(
        measured,
        units=tuple(units.values()),
        inputs=texts_hash(texts),
        config=settings_row(filling.suite),
        seeds=tuple(units),
    )
