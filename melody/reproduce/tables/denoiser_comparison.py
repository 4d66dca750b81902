"""Tables over denoisers (Table 5): how well the velocity of held-out latents is predicted."""

from __future__ import annotations

from collections.abc import Sequence

from melody import registry
from melody.evaluation.result import Measurement
from melody.reproduce.context import Context
from melody.reproduce.jobs.denoiser_ablation import Study, study_job
from melody.reproduce.jobs.job import Job, JobResult
from melody.reproduce.jobs.reference_clips import denoising_job
from melody.reproduce.results import Cell
from melody.reproduce.suite import Column, Row, Suite
from melody.reproduce.tables import estimates
from melody.reproduce.tables.builder import CellValue, FilledTable, Quantity, TableBuilder, unregistered

MEASURES = {
    "velocity_mse": Quantity("velocity-mse"),
    "si_snri": Quantity("si-snri"),
    "zero_mse": Quantity("velocity-mse-of-zero", "none"),
    "parameters": Quantity("parameters", unit="M"),
    "gflops": Quantity("pass-flops", unit="GFLOPs"),
    "training_steps": Quantity("training-steps"),
}
SIZES = {"parameters": ("parameters", 1e6), "gflops": ("flops", 1e9)}
"""Column's measure -> the outcome's value, and the column's unit."""
RANKED = ("velocity_mse", "si_snri")
"""Measures by which denoisers are ranked, those that beat predicting zero."""
ANGLES = "one a clip, stratified over [0, π/2]"


def plan(suite: Suite, context: Context) -> list[Job]:
    """One unit a training seed for each denoiser of the study, and one a seed of noise for the preset's own."""
    units = _own_jobs(suite, context)
    for study in filter(None, (_study(suite, listed.row) for listed in suite.rows)):
        if study.lacking(context) is None:
            units += _study_jobs(suite, context, study)
    return units


def fill(builder: TableBuilder) -> FilledTable:
    """Cells of every listed denoiser, of the preset's own, and of every plug-in's."""
    filled = FilledTable()
    for row in rows(builder.suite, builder.context):
        filled.cells += ranked(
            builder.suite,
            [
                builder.cell(row, column, builder.attempt(_finding, builder, row, column))
                for column in builder.suite.columns
            ],
        )
    return filled


def ranked(suite: Suite, cells: list[Cell]) -> list[Cell]:
    """A row's cells; where it does not beat predicting zero, those by which denoisers are ranked say that it has none.

    Zero in the place of the velocity has a mean squared error of its own, and leaves SI-SNR as it is: improved by 0 dB.
    """
    found = {column.measure: cell.measured for column, cell in zip(suite.columns, cells, strict=True)}
    error, zero, improvement = (found.get(name) for name in ("velocity_mse", "zero_mse", "si_snri"))
    failed = []
    if error and zero and error.value >= zero.value:
        failed.append(f"its velocity MSE is {error.value:.3g}, that of zero {zero.value:.3g}")
    if improvement and improvement.value <= 0:
        failed.append(f"its SI-SNRi is {improvement.value:.2g} dB, that of zero 0 dB")
    if not failed:
        return cells
    reason = f"no rank: {cells[0].row['denoiser']} does not beat predicting zero ({'; '.join(failed)})"
    return [
        cell.model_copy(update={"no_rank": reason}) if column.measure in RANKED and cell.measured else cell
        for column, cell in zip(suite.columns, cells, strict=True)
    ]


def rows(suite: Suite, context: Context) -> list[Row]:
    """The suite's denoisers, the preset's own, and every plug-in's that is neither."""
    listed = [listed.row for listed in suite.rows]
    known = {row["denoiser"] for row in listed} | {context.subject.denoiser}
    plugins = [entry.name for entry in registry.denoisers.entries() if not entry.in_tree]
    others: list[Row] = [{"denoiser": name} for name in plugins if name not in known]
    return [*listed, own_row(context), *others]


def own_row(context: Context) -> Row:
    """The preset's own denoiser stands apart from the study's, which are of another size."""
    return {"denoiser": f"{context.subject.denoiser} of preset {context.subject.preset}"}


def _study(suite: Suite, row: Row) -> Study | None:
    return Study.of(str(row["denoiser"]), suite.settings.seeds)


def _finding(builder: TableBuilder, row: Row, column: Column) -> CellValue:
    context, suite = builder.context, builder.suite
    if row == own_row(context):
        units = _own_jobs(suite, context)
        return _scored(builder, column, units, context.seeds(suite.settings.seeds), {"denoiser": row["denoiser"]})
    study = _study(suite, row)
    if study is None:
        why = f"preset {context.subject.preset!r} holds weights of {context.subject.denoiser!r} only"
        return CellValue(unavailable_reason=unregistered(registry.denoisers, str(row["denoiser"]), why))
    if reason := study.lacking(context):
        return CellValue(unavailable_reason=reason)
    units, seeds = _study_jobs(suite, context, study), suite.settings.seeds
    return _scored(builder, column, units, seeds, {"preset": study.preset, "noise_seed": context.seed}, study)


def _scored(
    builder: TableBuilder,
    column: Column,
    units: Sequence[Job],
    seeds: Sequence[int],
    config: Row,
    study: Study | None = None,
) -> CellValue:
    found = dict(zip(map(str, seeds), builder.computed(units), strict=True))
    if column.measure == "training_steps":
        if study is None:
            return CellValue(
                unavailable_reason="how long the preset's own weights were trained is told by their card, not here"
            )
        measured = _same([card["steps"] for card in study.card.values()])
    elif column.measure in SIZES:
        name, unit = SIZES[column.measure]
        if any(name not in outcome.values for outcome in found.values()):
            return CellValue(unavailable_reason="the denoiser is no torch module, so nothing of it is counted")
        measured = _same([outcome.values[name] / unit for outcome in found.values()])
    else:
        measured = _errors(column.measure, found, len(found) * builder.suite.settings.clips)
    return CellValue(
        measured,
        units=tuple(units),
        inputs=units[0].config["corpus"],
        config={**config, "clips": units[0].config["clips"], "angles": ANGLES},
        seeds=tuple(seeds),
        weights=None if study is None else ", ".join(unit.config["denoiser"]["weights"] for unit in units),
    )


def _errors(measure: str, found: dict[str, JobResult], expected: int) -> Measurement:
    """Mean over seeds, of training or of noise, and over clips, which are the same for every seed: two levels."""
    return estimates.over_prompts({int(seed): outcome.values[measure] for seed, outcome in found.items()}, expected)


def _same(values: Sequence[float]) -> Measurement:
    """A figure that all seeds share."""
    return Measurement(value=float(values[0]), expected=1, scored=1)


def _own_jobs(suite: Suite, context: Context) -> list[Job]:
    seeds = context.seeds(suite.settings.seeds)
    return [denoising_job(context, clips=suite.settings.clips, seed=seed) for seed in seeds]


def _study_jobs(suite: Suite, context: Context, study: Study) -> list[Job]:
    seeds = suite.settings.seeds
    return [study_job(study, context, clips=suite.settings.clips, training_seed=seed) for seed in seeds]
