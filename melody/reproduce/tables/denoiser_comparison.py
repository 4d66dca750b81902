"""Tables over denoisers (Table 5): how well the velocity of held-out latents is predicted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import ClassVar

from melody import registry
from melody.config import Preset, with_changes
from melody.errors import MelodyError
from melody.evaluation import levels
from melody.evaluation.result import Measurement
from melody.pipeline import has_weights
from melody.reproduce.jobs.denoiser_ablation import Study, StudyJob
from melody.reproduce.jobs.job import JobResult
from melody.reproduce.jobs.reference_clips import DenoisingJob, OtherDenoisingJob
from melody.reproduce.requested import RequestedRow
from melody.reproduce.suite import Column, Row, Suite
from melody.reproduce.tables.arguments import Uses
from melody.reproduce.tables.builder import CellValue, Quantity, unregistered
from melody.reproduce.tables.table import RowJobs, RowResults, Table

SIZES = {"parameters": ("parameters", 1e6), "gflops": ("flops", 1e9)}
"""Column's measure -> the outcome's value, and the column's unit."""
ERRORS = ("velocity_mse", "si_snri", "zero_mse")
RANKED = ("velocity_mse", "si_snri")
"""Measures by which denoisers are ranked, those that beat predicting zero."""
ANGLES = "one a clip, stratified over [0, π/2]"


@registry.tables.register("denoiser-comparison")
class DenoiserComparisonTable(Table):
    """Denoisers: the listed ones of the study, the preset's own, those asked for, and every plug-in's."""

    measures: ClassVar = {
        "velocity_mse": Quantity("velocity-mse", "lower"),
        "si_snri": Quantity("si-snri", "higher", "dB"),
        "zero_mse": Quantity("velocity-mse-of-zero", "none"),
        "parameters": Quantity("parameters", unit="M"),
        "gflops": Quantity("pass-flops", unit="GFLOPs"),
        "training_steps": Quantity("training-steps"),
    }
    uses = Uses(frozenset({"clips", "seeds"}), listed=frozenset({"denoiser"}))

    @classmethod
    def takes(cls, suite: Suite, row: RequestedRow) -> bool:
        """Denoisers, in the run's own preset."""
        return [axis for axis, _ in row.choices] == ["denoiser"]

    @classmethod
    def requests(cls, suite: Suite, preset: Preset) -> Iterable[RequestedRow]:
        """Denoisers of plug-ins that need no weights."""
        for name in _plugins():
            try:
                has_none = not has_weights(with_changes(preset, [f"denoiser.use={name}"]), "denoiser")
            except MelodyError:
                continue
            if has_none and name != preset.denoiser.use:
                yield RequestedRow((("denoiser", name),), suite.name)

    @cached_property
    def _others(self) -> dict[str, str]:
        """Rows of denoisers that are asked for or need no weights, and the system that each is in."""
        listed, others = {listed.row["denoiser"] for listed in self.suite.rows}, {}
        for name, entry in self.context.inputs.others.items():
            row = entry.requested
            if row is None or row.suite not in ("", self.suite.name) or not self.takes(self.suite, row):
                continue
            denoiser = row.choices[0][1].partition("=")[0] if row.suite else name
            others[f"{denoiser}, as given" if denoiser in listed else denoiser] = name
        return others

    def rows(self) -> list[Row]:
        """The suite's denoisers, the preset's own, those asked for, and every plug-in's that is none of them."""
        listed = [listed.row for listed in self.suite.rows]
        known = {row["denoiser"] for row in listed} | {self.context.inputs.subject.denoiser, *self._others}
        others = [*self._others, *(name for name in _plugins() if name not in known)]
        rows: list[Row] = [*listed, self._own_row]
        return rows + [{"denoiser": name} for name in others]

    @property
    def _own_row(self) -> Row:
        """The preset's own denoiser stands apart from the study's, which are of another size."""
        return {"denoiser": f"{self.context.inputs.subject.denoiser} of preset {self.context.inputs.subject.preset}"}

    def _study(self, row: Row) -> Study | None:
        if row == self._own_row or row["denoiser"] in self._others:
            return None
        return Study.of(str(row["denoiser"]), self.suite.settings.seeds)

    def _seeds(self, row: Row) -> Sequence[int]:
        """Of noise for the preset's own denoiser, of training for the study's."""
        seeds = self.suite.settings.seeds
        return seeds if self._study(row) else self.context.seeds(seeds)

    def jobs(self, row: Row) -> RowJobs:
        clips, seeds, study = self.suite.settings.clips, self._seeds(row), self._study(row)
        if row == self._own_row:
            return {"seeds": [DenoisingJob.of(self.context, clips=clips, seed=seed) for seed in seeds]}
        if system := self._others.get(str(row["denoiser"])):
            context = self.context
            return {"seeds": [OtherDenoisingJob.of_system(context, system, clips=clips, seed=seed) for seed in seeds]}
        if study is None or study.lacking(self.context) is not None:
            return {}
        return {"seeds": [StudyJob.of_study(study, self.context, clips=clips, training_seed=seed) for seed in seeds]}

    def cell(self, row: Row, column: Column, results: RowResults) -> CellValue:
        study, jobs = self._study(row), results.planned_as(DenoisingJob, "seeds")
        if not jobs:
            return CellValue(unavailable_reason=self._lacking(row, study))
        found = dict(zip(map(str, self._seeds(row)), results.computed("seeds"), strict=True))
        measured = self._measured(column, found, study)
        if isinstance(measured, str):
            return CellValue(unavailable_reason=measured)
        config = {"denoiser": row["denoiser"]}
        if study is not None:
            config = {"preset": study.preset, "noise_seed": self.context.request.seed}
        return CellValue(
            measured,
            jobs=jobs,
            inputs=jobs[0].corpus,
            config={**config, "clips": jobs[0].clips, "angles": ANGLES},
            seeds=tuple(self._seeds(row)),
            weights=None if study is None else ", ".join(job.denoiser["weights"] for job in _studied(results)),
            no_rank=self._no_rank(row, found) if column.measure in RANKED else "",
        )

    def _lacking(self, row: Row, study: Study | None) -> str:
        if study is not None:
            return study.lacking(self.context) or ""
        subject = self.context.inputs.subject
        name = str(row["denoiser"])
        why = (
            f"preset {subject.preset!r} holds weights of {subject.denoiser!r} only: train it (melody train dpd --set "
            f"denoiser.use={name}) and give them by --denoiser {name}=FOLDER"
        )
        return unregistered(registry.denoisers, name, why)

    def _measured(self, column: Column, found: Mapping[str, JobResult], study: Study | None) -> Measurement | str:
        """The number, or why there is none."""
        if column.measure == "training_steps":
            if study is None:
                return "how long the preset's own weights were trained is told by their card, not here"
            return _same([card["steps"] for card in study.card.values()])
        if column.measure not in SIZES:
            return self._error(column.measure, found)
        name, unit = SIZES[column.measure]
        if any(name not in outcome.values for outcome in found.values()):
            return "the denoiser is no torch module, so nothing of it is counted"
        return _same([outcome.values[name] / unit for outcome in found.values()])

    def _error(self, measure: str, found: Mapping[str, JobResult]) -> Measurement:
        """Mean over seeds, of training or of noise, and over clips, which are the same for every seed: two levels."""
        by_seed = {int(seed): outcome.values[measure] for seed, outcome in found.items()}
        return levels.over_prompts(by_seed, len(found) * self.suite.settings.clips)

    def _no_rank(self, row: Row, found: Mapping[str, JobResult]) -> str:
        shown = {column.measure for column in self.suite.columns}
        values = {name: self._error(name, found).value for name in ERRORS if name in shown}
        return no_rank(str(row["denoiser"]), values)


def _studied(results: RowResults) -> tuple[StudyJob, ...]:
    return results.planned_as(StudyJob, "seeds")


def _plugins() -> list[str]:
    return [entry.name for entry in registry.denoisers.entries() if not entry.in_tree]


def no_rank(denoiser: str, values: Mapping[str, float]) -> str:
    """Why a denoiser has no rank: it does not beat predicting zero. Empty if it does.

    Zero in the place of the velocity has a mean squared error of its own, and leaves SI-SNR as it is: improved by 0 dB.
    """
    error, zero, improvement = (values.get(name) for name in ("velocity_mse", "zero_mse", "si_snri"))
    failed = []
    if error is not None and zero is not None and error >= zero:
        failed.append(f"its velocity MSE is {error:.3g}, that of zero {zero:.3g}")
    if improvement is not None and improvement <= 0:
        failed.append(f"its SI-SNRi is {improvement:.2g} dB, that of zero 0 dB")
    return f"no rank: {denoiser} does not beat predicting zero ({'; '.join(failed)})" if failed else ""


def _same(values: Sequence[float]) -> Measurement:
    """A figure that all seeds share."""
    return Measurement(value=float(values[0]), expected=1, scored=1)
