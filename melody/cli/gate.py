"""``melody gate``: results held to thresholds, or to an earlier result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from melody.cli.console import console
from melody.cli.options import a_number
from melody.errors import MelodyError

if TYPE_CHECKING:
    from melody.gate.checks import GateOutcome

ResultsArgument = Annotated[
    Path, typer.Argument(help="A file that reproduce, evaluate, compare or listening wrote, or a run's folder.")
]
ThresholdsOption = Annotated[
    Path | None, typer.Option("--thresholds", "-t", help="TOML file (keys: docs/thresholds.md), as in eval/thresholds.")
]
BaselineOption = Annotated[
    Path | None,
    typer.Option("--baseline", "-b", help="An earlier result: every metric of both must be no worse, Holm over all."),
]
ByOption = Annotated[
    float | None,
    typer.Option(
        "--by",
        min=0,
        max=100,
        callback=a_number,
        help="Standard errors of the difference that --baseline allows. \\[default: 2]",
    ),
]
JunitOption = Annotated[Path | None, typer.Option("--junit", help="Write the checks as JUnit XML too.")]
MARKS = {"holds": "[green]holds[/green]", "falls": "[red]falls[/red]"}


def gate(
    results: ResultsArgument,
    thresholds: ThresholdsOption = None,
    baseline: BaselineOption = None,
    by: ByOption = None,
    junit: JunitOption = None,
) -> int:
    """Hold results to thresholds or to a baseline: exit code 0 if all hold, 1 if some fall, 2 on bad input."""
    if (thresholds is None) == (baseline is None):
        given = "neither was given" if thresholds is None else "both were given"
        raise MelodyError(f"expected --thresholds FILE or --baseline FILE: {given}")
    if by is not None and baseline is None:
        raise MelodyError("--by was given without --baseline: a threshold file says by_standard_errors")
    from melody.artifacts.files import check_can_write
    from melody.gate.junit import write_junit

    if junit is not None:
        check_can_write(junit)
    gated = _outcome(results, thresholds, baseline, by)
    if junit is not None:
        write_junit(gated, junit)
    _show(gated)
    return 0 if gated.passed else 1


def _outcome(results: Path, thresholds: Path | None, baseline: Path | None, by: float | None) -> GateOutcome:
    from melody.gate.checks import gate as held
    from melody.gate.checks import gate_against
    from melody.gate.thresholds import STANDARD_ERRORS, load_thresholds
    from melody.reproduce.results import load_results

    loaded = load_results(results)
    if thresholds is not None:
        return held(loaded, load_thresholds(thresholds))
    assert baseline is not None
    allowed = STANDARD_ERRORS if by is None else by
    return gate_against(loaded, load_results(baseline), baseline.name, by_standard_errors=allowed)


def _show(gated: GateOutcome) -> None:
    skipped: dict[str, list[str]] = {}
    for check in gated.checks:
        if check.state == "skipped":
            skipped.setdefault(check.reason, []).append(check.name)
        else:
            console.print(f"{MARKS[check.state]}  {escape(check.line)}", soft_wrap=True)
    for reason, names in skipped.items():
        console.print(f"not held, {escape(reason)}: {escape(', '.join(names))}", soft_wrap=True, highlight=False)
    states = [check.state for check in gated.checks]
    console.print(f"{states.count('holds')} hold, {states.count('falls')} fall: {escape(gated.title)}", soft_wrap=True)
