"""Libraries that come by an extra: whether they are there, and the command that gets them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from melody.errors import MelodyError

EXTRAS = {
    "a_unet": "a-unet",
    "diffusers": "diffusers",
    "laion_clap": "embedders",
    "lightning": "train",
    "tensorboard": "train",
    "torchsde": "diffusers",
    "webdataset": "train",
}
"""Module -> the extra that installs it."""


def lacking(modules: Iterable[str], who: str) -> str:
    """One line for the first module that is not installed, with the command that gets it; empty if all are there."""
    for module in modules:
        if not _is_there(module):
            return f"{who} needs {module.replace('_', '-')}, which is not installed: {command(module)}"
    return ""


def command(module: str) -> str:
    """What installs a module's extra, from a checkout: the package is on no index."""
    return f'pip install ".[{EXTRAS[module]}]"'


def need(module: str, who: str) -> Any:
    """Import a module late; raises ``MelodyError`` as ``lacking`` says if it, or what it needs, is not there."""
    try:
        return import_module(module)
    except ImportError as error:
        top = module.split(".")[0]
        raise MelodyError(lacking([top], who) or f"{who} cannot import {module}: {error}; {command(top)}") from None


def _is_there(module: str) -> bool:
    if module in sys.modules:
        return sys.modules[module] is not None
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
