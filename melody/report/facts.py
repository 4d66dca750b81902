"""Where a number comes from, as pairs of a term and a text: what every format shows as its provenance."""

from __future__ import annotations

import json

from melody.evaluation.result import Measurement
from melody.report.document import Facts
from melody.report.kinds import GRADES, HEADINGS, KINDS, Kind, sentence, value_of
from melody.report.numbers import exact
from melody.reproduce.results import Cell, Projection, Provenance, Reference


def cell_facts(cell: Cell) -> Facts:
    """Everything on record about a cell's numbers but the configuration, which is the record's."""
    numbers = [fact for kind in KINDS for fact in _facts(cell, kind)]
    measured = cell.measured is not None or cell.composed is not None
    return (*numbers, *_comparison(cell), *(provenance(cell.provenance) if measured else ()))


def _facts(cell: Cell, kind: Kind) -> Facts:
    value = value_of(cell, kind)
    if value is None:
        return ()
    text = f"{exact(value.value)} {cell.unit}".strip()
    if isinstance(value, Reference):
        return ((HEADINGS[kind], f"{text}; {value.place}; {GRADES[value.grade]}"),)
    if isinstance(value, Projection):
        return ((HEADINGS[kind], text), ("method", sentence(value.method)))
    return ((HEADINGS[kind], text), *_measurement(value))


def provenance(record: Provenance | None) -> Facts:
    """A measured number's provenance, without its config and unit keys: those are ``long_facts``."""
    if record is None:
        return (("provenance", "none was recorded"),)
    return (
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
    )


def long_facts(record: Provenance) -> Facts:
    """Config as JSON, and the keys of the stored units, a line each."""
    config = json.dumps(record.config, indent=1, ensure_ascii=False, sort_keys=True)
    return (("config", config), ("units", "\n".join(record.cells) or "none recorded"))


def _measurement(value: Measurement) -> Facts:
    found: list[tuple[str, str]] = []
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
    return (*found, ("warning", sentence(value.warning))) if value.warning else tuple(found)


def _comparison(cell: Cell) -> Facts:
    found = [("metric", f"{cell.metric}, version {cell.metric_version}"), ("verdict", f"{cell.verdict}: {cell.reason}")]
    found += [("rank", sentence(cell.no_rank))] if cell.no_rank else []
    return (*found, ("tolerance", f"{100 * cell.tolerance:.3g} %, relative")) if cell.tolerance else tuple(found)
