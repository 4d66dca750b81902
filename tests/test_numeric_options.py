"""Every number that a command takes has bounds: what makes no sense is one line and exit code 2, before any work."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from melody.cli.app import app, main

SENSELESS = ("nan", "inf", "-inf", "1e30", "-1", "-1e30", "1" + 30 * "0", "9" * 5000, "", "x")


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands that do something, by their names."""
    for name, one in getattr(command, "commands", {}).items():
        yield from commands(one, (*path, name))
    if not hasattr(command, "commands"):
        yield path, command


def is_number(hint: Any) -> bool:
    return bool({int, float} & {hint, *typing.get_args(hint)})


def numeric_options() -> list[tuple[tuple[str, ...], str, list[str]]]:
    """Path, option and the arguments that the command needs beside it."""
    found = []
    for path, command in commands(typer.main.get_command(app)):
        needed = ["x" for one in command.params if one.required and one.param_type_name == "argument"]
        for one in command.params:
            if one.required and one.param_type_name == "option":
                needed += [one.opts[0], "x"]
        hints = typing.get_type_hints(inspect.unwrap(command.callback))
        found += [(path, one.opts[0], needed) for one in command.params if is_number(hints.get(one.name))]
    return found


def test_there_are_numbers() -> None:
    assert {"--seed", "--steps", "--duration", "--budget-s", "--max-failed", "--threads", "--num-nodes"} <= {
        option for _, option, _ in numeric_options()
    }


@pytest.mark.parametrize(("path", "option", "needed"), numeric_options(), ids=lambda one: "-".join(one))
def test_a_senseless_number_is_one_line(
    path: tuple[str, ...], option: str, needed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for value in SENSELESS:
        with pytest.raises(SystemExit) as ended:
            main([*path, *needed, f"{option}={value}"])
        error = capsys.readouterr().err
        assert ended.value.code == 2, value[:40]
        assert error.startswith("melody: error: ")
        assert option in error
        assert value[:40] in error.split(": ", 3)[-1]
        assert error.count("\n") == 1
