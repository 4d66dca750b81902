"""The ``melody`` command."""

from __future__ import annotations

from melody.cli.app import main

__all__ = ["main"]
