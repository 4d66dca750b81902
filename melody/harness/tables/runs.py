"""Runs of the system that tables share, so that each is computed once for all of them."""

from __future__ import annotations

from collections.abc import Sequence

from melody.harness.context import Context
from melody.harness.measuring.generation import Setting, count_unit, generation_unit, timing_unit
from melody.harness.suite import Row, Suite
from melody.harness.units import Unit

DEFAULT_EMBEDDER = "mel-stats"
"""Every run is embedded by it, so that tables which ask for no embedder share their runs with those which do."""


def generation_units(suite: Suite, context: Context, row: Row, embedders: Sequence[str] = ()) -> dict[int, Unit]:
    """One unit a seed, for a row with sampler, grid and num_steps."""
    texts = context.texts(suite.settings.prompts)
    setting, names = _setting(suite, row), sorted({DEFAULT_EMBEDDER, *embedders})
    return {
        seed: generation_unit(context, setting, texts=texts, seed=seed, embedders=names)
        for seed in context.seeds(suite.settings.seeds)
    }


def timing(suite: Suite, context: Context, row: Row) -> Unit:
    """One clip at a time, once for each seed."""
    text = context.texts(suite.settings.prompts)[0]
    return timing_unit(context, _setting(suite, row), text=text, seeds=context.seeds(suite.settings.seeds))


def count(suite: Suite, context: Context, duration_s: float) -> Unit:
    """Passes of one clip with the suite's sampler, grid and number of steps."""
    text = context.texts(suite.settings.prompts)[0]
    return count_unit(context, _setting(suite, settings_row(suite), duration_s), text=text)


def settings_row(suite: Suite, num_steps: int | None = None) -> Row:
    """The sampling of a suite without axes."""
    settings = suite.settings
    return {"sampler": settings.sampler, "grid": settings.grid, "num_steps": num_steps or settings.num_steps}


def _setting(suite: Suite, row: Row, duration_s: float | None = None) -> Setting:
    return Setting(
        sampler=str(row["sampler"]),
        grid=str(row["grid"]),
        num_steps=int(row["num_steps"]),
        duration_s=duration_s or suite.settings.duration_s,
        guidance_scale=suite.settings.guidance_scale,
    )
