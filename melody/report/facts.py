"""Where a number comes from, as pairs of a term and a text: what every format shows as its provenance."""

from __future__ import annotations

import json

from melody.evaluation.result import Measurement
from melody.report.layout import GRADES, Kind, sentence, value_of
from melody.report.numbers import exact
from melody.reproduce.results import Cell, Projection, Provenance, Reference

Facts = list[tuple[str, str]]


def facts(cell: Cell, kind: Kind) -> Facts:
    """Everything on record about a cell's number of one kind; empty if it has none."""
    value = value_of(cell, kind)
    if value is None:
        return []
    found = [("value", f"{exact(value.value)} {cell.unit}".strip())]
    if isinstance(value, Reference):
        return [*found, ("place", value.place), ("grade", f"{value.grade}, {GRADES[value.grade]}")]
    if isinstance(value, Projection):
        return [*found, ("method", sentence(value.method))]
    return [*found, *_measurement(value), *_comparison(cell), *provenance(cell.provenance)]


def provenance(record: Provenance | None) -> Facts:
    """A measured number's provenance, without its config and unit keys: those are ``long_facts``."""
    if record is None:
        return [("provenance", "none was recorded")]
    return [
        ("preset", record.preset),
        ("device", record.device),
        ("precision", record.precision),
        ("seeds", ", ".join(map(str, record.seeds)) or "none: nothing random"),
        ("samples", str(record.sample_count)),
        ("embedder", record.embedder or "none is used"),
        ("versions", ", ".join(f"{name} {number}" for name, number in record.versions.items()) or "none recorded"),
        ("commit", record.commit or "outside a checkout"),
        ("weights (SHA-256)", record.weights or "none are used"),
        ("inputs", record.inputs or "none recorded"),
    ]


def long_facts(record: Provenance | None) -> Facts:
    """Config as JSON, and the keys of the stored units, a line each."""
    if record is None:
        return []
    config = json.dumps(record.config, indent=1, ensure_ascii=False, sort_keys=True)
    return [("config", config), ("units", "\n".join(record.cells) or "none recorded")]


def _measurement(value: Measurement) -> Facts:
    found: Facts = []
    if value.low is not None and value.high is not None:
        found.append(("interval", f"{exact(value.low)} to {exact(value.high)}"))
    if value.interval:
        found.append(("method", value.interval))
    if value.standard_error is not None:
        found.append(("standard error", exact(value.standard_error)))
    if value.p_value is not None:
        found.append(("p", exact(value.p_value)))
    if value.by_seed:
        found.append(("by seed", ", ".join(f"{seed}: {exact(number)}" for seed, number in value.by_seed.items())))
    found.append(("scored", f"{value.scored} of {value.expected}"))
    return [*found, ("warning", sentence(value.warning))] if value.warning else found


def _comparison(cell: Cell) -> Facts:
    found = [("metric", f"{cell.metric}, version {cell.metric_version}"), ("verdict", f"{cell.verdict}: {cell.reason}")]
    return found if cell.tolerance is None else [*found, ("tolerance", f"{100 * cell.tolerance:.3g} %, relative")]
