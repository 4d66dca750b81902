"""Tables on the joint embedding: which caption belongs to which of held-out clips with distinct attributes."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

import torch

from melody.errors import MelodyError, did_you_mean
from melody.evaluation import levels
from melody.metrics.retrieval import ranks
from melody.registry import tables
from melody.reproduce.jobs.clip_variants import chosen_clips
from melody.reproduce.jobs.components import PairsJob
from melody.reproduce.jobs.job import Job
from melody.reproduce.results import Projection
from melody.reproduce.suite import Column, Row
from melody.reproduce.tables.arguments import Uses
from melody.reproduce.tables.builder import CellValue, Quantity
from melody.reproduce.tables.table import RowJobs, RowResults, Table

CAPTIONS = {"full caption": "full_caption", "own caption": "own_caption"}
CHANCE = "chance"


@tables.register("retrieval")
class RetrievalTable(Table):
    """The joint embedding: every kind of caption by every recall."""

    measures: ClassVar = {
        "sound_at_1": Quantity("recall-at-1", "higher", "%"),
        "sound_at_5": Quantity("recall-at-5", "higher", "%"),
        "text_at_1": Quantity("recall-at-1", "higher", "%"),
        "text_at_5": Quantity("recall-at-5", "higher", "%"),
    }
    uses = Uses(frozenset({"prompts", "reference_clips"}), listed=frozenset({"text"}))

    def check(self) -> None:
        """Raise ``MelodyError`` for an unknown row."""
        for listed in self.suite.rows:
            if (name := str(listed.row.get("text"))) not in (*CAPTIONS, CHANCE):
                hint = did_you_mean(name, (*CAPTIONS, CHANCE))
                raise MelodyError(f"suite {self.suite.name}: unknown text {name!r}{hint}")

    @cached_property
    def _pairs(self) -> Job:
        """Raises ``MelodyError`` for too few clips with distinct attributes."""
        held_out = min(self.suite.settings.reference_clips, len(self.context.loaded.corpus))
        places = chosen_clips(self.context, self.suite.settings.prompts)
        return PairsJob.of(self.context, places=places, held_out=held_out)

    def jobs(self, row: Row) -> RowJobs:
        return {"pairs": [self._pairs]}

    def cell(self, row: Row, column: Column, results: RowResults) -> CellValue:
        wanted, count = int(column.measure.rpartition("_")[2]), self.suite.settings.prompts
        if row["text"] == CHANCE:
            projected = Projection(value=100 * wanted / count, method=f"{wanted} of {count}")
            return CellValue(projected=projected, unavailable_reason="this row is by formula only")
        (outcome,), (job,) = results.computed("pairs"), results.planned_as(PairsJob, "pairs")
        text, sound = (torch.from_numpy(outcome.arrays[name]) for name in (CAPTIONS[str(row["text"])], "sound"))
        queries, candidates = (text, sound) if column.measure.startswith("sound") else (sound, text)
        hits = int((ranks(queries, candidates) < wanted).sum())
        return CellValue(
            levels.percentage(hits, len(queries), count, over="pairs"),
            jobs=(job,),
            inputs=job.corpus,
            config={"pairs": count, "text": row["text"]},
        )
