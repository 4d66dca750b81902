"""What a number hangs on: versions, commit, machine, and what identifies the components that computed it."""

from __future__ import annotations

import hashlib
import inspect
import os
import platform
import subprocess
import uuid
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from melody import __version__, threads
from melody.artifacts.code_identity import is_known, source_hash
from melody.artifacts.files import canonical
from melody.artifacts.makings import Makings
from melody.paths import PACKAGE
from melody.registry import Entry, Registry, registry

DECIDING = ("torch", "numpy", "scipy", "transformers", "tokenizers", "diffusers", "soxr")
"""Distributions whose version is part of a job's key: those that do arithmetic or cut texts into tokens."""
RECORDED = (*DECIDING, "torchmetrics", "symusic")


def versions(names: tuple[str, ...] = RECORDED) -> dict[str, str]:
    """Installed versions of melody, Python and the named distributions."""
    installed = {"melody": __version__, "python": platform.python_version()}
    for name in names:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def deciding_versions() -> dict[str, str]:
    """Versions for a job's key; a distribution that is not installed is *absent*."""
    return dict.fromkeys(DECIDING, "absent") | versions(DECIDING)


@lru_cache(maxsize=1)
def commit() -> str | None:
    """The checkout's commit, marked where files differ from it; ``None`` outside a checkout."""
    root = PACKAGE.parent
    if not (root / ".git").exists():
        return None
    head = _git(root, "rev-parse", "HEAD")
    if not head:
        return None
    return f"{head} with changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else head


def _git(root: Path, *arguments: str) -> str:
    try:
        result = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def device_name(device: str) -> str:
    """What the device calls itself: the processor's or the card's model."""
    if device.startswith("cuda"):
        import torch

        return str(torch.cuda.get_device_name(torch.device(device)))
    return _processor()


def device_class(device: str) -> str:
    """What of a device is part of a job's key: the kind of hardware whose arithmetic is alike."""
    return device_name(device) if device.startswith("cuda") else device.partition(":")[0]


def machine() -> dict[str, Any]:
    """What timings depend on beside the device: the processor, its cores, and the threads that torch may use."""
    return {"processor": _processor(), "cores": os.cpu_count(), "threads": threads.of_timings()}


@lru_cache(maxsize=1)
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def component_facts(kind: Registry, name: str) -> dict[str, Any]:
    """What identifies a component in a key: name, origin, version, and a hash of its source."""
    return entry_facts(kind.entry(name))


def entry_facts(entry: Entry) -> dict[str, str]:
    """As ``component_facts``, of an entry that can be used."""
    return {
        "name": entry.name,
        "origin": entry.origin,
        "version": entry.version or __version__,
        "source": _source(entry.component),
        # What a component declares of itself, where its arithmetic may live outside Python files.
        "declared": str(getattr(entry.component, "version", "")),
    }


def _source(component: Any) -> str:
    """The hash of a component's code; where no file holds it, one that never comes again: nothing stale is met."""
    module = inspect.getmodule(component)
    if module is None or not is_known(module.__name__):
        return f"without a file {uuid.uuid4().hex}"
    return source_hash(module.__name__)


def makings_facts(made: Makings) -> dict[str, Any]:
    """What identifies a system's preset in a key: its content, and every component that it names."""
    return {
        "preset": hashlib.sha256(canonical(made.content)).hexdigest(),
        "components": {role: component_facts(registry(kind), name) for role, (kind, name) in made.components.items()},
    }


def weights_hash(parts: Mapping[str, str]) -> str:
    """SHA-256 over the hashes of the weights of all parts."""
    return hashlib.sha256("".join(f"{part}:{digest};" for part, digest in parts.items()).encode()).hexdigest()
