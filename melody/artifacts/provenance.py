"""What a number hangs on: versions, commit, machine, and the content of the code that computed it."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from types import ModuleType
from typing import Any

from melody import __version__, threads
from melody.artifacts.makings import Makings
from melody.paths import PACKAGE
from melody.registry import Entry, Registry, registry

SEAMS = frozenset(
    f"melody{name}"
    for name in (
        "",
        ".registry",
        ".protocols",
        ".errors",
        ".paths",
        ".config",
        ".artifacts.pretrained",
        ".artifacts.hub",
    )
)
"""Modules that hold no arithmetic: a change there does not make a stored number stale."""

DECIDING = ("torch", "numpy", "scipy", "transformers", "tokenizers", "diffusers", "soxr")
"""Distributions whose version is part of a unit's key: those that do arithmetic or cut texts into tokens."""
RECORDED = (*DECIDING, "torchmetrics", "symusic")


def versions(names: tuple[str, ...] = RECORDED) -> dict[str, str]:
    """Installed versions of melody, Python and the named distributions."""
    found = {"melody": __version__, "python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def deciding_versions() -> dict[str, str]:
    """Versions for a unit's key; a distribution that is not installed is *absent*."""
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
    """What of a device is part of a unit's key: the kind of hardware whose arithmetic is alike."""
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
    module = inspect.getmodule(entry.component)
    return {
        "name": entry.name,
        "origin": entry.origin,
        "version": entry.version or __version__,
        "source": source_hash(module.__name__) if module else "",
        # What a component declares of itself, where its arithmetic may live outside Python files.
        "declared": str(getattr(entry.component, "version", "")),
    }


def makings_facts(made: Makings) -> dict[str, Any]:
    """What identifies a system's preset in a key: its content, and every component that it names."""
    content = json.dumps(made.content, sort_keys=True)
    return {
        "preset": hashlib.sha256(content.encode()).hexdigest(),
        "components": {role: component_facts(registry(kind), name) for role, (kind, name) in made.components.items()},
    }


def weights_hash(parts: Mapping[str, str]) -> str:
    """SHA-256 over the hashes of the weights of all parts."""
    return hashlib.sha256("".join(f"{part}:{one};" for part, one in parts.items()).encode()).hexdigest()


@lru_cache(maxsize=256)
def source_hash(module: str) -> str:
    """SHA-256 over the source of a module and of all that it imports from ``melody`` and beside itself.

    A plug-in is also known by the versions of the distributions that it imports.
    """
    digest = hashlib.sha256()
    for name, source in sorted(_closure(module).items()):
        digest.update(f"{name}:{hashlib.sha256(source).hexdigest()};".encode())
    return digest.hexdigest()[:32]


def _closure(module: str) -> dict[str, bytes]:
    seen: dict[str, bytes] = {}
    waiting, root = [module], module.split(".")[0]
    while waiting:
        name = waiting.pop()
        path = _source_file(name)
        if name in seen or path is None:
            continue
        seen[name] = path.read_bytes()
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for found in _imports(seen[name], package):
            top = found.split(".")[0]
            if top in ("melody", root) or (_is_plugin(name) and _lies_beside(top, root)):
                waiting += [] if found in SEAMS else [found]
            elif _is_plugin(name):
                seen |= {one: version(one).encode() for one in _distributions().get(top, ())}
    return seen


def _is_plugin(module: str) -> bool:
    return module.split(".")[0] != "melody"


def _lies_beside(top: str, root: str) -> bool:
    """Whether a module is the plug-in author's own: of the same distribution, or of none, as files on the path are."""
    if top in sys.stdlib_module_names:
        return False
    of = _distributions()
    return top not in of or bool(set(of[top]) & set(of.get(root, ())))


@lru_cache(maxsize=1)
def _distributions() -> Mapping[str, list[str]]:
    """Distributions by the top-level modules that they install."""
    return packages_distributions()


@lru_cache(maxsize=1024)
def _imports(source: bytes, package: str) -> list[str]:
    """Names that may be modules; relative ones count from ``package``."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
            origin = ".".join([*above, node.module] if node.module else above)
            # ``from melody.diffusion import angles`` names a module too.
            names += [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
    return names


@lru_cache(maxsize=512)
def _source_file(module: str) -> Path | None:
    loaded: ModuleType | None = sys.modules.get(module)
    if loaded is not None:
        origin = getattr(loaded, "__file__", None)
    else:
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, AttributeError, ValueError):
            return None
        origin = spec.origin if spec else None
    return Path(origin) if origin and origin.endswith(".py") and Path(origin).is_file() else None
