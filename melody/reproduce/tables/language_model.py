"""Tables on the language model: loss a token on held-out clips, beside n-gram models of the training clips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from melody.errors import MelodyError, did_you_mean
from melody.evaluation import levels
from melody.evaluation.result import Measurement
from melody.metrics.ngrams import bigram_log_probabilities, bigram_loss, unigram_log_probabilities, unigram_loss
from melody.registry import tables
from melody.reproduce.jobs.components import LanguageModelJob, TokensJob, rows_of
from melody.reproduce.jobs.job import JobResult
from melody.reproduce.results import Projection
from melody.reproduce.suite import Column, Row
from melody.reproduce.tables.arguments import Uses
from melody.reproduce.tables.builder import CellValue, Quantity
from melody.reproduce.tables.table import RowJobs, RowResults, Table

PROMPTED = {"language model, after the text": "text", "language model, after the sound": "sound"}
BIGRAM, UNIGRAM, UNIFORM = "bigram", "unigram", "uniform"
MINUS = " minus "
MODELS = (*PROMPTED, BIGRAM, UNIGRAM)


@tables.register("language-model")
class LanguageModelTable(Table):
    """The language model's loss beside n-gram models, and paired differences."""

    measures: ClassVar = {"loss": Quantity("loss-per-token", "lower", "nats")}
    uses = Uses(frozenset({"clips", "training_clips"}), listed=frozenset({"model"}), judged=False)

    def check(self) -> None:
        """Raise ``MelodyError`` for an unknown row."""
        for listed in self.suite.rows:
            for name in str(listed.row.get("model")).split(MINUS):
                if name not in (*MODELS, UNIFORM):
                    raise MelodyError(f"suite {self.suite.name}: unknown model {name!r}{did_you_mean(name, MODELS)}")

    @cached_property
    def _jobs(self) -> RowJobs:
        settings = self.suite.settings
        return {
            "held out": LanguageModelJob.batches(self.context, clips=settings.clips, label="language model"),
            "training": TokensJob.batches(self.context, clips=settings.training_clips),
        }

    def jobs(self, row: Row) -> RowJobs:
        return self._jobs

    def cell(self, row: Row, column: Column, results: RowResults) -> CellValue:
        names = str(row["model"]).split(MINUS)
        purposes = ["held out"] if set(names) <= set(PROMPTED) else ["held out", "training"]
        results.computed(*purposes)
        if names == [UNIFORM]:
            size = results.computed("training")[0].values["size"]
            return CellValue(
                projected=Projection(value=math.log(size), method=f"ln {size:,}, the size of the codebook"),
                unavailable_reason="this row is by formula only",
            )
        held_out, settings = results.planned_as(LanguageModelJob, "held out"), self.suite.settings
        losses = [_losses(name, results) for name in names]
        return CellValue(
            _measured(losses, settings.clips),
            jobs=results.planned(*purposes),
            inputs=held_out[0].corpus,
            config={"models": names, "clips": held_out[0].clips, "training_clips": settings.training_clips},
        )


def _measured(losses: Sequence[Sequence[float]], expected: int) -> Measurement:
    if len(losses) == 1:
        return levels.over_clips(losses[0], expected)
    return levels.difference(losses[0], losses[1], expected)


def _losses(name: str, results: RowResults) -> list[float]:
    """Nats a token of each held-out clip."""
    own = results.computed("held out")
    if name in PROMPTED:
        return rows_of(own, PROMPTED[name])
    training = results.computed("training")
    size, learnt, tokens = training[0].values["size"], _tokens(training), _tokens(own)
    if name == UNIGRAM:
        losses: list[float] = unigram_loss(unigram_log_probabilities(learnt, size), tokens).tolist()
    else:
        losses = bigram_loss(bigram_log_probabilities(learnt, size), tokens).tolist()
    return losses


def _tokens(outcomes: Sequence[JobResult]) -> Tensor:
    return torch.cat([torch.from_numpy(outcome.arrays["tokens"]).long() for outcome in outcomes])
