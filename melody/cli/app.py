"""The ``melody`` command: a thin face on the library. Bad input is one line on stderr and exit code 2."""

from __future__ import annotations

import errno
import sys
from typing import Annotated, Any, NoReturn

import typer

from melody import __version__
from melody.bounds import shown
from melody.cli import data, listening
from melody.cli.cache import cache
from melody.cli.components import check_plugin, components, describe, info
from melody.cli.console import console, drop, say_what_streams_can, show_own_warnings
from melody.cli.evaluate import compare, evaluate
from melody.cli.gate import gate
from melody.cli.generate import generate
from melody.cli.reproduce import report, reproduce
from melody.cli.train import export, train
from melody.errors import MelodyError
from melody.threads import govern

app = typer.Typer(
    name="melody",
    help="MeLoDy Toolkit: generate music, reproduce the paper's tables, hold a generator to thresholds.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(listening.app)
app.add_typer(data.app)
INTERRUPTED = 130
"""What typer returns after Ctrl-C."""


def _version(wanted: bool) -> None:
    if wanted:
        console.print(f"melody {__version__}")
        raise typer.Exit


@app.callback()
def melody(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """MeLoDy Toolkit."""


app.command()(info)
app.command()(generate)
app.command()(train)
app.command()(export)
app.command()(reproduce)
app.command()(report)
app.command()(components)
app.command()(describe)
app.command(name="check-plugin")(check_plugin)
app.command()(cache)
app.command()(evaluate)
app.command()(compare)
app.command()(gate)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 a gate or a check fell, 2 bad input or interrupted."""
    say_what_streams_can()
    show_own_warnings()
    govern()
    try:
        code = app(args=arguments, standalone_mode=False)
    except MelodyError as error:
        _fail(str(error))
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except BrokenPipeError:
        # What no console of ours printed, as typer's help: nothing is wrong, and nothing more can be said.
        drop(sys.stdout)
        sys.exit(0)
    except SystemExit as error:
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        sys.exit(0)  # rich says 1 where the reader of typer's help went away
    except OSError as error:
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _fail(f"cannot use {error.filename or 'the disk'}: {error.strerror}")
    except Exception as error:
        # typer's usage errors, whichever click it is built on; everything else is a bug and keeps its stack trace
        if not hasattr(error, "format_message"):
            raise
        if not error.format_message():  # no arguments: the help was shown
            sys.exit(2)
        _fail(_usage(error))
    if code == INTERRUPTED:
        _fail("interrupted; what was finished is kept")
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        drop(sys.stdout)
    sys.exit(code if isinstance(code, int) else 0)


def _usage(error: Any) -> str:
    """What is wrong with an argument: how the command is used, or what was given, where typer does not say it."""
    from pydantic import ValidationError

    message: str = error.format_message()
    if message.startswith("Missing argument") and error.ctx is not None:
        return f"{message} {error.ctx.get_usage()}"
    if not isinstance(error.__cause__, ValidationError):
        return message
    first = error.__cause__.errors()[0]
    return message if first["type"] == "value_error" else f"{message}, got {shown(first['input'])}"


def _fail(message: str) -> NoReturn:
    print(f"melody: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
