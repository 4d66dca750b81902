"""An evaluation or a comparison as a document: what is good and what is bad first, then metrics in groups."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from melody.evaluation.result import Comparison, Control, Difference, Evaluation, Inputs, Score, Skipped
from melody.report.document import Cell, Document, Facts, Figure, Finding, Grid, Players, Row, Section
from melody.report.evaluation_findings import as_music, in_short, judgement, standing, who_won, winners
from melody.report.evaluation_layout import (
    BEATEN,
    BLIND,
    DASH,
    control_cells,
    control_names,
    difference_cells,
    headline,
    number,
    remarks,
    score_cells,
    title,
)
from melody.report.extent import within
from melody.report.kinds import sentence
from melody.report.plots.controls import controls_figure
from melody.report.sounds import Sound, load_sound
from melody.reproduce.results import Clip

PAGE_BYTES = 1_200_000
"""Of all sounds inside a page; the others are linked and fetched when they are played."""
CLIP_BYTES = 700_000
MOST_PLAYERS = 12
MOST_SKIPPED = 20
GROUPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Text": ("Does a clip sound as its prompt says?", ("mcc", "recall-at", "median-rank")),
    "Musicality": ("Has it a beat, a key, a form? Each tells one side of music that can be computed.",
                   ("beat", "tempo", "key", "structure", "repetition")),
    "Level": ("Is it too loud, silent, or clipped?", ("clipping", "silence", "peak", "loudness")),
    "Quality": ("Does the set sound like the reference, or a clip like its target?", ("",)),
}  # fmt: skip
"""What a group asks, and how the names of its metrics begin; the last one takes the rest."""
Named = TypeVar("Named", Score, Difference)


def evaluated(result: Evaluation | Comparison, page: Path | None = None) -> Document:
    """The document; clips are looked for where they were evaluated, and long texts and lists are cut.

    Args:
        page: where the page will be, for links to clips that are too many or too large for it; without it they have
            no player.
    """
    skipped, result = result.skipped, within(result)
    both = isinstance(result, Comparison)
    sets = [("A", result.a), ("B", result.b)] if isinstance(result, Comparison) else [("", result)]
    sections = list(_differences(result)) if isinstance(result, Comparison) else []
    for place, (name, one) in enumerate(sets):
        sections += _set(one, name, place, page, len(sets))
    if skipped:
        sections.append(_left_out(skipped))
    findings = winners(result) if isinstance(result, Comparison) else standing(result.scores)
    notes = dict.fromkeys([*result.notes, *(note for _, one in sets for note in remarks(one))])
    return Document(
        over="comparison" if both else "evaluation",
        title=headline(result),
        lead=(*_lead(result, findings), *map(sentence, notes)),
        findings=tuple(findings),
        sections=tuple(sections),
        legend=(
            ("✓ ✗", "as good as music, or worse than it or no better than what is no music; of a comparison, decided"),
            ("?", "the metric cannot tell on this data, or the difference is undecided"),
            (f"{BLIND} {BEATEN}", "of a control: not told from music; no worse than the clips"),
            ("↓ ↑", "lower, higher is better"),
            ("±", "interval of 95 %"),
            (DASH, "no number"),
        ),
        run=tuple(fact for name, one in sets for fact in _about(one, name)),
        command=result.command,
        reference_name="music",
    )


def _lead(result: Evaluation | Comparison, findings: Sequence[Finding]) -> list[str]:
    if not isinstance(result, Comparison):
        return [in_short(findings)]
    sides = f"A is {result.a.generated.folder}, B is {result.b.generated.folder}; differences are A − B."
    return [who_won(result), sides]


def _differences(result: Comparison) -> Iterable[Section]:
    for place, (name, rows) in enumerate(_grouped(result.differences).items()):
        told = tuple(f"{cells.title}: {cells.remarks}." for cells in map(difference_cells, rows) if cells.remarks)
        grid = Grid("metric", ("A", "B", "A − B", "p, Holm", "d"), tuple(map(_difference, rows)), after=told)
        yield Section(f"differences-{place}", f"{name}: differences", lead=(GROUPS[name][0],), grids=(grid,))


def _difference(row: Difference) -> Row:
    """The better side has a mark; an undecided difference has one of its own."""
    cells = difference_cells(row)
    known = (("interval", row.interval), ("test", row.p_method), ("p", cells.p), ("remark", cells.remarks))
    facts = (("verdict", cells.verdict), *((term, text) for term, text in known if text))
    marks = {side: "✓" if row.better == side else "" for side in ("a", "b")}
    return Row(
        cells.title,
        (
            Cell(cells.a, mark=marks["a"], verdict="good"),
            Cell(cells.b, mark=marks["b"], verdict="good"),
            Cell(
                cells.difference,
                style="measured",
                mark="?" if row.better == "undecided" else "",
                verdict="undecided",
                meaning=f"{cells.title}: {cells.verdict}",
                footnotes=(f"{cells.title}: {'; '.join(f'{term} {text}' for term, text in facts)}",),
                facts=facts,
            ),
            Cell(cells.holm),
            Cell(cells.effect),
        ),
    )


def _set(result: Evaluation, name: str, place: int, page: Path | None, sets: int) -> list[Section]:
    """A section for each group of metrics, and one for the clips that stand out."""
    prefix = f"{name}: " if name else ""
    sections = [
        Section(f"set-{place}-{group.lower()}", f"{prefix}{group}", lead=(GROUPS[group][0],), grids=_grids(scores))
        for group, scores in _grouped(result.scores).items()
    ]
    figures: Sequence[Figure] = controls_figure(result.scores, place)
    players = _players(result, page, MOST_PLAYERS // sets, PAGE_BYTES // sets)
    if figures or players:
        heading = f"{prefix}What stands out"
        sections.append(Section(f"set-{place}-clips", heading, figures=tuple(figures), players=tuple(players)))
    return sections


def _grouped(scores: Sequence[Named]) -> dict[str, list[Named]]:
    """Metrics by group, in the order of the groups; those without any are left out."""
    found: dict[str, list[Named]] = {name: [] for name in GROUPS}
    for score in scores:
        group = next(name for name, (_, begins) in GROUPS.items() if score.metric.startswith(begins))
        found[group].append(score)
    return {name: found[name] for name in ("Text", "Quality", "Musicality", "Level") if found[name]}


def _grids(scores: Sequence[Score]) -> tuple[Grid, ...]:
    rows, told = [], []
    for score in scores:
        cells = score_cells(score)
        music, said = as_music(score), judgement(score)
        own = Cell(
            cells.value,
            cells.interval,
            "measured",
            mark=said.mark if said else "",
            verdict=said.verdict if said else "",
            meaning=f"{cells.title}: {said.text}" if said else "",
            warned=bool(cells.remarks),
            footnotes=(f"{cells.title}: {_how(score)}",),
            facts=_facts(score),
        )
        rows.append(Row(cells.title, (own, Cell(music[1] if music else DASH), Cell(cells.count))))
        told += [f"{cells.title}: {cells.remarks}."] if cells.remarks else []
    grid = Grid("metric", ("these clips", "music itself", "scored"), tuple(rows), after=tuple(told))
    controls = _controls(scores)
    return (grid, controls) if controls.rows else (grid,)


def _controls(scores: Sequence[Score]) -> Grid:
    """Every metric where the answer is known, each control in a row of its own."""
    rows = []
    for score in scores:
        by_name = {control.name: control for control in score.controls}
        if by_name:
            value = number(score.value, score.low, score.high, score.unit)
            name = title(score.name, score.direction, score.unit)
            rows.append(Row(name, (Cell(*value, style="measured"), Cell(str(score.scored)), Cell(DASH))))
        rows += [_control(by_name[name], score.unit) for name in control_names([score])]
    head = ("value", "clips / of the reference", "mark")
    return Grid("metric, and its controls", head, tuple(rows), "Controls: where the answer is known", folded=True)


def _control(control: Control, unit: str) -> Row:
    cells = control_cells(control, unit)
    verdict = "bad" if cells.mark else ""
    mark = Cell(cells.mark or DASH, style=verdict, meaning=control.reason)
    return Row(f"– {control.name}", (Cell(cells.value, cells.interval), Cell(cells.count), mark))


def _how(score: Score) -> str:
    return "; ".join(f"{term} {text}" for term, text in _facts(score))


def _facts(score: Score) -> Facts:
    found = [("metric", f"{score.metric}, version {score.version}"), ("scored", f"{score.scored} of {score.expected}")]
    found += [("interval", score.interval)] if score.interval else []
    found += [("heard at", f"{score.sample_rate} Hz")] if score.sample_rate else []
    found += [("bias", f"{score.bias:.4g}")] if score.bias is not None else []
    return (*found, *((str(key), str(value)) for key, value in score.source.items()))


def _players(result: Evaluation, page: Path | None, most: int, room: int) -> list[Players]:
    """The clips that stand out, each once, with what they stand out by; inside the page while there is room."""
    texts: dict[tuple[str, str], list[str]] = {}
    for score in result.scores:
        for clip in score.worst:
            told = f"{score.name} = {number(clip.value, None, None)[0]} {score.unit}".strip()
            texts.setdefault((clip.identifier, clip.file), []).append(told)
    folder, sounds = Path(result.generated.folder), []
    for (identifier, file), metrics in list(texts.items())[:most]:
        sound, size = _sound(Clip(title=identifier, text="; ".join(metrics), path=file), folder, page, room)
        room -= size
        sounds.append(sound)
    return [Players("The clips that stand out", tuple(sounds))] if sounds else []


def _sound(clip: Clip, folder: Path, page: Path | None, room: int) -> tuple[Sound, int]:
    """A clip with a player where it is still there, and the bytes that it takes of the page."""
    size = _size(folder / clip.path)
    if not size:
        return Sound(clip.title, clip.text, facts="no longer there"), 0
    inside = size <= min(CLIP_BYTES, room)
    if not inside and page is None:
        return Sound(clip.title, clip.text, facts="too large for the page"), 0
    sound = load_sound(clip, folder, embed=inside, links=True)
    if sound.problem:
        return Sound(clip.title, clip.text, facts="not to be played"), 0
    if inside or page is None:
        return sound, size
    path = os.path.relpath((folder / clip.path).resolve(), page.resolve().parent)
    return replace(sound, source=quote(path.replace(os.sep, "/")), embedded=False), 0


def _size(path: Path) -> int:
    """Of a regular file in bytes; 0 for what is none, or no name of a file at all."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except (OSError, ValueError):
        return 0


def _left_out(skipped: Sequence[Skipped]) -> Section:
    kept = [within(one) for one in skipped[:MOST_SKIPPED]]
    rows = tuple(
        Row(one.file, (Cell(one.reason or DASH, style="plain"), Cell(", ".join(one.metrics) or "all"))) for one in kept
    )
    more = f", of which {len(kept)} are shown; --json has all" if len(kept) < len(skipped) else ""
    return Section("left-out", f"Left out: {len(skipped)}{more}", grids=(Grid("file", ("why", "by"), rows),))


def _about(result: Evaluation, name: str) -> Facts:
    """What decides the numbers of a set."""
    prefix = f"{name} " if name else ""
    known = result.circumstances
    versions = ", ".join(f"{package} {version}" for package, version in known.versions.items())
    reference = _inputs(f"{prefix}reference", result.reference) if result.reference else ()
    captions = ((f"{prefix}captions", f"SHA-256 {result.captions}"),) if result.captions else ()
    return (
        *_inputs(f"{prefix}clips", result.generated),
        *reference,
        *captions,
        (f"{prefix}measured with", f"seed {known.seed}, {known.device}, {known.precision}"),
        (f"{prefix}versions", f"{versions}; commit {known.commit or DASH}"),
    )


def _inputs(name: str, one: Inputs) -> Facts:
    formats = "; ".join(f"{count} × {kind}" for kind, count in one.formats.items())
    read = f"{one.folder}: {one.read} of {one.expected} clips, {one.seconds / 60:.1f} min ({formats})"
    return ((name, f"{read}; SHA-256 {one.content}"),)
