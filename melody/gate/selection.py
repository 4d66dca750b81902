"""Which number of a result a threshold is about: one, or a line that says why there is none, or which there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from melody.errors import MelodyError, did_you_mean
from melody.evaluation.entries import ResultEntry
from melody.gate.thresholds import Row, Threshold, toml_row
from melody.reproduce.suite import selects

CANDIDATES = 6
"""Of an ambiguous threshold, so many are named."""


def select(entries: Sequence[ResultEntry], threshold: Threshold, where: str, source: str) -> ResultEntry:
    """The one number that a threshold is about; raises ``MelodyError`` where there is none, or several."""
    of_suite = [entry for entry in entries if threshold.suite in (None, entry.suite)]
    if not of_suite:
        hint = did_you_mean(str(threshold.suite), dict.fromkeys(entry.suite for entry in entries))
        raise MelodyError(f"{where}: {source} hold no suite {threshold.suite!r}{hint}")
    named = _named(of_suite, threshold.metric)
    if not named:
        hint = did_you_mean(threshold.metric, dict.fromkeys(entry.metric for entry in of_suite))
        raise MelodyError(f"{where}: {source} have no metric {threshold.metric!r}{hint}")
    chosen = [entry for entry in named if selects(threshold.row, entry.row)]
    if not chosen:
        raise MelodyError(f"{where}: {source} have no row {toml_row(threshold.row)}{_nearest(threshold.row, named)}")
    exact = [entry for entry in chosen if entry.row == threshold.row]
    chosen = exact if len(exact) == 1 else chosen
    if len(chosen) > 1:
        raise MelodyError(
            f"{where}: {threshold.metric!r} stands {len(chosen)} times in {source}; "
            f"say which by suite, row or the metric's whole name: {_candidates(chosen)}"
        )
    return chosen[0]


def _named(entries: Iterable[ResultEntry], metric: str) -> list[ResultEntry]:
    """By column or whole name; else by the metric's name without what it stands on."""
    whole = [entry for entry in entries if metric in (entry.column, entry.metric)]
    return whole or [entry for entry in entries if metric == entry.metric.partition("[")[0]]


def _candidates(entries: Sequence[ResultEntry]) -> str:
    told = [
        f"{entry.metric}{f' (column {entry.column})' if entry.column else ''} of suite = {entry.suite!r}"
        f"{f', row = {toml_row(entry.row)}' if entry.row else ''}"
        for entry in entries[:CANDIDATES]
    ]
    more = f"; and {len(entries) - CANDIDATES} more" if len(entries) > CANDIDATES else ""
    return "; ".join(told) + more


def _nearest(row: Row, entries: Sequence[ResultEntry]) -> str:
    """What is wrong with a row: an unknown key, or a value that its key never has."""
    keys = dict.fromkeys(key for entry in entries for key in entry.row)
    for key, value in row.items():
        if key not in keys:
            return f": unknown key {key!r}{did_you_mean(key, keys)}"
        values = dict.fromkeys(str(entry.row[key]) for entry in entries if key in entry.row)
        if str(value) not in values:
            return f": {key} is never {value!r}{did_you_mean(str(value), values)}"
    return ""
