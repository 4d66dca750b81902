"""What each system's training had: parameters and seconds by part, from the cards beside the weights.

A card tells of a part by the hash of its weights, so a part that two systems share is found in the card of either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from melody.artifacts.pretrained import CARD
from melody.documents import read_json_table
from melody.errors import MelodyError
from melody.evaluation.result import Measurement
from melody.reproduce.context import Context
from melody.reproduce.suite import Column
from melody.reproduce.systems import OWN
from melody.reproduce.tables.builder import CellValue, Quantity

MEASURES = {
    "parameters": Quantity("parameters", "none", "million"),
    "training_seconds": Quantity("training-seconds", "none", "s"),
}
FIELDS = {"parameters": ("parameters", 1e-6), "training_seconds": ("seconds", 1.0)}
"""A measure's entry in a card, and what it is multiplied by."""
REPLACED = ("codec", "denoiser")
"""Of MeLoDy: what makes sound of tokens, in whose place the other systems have networks of their own."""

Entries = dict[str, dict[str, Any]]
"""A card's entries by part."""


def cell_value(context: Context, system: str, column: Column) -> CellValue:
    """The sum over all parts that a system uses, those that it shares with another one too."""
    name, factor = FIELDS[column.measure]
    try:
        parts = entries(context, system)
    except MelodyError as error:
        return CellValue(unavailable_reason=str(error))
    total = factor * sum(entry[name] for entry in parts.values())
    return CellValue(
        Measurement(value=total, expected=len(parts), scored=len(parts)),
        config={"by_part": {part: entry[name] for part, entry in parts.items()}},
        weights=context.inputs.subject.weights if system == OWN else context.loaded.systems[system].weights,
    )


def entries(context: Context, system: str) -> Entries:
    """What the cards say of every part of a system.

    Raises:
        MelodyError: the system cannot be used, does not name its weights by part, or has a part without a card.
    """
    if reason := context.unavailable_reason(system):
        raise MelodyError(reason)
    hashes = context.inputs.subject.part_weights if system == OWN else context.system_facts(system).get("weights")
    if not hashes or not isinstance(hashes, Mapping):
        raise MelodyError(f"no card tells how system {system!r} was trained")
    known = {entry["sha256"]: entry for card in _cards(context, system) for entry in card.values()}
    if missing := [part for part, digest in hashes.items() if digest not in known]:
        raise MelodyError(f"no card beside the weights tells how {missing[0]!r} of system {system!r} was trained")
    return {part: known[digest] for part, digest in hashes.items()}


def notes(context: Context, systems: Sequence[str]) -> Iterator[str]:
    """How the other systems' training compares with MeLoDy's, and how far their token models have come."""
    try:
        own = entries(context, OWN)
    except MelodyError:
        return
    whole, replaced = _seconds(own), _seconds({part: own[part] for part in REPLACED if part in own})
    shared = {entry["sha256"] for entry in own.values()}
    for system in (name for name in systems if name != OWN and not context.unavailable_reason(name)):
        try:
            parts = entries(context, system)
        except MelodyError:
            continue
        parts = {part: entry for part, entry in parts.items() if entry["sha256"] not in shared}
        alone = _seconds(parts)
        if replaced:
            yield (
                f"Training: the networks that {system} does not share with {OWN} had {alone:,.0f} s, "
                f"{100 * alone / replaced:.0f} % of the {replaced:,.0f} s of {OWN}'s {' and '.join(REPLACED)} "
                f"({100 * alone / whole:.0f} % of the {whole:,.0f} s of all its parts)."
            )
        if reached := "; ".join(_reached(parts)):
            yield f"Held-out loss in {system}, in nats a token: {reached}."


def _reached(parts: Entries) -> Iterator[str]:
    """The loss of each token model beside that of a unigram, which knows nothing of what came before."""
    for part, entry in parts.items():
        loss, unigram = (entry["held_out"].get(name) for name in ("loss", "unigram_loss"))
        if loss is not None and unigram is not None:
            yield f"{part.replace('_', ' ')} {loss:.3f}, a unigram's {unigram:.3f}"


def _seconds(parts: Entries) -> float:
    return float(sum(entry["seconds"] for entry in parts.values()))


def _cards(context: Context, system: str) -> Iterator[Entries]:
    """The cards that lie beside the weights of a system, and those of the preset's own."""
    makings = context.loaded.systems[system].makings
    folders = [path.parent for path in makings.weights.values()] if makings else []
    yield from (_card(folder / CARD) for folder in dict.fromkeys([*folders, *context.inputs.subject.folders]))


def _card(path: Path) -> Entries:
    """A card's entries that are whole; a card that is missing or no card has none."""
    try:
        content = read_json_table(path)
    except MelodyError:
        return {}
    return {part: entry for part, entry in content.items() if isinstance(entry, dict) and _is_whole(entry)}


def _is_whole(entry: dict[str, Any]) -> bool:
    numbers = all(isinstance(entry.get(name), int | float) for name, _ in FIELDS.values())
    return numbers and isinstance(entry.get("sha256"), str) and isinstance(entry.get("held_out"), dict)
