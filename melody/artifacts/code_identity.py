"""What identifies code: the syntax trees of a module and of all that it imports, without comments and docstrings.

A number that was computed is found again as long as the code that computes it is the same. Comments, layout,
docstrings, and imports that only type checkers follow are not part of it. Our own modules are followed, and so are the
modules of a plug-in's distribution; another distribution that a plug-in imports is known by its version. A plug-in's
compiled module (an extension, byte code without a source) is known by its bytes, and by the modules that its names come
from.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import packages_distributions, version
from pathlib import Path
from types import ModuleType
from typing import Any

BYTE_CODE_HEADER = 16
"""Bytes that say when and of what a ``.pyc`` was compiled (PEP 552)."""
SEAMS = frozenset(
    f"melody{name}"
    for name in (
        "",
        ".registry",
        ".protocols",
        ".errors",
        ".paths",
        ".bounds",
        ".checks",
        ".config",
        ".devices",
        ".documents",
        ".extras",
        ".plugins",
        ".threads",
        ".artifacts.code_identity",
        ".artifacts.files",
        ".artifacts.hub",
        ".artifacts.makings",
        ".artifacts.pretrained",
        ".artifacts.provenance",
        ".artifacts.store",
        ".evaluation.entries",
        ".evaluation.result",
        ".listening.schema",
        ".reproduce.executor",
        ".reproduce.jobs.job",
        ".reproduce.results",
        ".reproduce.suite",
        ".reproduce.systems",
    )
)
"""Modules that hold no arithmetic: a change there does not make a stored number stale."""


@lru_cache(maxsize=256)
def source_hash(module: str) -> str:
    """SHA-256 over the code of a module and of all that it imports from ``melody`` and beside itself."""
    lines = (f"{name}:{identity};" for name, identity in sorted(closure(module).items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:32]


def closure(module: str) -> dict[str, str]:
    """What a module's code hangs on: the hash of each module, and the version of each distribution, by name."""
    known: dict[str, str] = {}
    waiting, root = [module], module.split(".")[0]
    while waiting:
        name = waiting.pop()
        content = None if name in known else _content(name)
        if content is None:
            continue
        known[name], imported = _identified(name, *content)
        for candidate in imported:
            top = candidate.split(".")[0]
            if top in ("melody", root) or (_is_plugin(name) and _lies_beside(top, root)):
                waiting += [] if candidate in SEAMS else [candidate]
            elif _is_plugin(name):
                known |= {distribution: version(distribution) for distribution in _distributions().get(top, ())}
    return known


def is_known(module: str) -> bool:
    """Whether there is a file of a module's code; there is none of what is typed into a notebook."""
    return _content(module) is not None


def tree_hash(path: Path) -> str:
    """SHA-256 of the code of one file, whatever it imports."""
    return _parsed(path.read_bytes(), "")[0]


@lru_cache(maxsize=1024)
def _parsed(source: bytes, package: str) -> tuple[str, tuple[str, ...]]:
    """The hash of a module's syntax tree, and the names that it imports."""
    tree = _Bare().visit(ast.parse(source))
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), tuple(_imports(tree, package))


def _identified(name: str, origin: str, content: bytes) -> tuple[str, Sequence[str]]:
    """The hash of a module, and the names that it imports."""
    path = Path(origin)
    if path.suffix == ".py":
        return _parsed(content, name if path.stem == "__init__" else name.rpartition(".")[0])
    code = content[BYTE_CODE_HEADER:] if path.suffix == ".pyc" else content
    return hashlib.sha256(code).hexdigest(), _origins(sys.modules.get(name))


def _origins(module: ModuleType | None) -> list[str]:
    """The modules that a module's names come from."""
    names = []
    for value in vars(module).values() if module else ():
        with suppress(Exception):  # whatever a foreign object's attributes do
            names.append(str(value.__name__ if isinstance(value, ModuleType) else value.__module__))
    return names


class _Bare(ast.NodeTransformer):
    """A syntax tree without docstrings (of names too) and without what type checkers alone read."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        name = node.test.attr if isinstance(node.test, ast.Attribute) else getattr(node.test, "id", "")
        return node.orelse if name == "TYPE_CHECKING" else node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom | None:
        return None if node.module == "__future__" else node


def _imports(tree: ast.AST, package: str) -> list[str]:
    """Names that may be modules; relative ones count from ``package``."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
            origin = ".".join([*above, node.module] if node.module else above)
            # ``from melody.diffusion import angles`` names a module too.
            names += [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
    return names


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


def _content(module: str) -> tuple[str, bytes] | None:
    """A module's file, or its member of an archive, and what is in it; ``None`` if there is none."""
    origin, loader = _file_of(module)
    try:
        return None if origin is None else (origin, Path(origin).read_bytes())
    except OSError:
        with suppress(Exception):
            return str(origin), bytes(loader.get_data(origin))
    return None


@lru_cache(maxsize=512)
def _file_of(module: str) -> tuple[str | None, Any]:
    """Where a module's code is, and what loads it."""
    loaded: ModuleType | None = sys.modules.get(module)
    if loaded is not None:
        return getattr(loaded, "__file__", None), getattr(loaded, "__loader__", None)
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, AttributeError, ValueError):
        return None, None
    return (spec.origin, spec.loader) if spec and spec.has_location else (None, None)
