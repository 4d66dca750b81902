"""Where things lie: the cache on this machine, and the declarations of ``eval/`` and ``baselines/``."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

PACKAGE = Path(__file__).resolve().parent


def cache_dir(*parts: str) -> Path:
    """A folder of the user's cache, made if missing; ``MELODY_CACHE`` moves the whole of it."""
    root = Path(os.environ.get("MELODY_CACHE") or platformdirs.user_cache_dir("melody-toolkit"))
    folder = root.joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def declarations(kind: str) -> Path:
    """The folder ``eval`` or ``baselines``: in place in a checkout, inside the package when installed from a wheel."""
    installed = PACKAGE / "_declarations" / kind
    return installed if installed.is_dir() else PACKAGE.parent / kind
