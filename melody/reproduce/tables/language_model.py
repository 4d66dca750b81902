"""Tables on the language model: loss a token on held-out clips, beside n-gram models of the training clips."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from melody.errors import MelodyError, did_you_mean
from melody.evaluation.result import Measurement
from melody.metrics.ngrams import bigram_log_probabilities, bigram_loss, unigram_log_probabilities, unigram_loss
from melody.reproduce.context import Context
from melody.reproduce.jobs.components import language_model_jobs, token_jobs
from melody.reproduce.jobs.job import Job, JobResult
from melody.reproduce.results import Projection
from melody.reproduce.suite import Row, Suite
from melody.reproduce.tables import estimates
from melody.reproduce.tables.builder import CellValue, FilledTable, Quantity, TableBuilder

MEASURES = {"loss": Quantity("loss-per-token", "lower", "nats")}
PROMPTED = {"language model, after the text": "text", "language model, after the sound": "sound"}
BIGRAM, UNIGRAM, UNIFORM = "bigram", "unigram", "uniform"
MINUS = " minus "
MODELS = (*PROMPTED, BIGRAM, UNIGRAM)


def plan(suite: Suite, context: Context) -> list[Job]:
    """Tokens of training clips, and the language model's losses; raises ``MelodyError`` for an unknown row."""
    for listed in suite.rows:
        for name in str(listed.row.get("model")).split(MINUS):
            if name not in (*MODELS, UNIFORM):
                raise MelodyError(f"suite {suite.name}: unknown model {name!r}{did_you_mean(name, MODELS)}")
    return [*_held_out(suite, context), *_training(suite, context)]


def fill(builder: TableBuilder) -> FilledTable:
    """Every model, and every paired difference."""
    filled = FilledTable()
    for listed in builder.suite.rows:
        filled.cells += [
            builder.cell(listed.row, column, builder.attempt(_finding, builder, listed.row))
            for column in builder.suite.columns
        ]
    return filled


def _finding(builder: TableBuilder, row: Row) -> CellValue:
    suite, context = builder.suite, builder.context
    names = str(row["model"]).split(MINUS)
    held_out = _held_out(suite, context)
    units = held_out if set(names) <= set(PROMPTED) else [*held_out, *_training(suite, context)]
    outcomes = builder.computed(units)
    own, training = outcomes[: len(held_out)], outcomes[len(held_out) :]
    if names == [UNIFORM]:
        size = training[0].values["size"]
        return CellValue(
            projected=Projection(value=math.log(size), method=f"ln {size:,}, the size of the codebook"),
            unavailable_reason="this row is by formula only",
        )
    losses = [_losses(name, own, training) for name in names]
    return CellValue(
        _measured(losses, suite.settings.clips),
        units=tuple(units),
        inputs=units[0].config["corpus"],
        config={"models": names, "clips": units[0].config["clips"], "training_clips": suite.settings.training_clips},
    )


def _measured(losses: Sequence[Sequence[float]], expected: int) -> Measurement:
    if len(losses) == 1:
        return estimates.over_clips(losses[0], expected)
    return estimates.difference(losses[0], losses[1], expected)


def _losses(name: str, own: Sequence[JobResult], training: Sequence[JobResult]) -> list[float]:
    """Nats a token of each held-out clip."""
    if name in PROMPTED:
        return [loss for outcome in own for loss in outcome.values["rows"][PROMPTED[name]]]
    size, learnt, tokens = training[0].values["size"], _tokens(training), _tokens(own)
    if name == UNIGRAM:
        losses: list[float] = unigram_loss(unigram_log_probabilities(learnt, size), tokens).tolist()
    else:
        losses = bigram_loss(bigram_log_probabilities(learnt, size), tokens).tolist()
    return losses


def _tokens(outcomes: Sequence[JobResult]) -> Tensor:
    return torch.cat([torch.from_numpy(outcome.arrays["tokens"]).long() for outcome in outcomes])


def _held_out(suite: Suite, context: Context) -> list[Job]:
    return language_model_jobs(context, clips=suite.settings.clips)


def _training(suite: Suite, context: Context) -> list[Job]:
    return token_jobs(context, clips=suite.settings.training_clips)
