"""What the analysis of a listening test is: the schema of ``melody listening analyse --json``. No torch here."""

from __future__ import annotations

from typing import Literal

from melody.evaluation.entries import ResultEntry
from melody.evaluation.result import SCHEMA_VERSION, Measurement, SavedResult, Schema

NUMBERS = {"value", "low", "high", "standard_error", "interval", "p_value", "expected", "scored"}
TIES = (
    "an answer of similar is half a point for each of the two systems, so that a pair's rates sum to one over all its "
    "judgements, as those of the paper's Table 3 do; beside it, the rate with such answers dropped (no ties)"
)


class Preference(Schema):
    """How often ``system_a`` is preferred to ``system_b``; the other way round it is one minus that."""

    question: str
    system_a: str
    system_b: str
    wins_a: int
    similar: int
    wins_b: int
    raters: int
    rate: Measurement | None = None
    """Of ``system_a``, 0 to 1; ``p_value`` of no preference, before Holm's correction."""
    p_holm: float | None = None
    """Corrected over all preferences of the result."""
    rate_without_similar: float | None = None
    reason: str = ""
    """Why there is no rate, or no interval; empty if there is nothing to say."""


class Strength(Schema):
    """Log-strength of a system by Bradley and Terry; those of a question sum to zero, higher is better."""

    system: str
    strength: Measurement


class BradleyTerry(Schema):
    """Strengths of one question's systems, or the reason that there are none."""

    question: str
    strengths: list[Strength]
    largest_misfit: float | None = None
    """Largest difference between a pair's rate and what the strengths imply; large if no one order fits."""
    misfit_pair: list[str]
    reason: str = ""


class Agreement(Schema):
    """Krippendorff's alpha (nominal) of one question, and the share of pairs of answers that are the same."""

    question: str
    units: int
    """Pairs of clips that two or more raters judged."""
    alpha: Measurement | None = None
    observed: float | None = None
    reason: str = ""


class RaterRecord(Schema):
    """One rater: whether the answers count, and how consistent they are."""

    rater: str
    judgements: int
    """Attention checks and repeats not counted."""
    checks: int
    checks_failed: int
    excluded: bool
    repeats: int
    repeats_same: int
    triads: int
    """Triples of systems of one item and question, all three pairs decided."""
    triads_circular: int
    """Of these, A over B over C over A; a rater who answers by chance gives one in four."""
    comparisons: int
    """Answers of others to what the rater answered as well; excluded raters do not count as others."""
    comparisons_same: int
    similar: int
    heard_first: int
    """How often the clip heard first was preferred."""


class ListeningResult(SavedResult):
    """One listening test analysed; the same file gives the same result."""

    kind: Literal["listening"] = "listening"
    schema_version: Literal[2] = SCHEMA_VERSION
    melody_version: str
    source: str
    """Name of the file of ratings."""
    sha256: str
    systems: list[str]
    questions: list[str]
    items: int
    rows: int
    judgements: int
    """That count: of raters who are kept, attention checks and repeats taken off."""
    ties: str = TIES
    exclusion: str
    """The rule by which raters are excluded."""
    preferences: list[Preference]
    bradley_terry: list[BradleyTerry]
    """Empty for two systems, whose preference rate says the same."""
    agreement: list[Agreement]
    heard_first: Measurement | None = None
    """Share of decided answers for the clip heard first; 0.5 without an effect of position."""
    raters: list[RaterRecord]
    warnings: list[str]
    unread_columns: list[str]

    def entries(self) -> list[ResultEntry]:
        """Preference rates of ``system_a``, strengths and agreement, by question."""
        rates = [
            _entry(
                "preference", {"question": p.question, "system_a": p.system_a, "system_b": p.system_b}, p.rate, p.reason
            )
            for p in self.preferences
        ]
        strengths = [
            _entry("bradley-terry", {"question": fit.question, "system": ranked.system}, ranked.strength, fit.reason)
            for fit in self.bradley_terry
            for ranked in fit.strengths
        ]
        alphas = [
            _entry("krippendorff-alpha", {"question": asked.question}, asked.alpha, asked.reason)
            for asked in self.agreement
        ]
        return rates + strengths + alphas


def _entry(metric: str, row: dict[str, str | int | float], measured: Measurement | None, reason: str) -> ResultEntry:
    """A number of a listening test; of all of them higher is better (of a preference, for ``system_a``)."""
    numbers = measured.model_dump(include=NUMBERS) if measured is not None else {"expected": 0, "scored": 0}
    return ResultEntry("listening", row, metric, "1", "higher", reason=reason, record=measured, **numbers)
