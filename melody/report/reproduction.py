"""A run of ``melody reproduce`` as a document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from melody.report.claims import claim_findings, is_demo, target_finding, target_findings
from melody.report.document import Document, Facts, Figure, Players, Section
from melody.report.extent import shown
from melody.report.kinds import DASH, GRADES, HEADINGS, KIND_MARKS, KINDS, MARK_MEANINGS, MEANINGS
from melody.report.orderings import ordering_finding
from melody.report.sounds import Sound
from melody.report.tables import TableLayout
from melody.reproduce.results import Results, Table

TITLE = "What the paper claims, and what came out"
OWN_TITLE = "What we aim at, and what came out"
CLAIM_HEADS = ("claim", "what came out", "tested at", "table")
TARGET_HEADS = ("target", "what came out", "", "table")
SMALL = "under one per cent of the paper's size"


def reproduction(
    results: Results,
    figures: Mapping[str, Sequence[Figure]] | None = None,
    sounds: Mapping[str, Sequence[Sound]] | None = None,
    csv_paths: Mapping[str, str] | None = None,
) -> Document:
    """The document of a run, as much of it as is shown; figures, sounds and the CSV file's path by suite."""
    part = shown(results)
    anchors = {table.suite: f"table-{number}" for number, table in enumerate(part.tables, start=1)}
    claims = claim_findings(part, anchors)
    targets = target_findings(part.tables, anchors)
    return Document(
        over="reproduction of Efficient Neural Music Generation",
        title=OWN_TITLE if targets and not claims else TITLE,
        lead=tuple(_lead(results, part)),
        findings=claims or targets,
        sections=tuple(
            _section(table, f"table-{number}", anchors, figures or {}, sounds or {}, csv_paths or {})
            for number, table in enumerate(part.tables, start=1)
        ),
        heads=CLAIM_HEADS if claims else TARGET_HEADS if targets else (),
        legend=legend(),
        run=tuple(_run(results, part)),
        command=part.command,
    )


def headline(results: Results) -> str:
    """A sentence or two: how many of the paper's claims come out, and how many of our targets hold."""
    found = Counter(finding.verdict for finding in claim_findings(results, {}))
    targets = [target.verdict for table in results.tables for target in table.targets]
    sentences = [_of_the_paper(found)] if found or not targets else []
    if targets:
        sentences.append(f"{targets.count('holds')} of our own {len(targets)} targets hold.")
    return " ".join(sentences)


def _of_the_paper(found: Counter[str]) -> str:
    if not found:
        return "This run asks after no claim of the paper."
    order = ("does not come out", "comes out", "undecided", "not comparable", "not attempted")
    words = {"does not come out": "contradicted", "comes out": "confirmed"}
    told = [f"{found[verdict]} {words.get(verdict, verdict)}" for verdict in order if found[verdict]]
    claims = "1 claim" if found.total() == 1 else f"{found.total()} claims"
    return f"{claims} of the paper: {', '.join(told)}."


def _lead(results: Results, part: Results) -> list[str]:
    found = [headline(part)]
    presets = {cell.provenance.preset for table in part.tables for cell in table.cells if cell.provenance is not None}
    if any(map(is_demo, presets)):
        found.append(
            f"Shown is a demo of {SMALL}, trained on short synthetic pieces: its numbers show that the tables can be "
            f"filled, and not how good the paper's system is."
        )
    if results.failures:
        found.append(f"{len(results.failures)} units of work failed: {results.failures[0]}")
    return found


def _section(
    table: Table,
    anchor: str,
    anchors: Mapping[str, str],
    figures: Mapping[str, Sequence[Figure]],
    sounds: Mapping[str, Sequence[Sound]],
    csv_paths: Mapping[str, str],
) -> Section:
    layout = TableLayout(table)
    grids = layout.grids() if table.cells else ()
    axes = layout.constants
    same = ", ".join(f"{axis.replace('_', ' ')} {value}" for axis, value in axes.items())
    playable = tuple(sound for sound in sounds.get(table.suite, ()) if not sound.problem)
    findings = [ordering_finding(ordering, table, axes) for ordering in table.orderings]
    findings += [target_finding(target, table, {**anchors, table.suite: ""}) for target in table.targets]
    path = csv_paths.get(table.suite)
    return Section(
        anchor,
        table.title,
        table.suite,
        lead=(f"The same in every row: {same}.",) if same else (),
        grids=grids,
        findings=tuple(findings),
        findings_title="; ".join(_finding_titles(table)),
        notes=tuple(note for note in table.notes if not _repeats(note, table)),
        figures=tuple(figures.get(table.suite, ())),
        players=(Players("Listen", playable),) if playable else (),
        silent=tuple(f"{sound.title}: {sound.problem}" for sound in sounds.get(table.suite, ()) if sound.problem),
        records=tuple(layout.records.numbers),
        source=table.source,
        links=(("Every field of every cell", path),) if path else (),
    )


def _finding_titles(table: Table) -> list[str]:
    titles = ["What the order of the paper's numbers says"] if table.orderings else []
    return [*titles, "What we aim at"] if table.targets else titles


def _repeats(note: str, table: Table) -> bool:
    """Whether a note says again what an ordering or a target says in its own line."""
    claims = [ordering.claim for ordering in table.orderings] + [target.claim for target in table.targets]
    return any(claim and claim in note for claim in claims)


def legend() -> Facts:
    """Marks and kinds of number, each explained once."""
    marks = tuple(MARK_MEANINGS.items())
    kinds = tuple((KIND_MARKS[kind], MEANINGS[kind]) for kind in KINDS if KIND_MARKS[kind])
    grades = tuple((f"[{grade}]", text) for grade, text in GRADES.items() if grade != "P")
    rest = (("±", MEANINGS["measured"] + ", with its interval of 95 %"), (HEADINGS["paper"], MEANINGS["paper"]))
    return (
        *marks,
        *rest,
        *kinds,
        *grades,
        ("!", "with a warning"),
        ("↓ ↑", "lower, higher is better"),
        (DASH, "no number"),
    )


def _run(results: Results, part: Results) -> list[tuple[str, str]]:
    cells = Counter(cell.verdict for table in results.tables for cell in table.cells)
    orders = Counter(ordering.verdict for table in results.tables for ordering in table.orderings)
    found = [("run of", part.created)]
    work = f"{results.cells_computed} units of work computed, {results.cells_reused} read from the store"
    found.append(("took", f"{results.seconds:.1f} s, {work}"))
    for name, counts in (("cells", cells), ("orderings", orders)):
        if counts:
            told = ", ".join(f"{number} {verdict}" for verdict, number in counts.most_common())
            found.append((name, f"{counts.total()} {name}: {told}"))
    shares = [f"{share.work} {share.seconds:,.0f} s ({share.units})" for share in part.split if share.seconds >= 1]
    return [*found, ("seconds by work (units of it)", ", ".join(shares))] if shares else found
