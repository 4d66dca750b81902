"""Rows over samplers, grids and numbers of steps, as several kinds of table have them."""

from __future__ import annotations

import itertools

from melody import registry
from melody.errors import MelodyError
from melody.reproduce.context import Context
from melody.reproduce.suite import Row, Suite
from melody.reproduce.systems import OWN

AXES = ("sampler", "grid", "num_steps")


def grid_rows(suite: Suite, context: Context) -> list[Row]:
    """The product of the axes, and other systems; samplers are those asked for, or the suite's and every plug-in's."""
    values = {axis: list(suite.axes[axis]) for axis in AXES}
    if context.request.samplers is not None:
        values["sampler"] = list(context.request.samplers)
    else:
        plugins = [entry.name for entry in registry.samplers.entries() if not entry.in_tree]
        values["sampler"] = list(dict.fromkeys([*values["sampler"], *plugins]))
    grid: list[Row] = [dict(zip(AXES, setting, strict=True)) for setting in itertools.product(*values.values())]
    others: list[Row] = [{"system": name} for name in context.loaded.systems if name != OWN]
    return [*grid, *others] if suite.compare else grid


def problem_with(row: Row, context: Context) -> str:
    """Why a row's sampler or system cannot be used: a plug-in that is broken breaks only its rows."""
    if (system := system_of(row)) != OWN:
        return context.unavailable_reason(system)
    try:
        return registry.samplers.lacks(str(row["sampler"]))
    except MelodyError as error:
        return str(error)


def system_of(row: Row) -> str:
    """The system that a row is of, ours if it names none."""
    return str(row.get("system", OWN))


def check_axes(suite: Suite, context: Context) -> None:
    """Raise ``MelodyError`` for a missing or unknown axis, an unknown sampler or grid."""
    if set(suite.axes) != set(AXES):
        raise MelodyError(f"suite {suite.name}: axes are {', '.join(suite.axes) or 'none'}; expected {', '.join(AXES)}")
    for sampler in context.request.samplers if context.request.samplers is not None else suite.axes["sampler"]:
        registry.samplers.entry(str(sampler))
    for grid in suite.axes["grid"]:
        registry.grids.entry(str(grid))
    for num_steps in suite.axes["num_steps"]:
        if not isinstance(num_steps, int) or num_steps < 1:
            raise MelodyError(f"suite {suite.name}: num_steps: expected integers of 1 or more, got {num_steps!r}")
