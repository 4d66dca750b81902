"""Tables on the joint embedding: which caption belongs to which of held-out clips with distinct attributes."""

from __future__ import annotations

import torch

from melody.errors import MelodyError, did_you_mean
from melody.metrics.retrieval import ranks
from melody.reproduce.context import Context
from melody.reproduce.jobs.clip_variants import chosen_clips
from melody.reproduce.jobs.components import pairs_job
from melody.reproduce.jobs.job import Job
from melody.reproduce.results import Projection
from melody.reproduce.suite import Column, Row, Suite
from melody.reproduce.tables import estimates
from melody.reproduce.tables.builder import CellValue, FilledTable, Quantity, TableBuilder

MEASURES = {
    "sound_at_1": Quantity("recall-at-1", "higher", "%"),
    "sound_at_5": Quantity("recall-at-5", "higher", "%"),
    "text_at_1": Quantity("recall-at-1", "higher", "%"),
    "text_at_5": Quantity("recall-at-5", "higher", "%"),
}
CAPTIONS = {"full caption": "full_caption", "own caption": "own_caption"}
CHANCE = "chance"


def plan(suite: Suite, context: Context) -> list[Job]:
    """One unit; raises ``MelodyError`` for an unknown row, or too few clips with distinct attributes."""
    for listed in suite.rows:
        if (name := str(listed.row.get("text"))) not in (*CAPTIONS, CHANCE):
            raise MelodyError(f"suite {suite.name}: unknown text {name!r}{did_you_mean(name, (*CAPTIONS, CHANCE))}")
    return [_job(suite, context)]


def fill(builder: TableBuilder) -> FilledTable:
    """Every kind of caption by every recall."""
    filled = FilledTable()
    for listed in builder.suite.rows:
        filled.cells += [
            builder.cell(listed.row, column, builder.attempt(_finding, builder, listed.row, column))
            for column in builder.suite.columns
        ]
    return filled


def _finding(builder: TableBuilder, row: Row, column: Column) -> CellValue:
    unit, wanted = _job(builder.suite, builder.context), int(column.measure.rpartition("_")[2])
    count = builder.suite.settings.prompts
    if row["text"] == CHANCE:
        projected = Projection(value=100 * wanted / count, method=f"{wanted} of {count}")
        return CellValue(projected=projected, unavailable_reason="this row is by formula only")
    (outcome,) = builder.computed([unit])
    text, sound = (torch.from_numpy(outcome.arrays[name]) for name in (CAPTIONS[str(row["text"])], "sound"))
    queries, candidates = (text, sound) if column.measure.startswith("sound") else (sound, text)
    hits = int((ranks(queries, candidates) < wanted).sum())
    return CellValue(
        estimates.percentage(hits, len(queries), count, over="pairs"),
        units=(unit,),
        inputs=unit.config["corpus"],
        config={"pairs": count, "text": row["text"]},
    )


def _job(suite: Suite, context: Context) -> Job:
    held_out = min(suite.settings.reference_clips, len(context.corpus))
    return pairs_job(context, places=chosen_clips(context, suite.settings.prompts), held_out=held_out)
