"""What a reader must know first: what the paper states and how it came out, and how many cells ended how."""

from __future__ import annotations

from collections import Counter
from typing import get_args

from melody.reproduce.results import (
    OrderingVerdict,
    Results,
    Statement,
    StatementVerdict,
    Table,
    TargetVerdict,
    Verdict,
)


def statements_by_verdict(results: Results) -> list[Statement]:
    """What the paper states, first of all what does not come out."""
    order = ["does not come out", "comes out", *get_args(StatementVerdict)]
    return sorted(results.statements, key=lambda statement: order.index(statement.verdict))


def tally(tables: list[Table]) -> dict[str, int]:
    """Number of cells by verdict, every verdict named."""
    counts = dict.fromkeys(get_args(Verdict), 0)
    for table in tables:
        for cell in table.cells:
            counts[cell.verdict] += 1
    return counts


def ordering_tally(tables: list[Table]) -> dict[str, int]:
    """Number of orderings by verdict, every verdict named."""
    counts = dict.fromkeys(get_args(OrderingVerdict), 0)
    for table in tables:
        for ordering in table.orderings:
            counts[ordering.verdict] += 1
    return counts


def target_tally(tables: list[Table]) -> dict[str, int]:
    """Number of targets of our own by verdict, every verdict named; empty if there are none."""
    counts = dict.fromkeys(get_args(TargetVerdict), 0)
    for table in tables:
        for target in table.targets:
            counts[target.verdict] += 1
    return counts if sum(counts.values()) else {}


def time_spent(results: Results) -> str:
    """Where the run's time went, in a sentence: at least a second each; empty if nothing took as long."""
    shares = [f"{share.work} {share.seconds:,.0f} s ({share.units})" for share in results.split if share.seconds >= 1]
    return f"Seconds by work (units of it): {', '.join(shares)}." if shares else ""


def headline(results: Results) -> str:
    """A sentence or two: how many of the paper's statements come out, each once, and how many of our targets hold."""
    aimed_at = target_tally(results.tables)
    sentences = [_about_the_paper(results.statements)] if results.statements or not aimed_at else []
    if aimed_at:
        sentences.append(f"{aimed_at['holds']} of our own {sum(aimed_at.values())} targets hold.")
    return " ".join(sentences)


def _about_the_paper(stated: list[Statement]) -> str:
    if not stated:
        return "This run asks after no statement of the paper."
    counts = Counter(statement.verdict for statement in stated)
    out, missed = counts["comes out"], counts["does not come out"]
    rest = [f"{counts[name]} {name}" for name in get_args(StatementVerdict)[2:] if counts[name]]
    verbs = "comes" if out == 1 else "come", "does" if missed == 1 else "do"
    told = f"Of {len(stated)} printed statements of the paper {out} {verbs[0]} out, {missed} {verbs[1]} not"
    return f"{told}; {', '.join(rest)}." if rest else f"{told}."
