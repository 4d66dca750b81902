"""``melody info``, ``components``, ``describe`` and ``check-plugin``: what there is, its size, and what it keeps."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from melody.cli.console import console, notes
from melody.cli.options import PresetOption, SetOption

KindArgument = Annotated[str | None, typer.Argument(help="One kind only, as in samplers.")]
CheckedArgument = Annotated[
    str, typer.Argument(metavar="NAME\\[:argument=value,…]", help="Name of the component, with arguments if need be.")
]
CheckedKindOption = Annotated[
    str | None, typer.Option("--kind", help="Of the component, as in metrics, if several have that name.")
]


def info(
    preset: PresetOption = "demo",
    set_: SetOption = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to a JSON file too.")] = None,
) -> None:
    """Show what a preset is made of: parameters beside the paper's, FLOPs and weights of every pass."""
    from melody.artifacts.files import check_can_write, write_bytes
    from melody.config import load_preset, with_changes
    from melody.report.sizes import print_sizes
    from melody.reproduce.sizes import sizes

    if json_file is not None:
        check_can_write(json_file)
    counted = sizes(with_changes(load_preset(preset), set_ or ()))
    if json_file is not None:
        write_bytes(json_file, (counted.to_json() + "\n").encode())
    print_sizes(counted, console)
    if json_file is not None:
        console.print(escape(str(json_file)))


def components(kind: KindArgument = None) -> None:
    """List the registered components: name, where from, and what each is."""
    from melody.registry import REGISTRIES, registry

    chosen = [registry(kind)] if kind else list(REGISTRIES.values())
    for listed in chosen:
        table = Table(
            "name",
            "from",
            "what it is",
            title=f"{listed.kind}  (entry-point group {listed.group})",
            title_justify="left",
        )
        for entry in listed.entries():
            style = "red" if entry.error else None
            table.add_row(escape(entry.name), escape(entry.origin), escape(entry.sentence), style=style)
        console.print(table)
    for listed in chosen:
        for entry in listed.entries():
            if entry.error:
                line = f"{listed.label} {entry.name!r} from {entry.origin} cannot be used: {entry.error}"
                notes.print(line, markup=False, highlight=False, soft_wrap=True)


def describe(
    kind: Annotated[str, typer.Argument(help="Kind of component, as in samplers.")],
    name: Annotated[str, typer.Argument(help="Name of the component.")],
) -> None:
    """Show a component's parameters with their types and defaults."""
    from melody.registry import registry

    listed = registry(kind)
    entry = listed.entry(name)
    console.print(f"[bold]{escape(name)}[/bold]  ({listed.label} from {escape(entry.origin)})\n")
    console.print(escape(inspect.getdoc(entry.component) or ""), "")
    table = Table("parameter", "type", "default")
    for parameter in listed.parameters(name):
        default = "required" if parameter.default is ... else repr(parameter.default)
        table.add_row(escape(parameter.name), escape(parameter.type), escape(default))
    console.print(table)


def check_plugin(name: CheckedArgument, kind: CheckedKindOption = None) -> int:
    """Check a component against what its kind promises: a line for each check; exit code 1 if one fails."""
    from melody.conformance import candidates, run_checks
    from melody.registry import parse_component

    plain, arguments = parse_component(name)
    failed = 0
    for registry, entry in candidates(plain, kind):
        console.print(escape(f"{registry.label} {plain!r} from {entry.origin}"), highlight=False, soft_wrap=True)
        for result in run_checks(registry, entry, arguments):
            failed += result.state == "fails"
            colour = {"holds": "green", "fails": "red", "skipped": "yellow"}[result.state]
            reason = f": {result.reason}" if result.reason else ""
            line = f"[{colour}]{result.state:7}[/{colour}]  {escape(result.check + reason)}"
            console.print(line, highlight=False, soft_wrap=True)
    return 1 if failed else 0
