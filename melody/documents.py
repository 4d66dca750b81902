"""TOML and JSON that people write or pass on: whatever is wrong with a file is one line."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from melody.errors import MelodyError


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; raises ``MelodyError`` with the file and line if it cannot be read or parsed."""
    try:
        return tomllib.loads(_content(path).decode("utf-8-sig"))
    except RecursionError:
        raise MelodyError(f"{path} is not valid TOML: its tables or lists are nested too deep") from None
    except ValueError as error:  # malformed, not UTF-8, or a number of more digits than Python reads
        raise MelodyError(f"{path} is not valid TOML: {_told(error)}") from None


def read_json(path: Path) -> Any:
    """Read a JSON file; raises ``MelodyError`` as ``parse_json``, and if it cannot be read."""
    return parse_json(_content(path), str(path))


def read_json_table(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object; raises ``MelodyError`` as ``read_json``, and if it holds another value."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise MelodyError(f"cannot read {path}: expected a table, got {type(content).__name__}")
    return content


def parse_json(content: bytes, where: str) -> Any:
    """The value of JSON text in UTF-8, or in UTF-16 with its byte-order mark.

    Raises:
        MelodyError: it is no JSON, nested too deep, or has a number of more digits than Python reads; with ``where``.
    """
    try:
        return json.loads(content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"))
    except RecursionError:
        raise MelodyError(f"cannot read {where}: its objects or lists are nested too deep") from None
    except ValueError as error:
        raise MelodyError(f"cannot read {where}: it is not JSON: {_told(error)}") from None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MelodyError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:  # a path with a NUL in it
        raise MelodyError(f"cannot read {str(path)!r}: {error}") from None


def _told(error: ValueError) -> str:
    """What is wrong, without Python's advice on how to raise its limit of digits."""
    if isinstance(error, UnicodeDecodeError):
        return f"byte 0x{error.object[error.start]:02x} at {error.start} is not {error.encoding.upper()}"
    return str(error).partition(";")[0]
