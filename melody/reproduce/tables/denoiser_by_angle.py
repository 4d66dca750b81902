"""Tables on the denoiser by angle: its velocity error with and without tokens, beside predictors that know no music.

All predictors are scored on the same held-out latents, noise and angles, one angle a clip. *Guided* is what samplers
see; it is not meant to have the least error, but to keep more of what the tokens say. *Zero* predicts nothing.
*Constant*: the one vector of the latents' width that is best for the row. *Linear*: c·z_δ with the c that is best in
each bin of angles. Both are fitted on the very clips that they are scored on, which favours them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from melody.evaluation import levels
from melody.metrics.angle_bins import NUM_BINS, bin_index
from melody.registry import tables
from melody.reproduce.jobs.components import DenoiserJob, rows_of
from melody.reproduce.jobs.job import JobResult
from melody.reproduce.suite import Column, Row
from melody.reproduce.tables.arguments import Uses
from melody.reproduce.tables.builder import CellValue, Quantity
from melody.reproduce.tables.table import RowJobs, RowResults, Table

PREDICTORS = ("with_tokens", "without_tokens", "guided", "linear", "constant", "zero")
ALL = "all"


@tables.register("denoiser-by-angle")
class DenoiserByAngleTable(Table):
    """The denoiser's velocity error: a row for all angles, and one for each bin."""

    measures: ClassVar = {name: Quantity("velocity-mse", "lower") for name in PREDICTORS} | {
        "gain": Quantity("velocity-mse-gain", "higher")
    }
    uses = Uses(frozenset({"clips", "seeds", "guidance_scale"}), cells=frozenset({"angle"}))

    def rows(self) -> list[Row]:
        """``all`` and the bins, in degrees."""
        width = 90 / NUM_BINS
        names = [ALL, *(f"{width * i:g}° to {width * (i + 1):g}°" for i in range(NUM_BINS))]
        return [{"angle": name} for name in names]

    @cached_property
    def _batches(self) -> list[DenoiserJob]:
        settings = self.suite.settings
        seed = self.context.seeds(settings.seeds)[0]
        return DenoiserJob.batches(
            self.context,
            clips=settings.clips,
            label=f"denoiser, seed {seed}",
            seed=seed,
            guidance_scale=settings.guidance_scale,
        )

    def jobs(self, row: Row) -> RowJobs:
        return {"batches": self._batches}

    def cell(self, row: Row, column: Column, results: RowResults) -> CellValue:
        outcomes, jobs = results.computed("batches"), results.planned_as(DenoiserJob, "batches")
        bins = bin_index(torch.tensor(rows_of(outcomes, "angle"), dtype=torch.float64), NUM_BINS)
        chosen = torch.ones_like(bins, dtype=torch.bool) if row["angle"] == ALL else bins == self.rows().index(row) - 1
        if not bool(chosen.any()):
            return CellValue(unavailable_reason="no clip has an angle in this bin")
        if column.measure == "gain":
            without, with_tokens = (errors(outcomes, name, bins, chosen)[chosen] for name in PREDICTORS[1::-1])
            measured = levels.difference(without.tolist(), with_tokens.tolist(), int(chosen.sum()))
        else:
            measured = levels.over_clips(
                errors(outcomes, column.measure, bins, chosen)[chosen].tolist(), int(chosen.sum())
            )
        return CellValue(
            measured,
            jobs=jobs,
            inputs=jobs[0].corpus,
            config={"clips": jobs[0].clips, "angles": "one a clip, stratified over [0, π/2]"},
            seeds=(jobs[0].seed,),
        )


def errors(outcomes: Sequence[JobResult], predictor: str, bins: Tensor, chosen: Tensor) -> Tensor:
    """Mean squared error of each clip ``(clips,)``; a constant is fitted on the ``chosen`` clips."""
    square = torch.tensor(rows_of(outcomes, "velocity_square"), dtype=torch.float64)
    if predictor == "zero":
        return square
    if predictor == "constant":
        means = torch.cat([torch.from_numpy(o.arrays["velocity_mean"]) for o in outcomes]).double()  # (clips, D)
        constant = means[chosen].mean(dim=0)
        return square - 2 * (means * constant).mean(dim=1) + constant.square().mean()
    if predictor == "linear":
        product, noisy = (
            torch.tensor(rows_of(outcomes, name), dtype=torch.float64) for name in ("velocity_noisy", "noisy_square")
        )
        total = torch.zeros(2, NUM_BINS, dtype=torch.float64).index_add(1, bins, torch.stack([product, noisy]))
        factor = (total[0] / total[1].clamp(min=1e-12))[bins]
        return square - 2 * factor * product + factor.square() * noisy
    return torch.tensor(rows_of(outcomes, predictor), dtype=torch.float64)
