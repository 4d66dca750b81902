"""Write ``docs/reference-*.md``: every key of presets, suites, thresholds and results, from the models that read them.

Run it after a change of a model, in a checkout: ``python docs/reference.py``.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from melody.config import ROLES, Component, Preset
from melody.gate.thresholds import Thresholds
from melody.registry import Registry, _bounds, _type_name
from melody.reproduce.results import Results
from melody.reproduce.suite import FullRun, Suite

FOLDER = Path(__file__).resolve().parent
HEAD = "| key | type | default | what it is |\n|---|---|---|---|"


@dataclass(frozen=True)
class Page:
    """One page: a file's kind, and the models of its tables."""

    name: str
    title: str
    intro: str
    models: tuple[type[BaseModel], ...]
    components: bool = False


PAGES = (
    Page(
        "presets",
        "Preset files",
        "A preset is a TOML file: one of `melody/presets`, or any path as `--preset FILE.toml`. With `base = "
        "\"demo\"` it takes over whatever it does not say; a component's table replaces the base's whole "
        'one. `unset = ["training.vae.restart_at"]` takes keys of the base back to their defaults. Parts that stay as '
        "they are in the base have the weights that ship with it. `--set KEY=VALUE` changes one key for one command.",
        (Preset,),
        components=True,
    ),
    Page(
        "suites",
        "Suite files",
        "A suite is a TOML file, as those of `eval/suites`: one table to fill. `melody reproduce FILE.toml` fills it.",
        (Suite, FullRun),
    ),
    Page(
        "thresholds",
        "Thresholds files",
        "A TOML file, as those of `eval/thresholds`: what `melody gate RESULTS -t FILE.toml` holds results to.",
        (Thresholds,),
    ),
    Page("results", "Results", "What `results.json` holds, as `melody reproduce` writes it.", (Results,)),
)


def page_of(page: Page) -> str:
    """The page as Markdown."""
    blocks = [f"# {page.title}", textwrap.fill(page.intro, 120), "Written by `python docs/reference.py`; do not edit."]
    for model in page.models:
        for place, table in tables_of(model):
            blocks.append(_table(place, table))
    if page.components:
        blocks.append("# Components\n\nA component's table names it by `use`; the other keys are its arguments.")
        blocks += [_arguments(role, kind, name) for role, kind in ROLES.items() for name in _ours(kind)]
    return "\n\n".join(blocks) + "\n"


def tables_of(
    model: type[BaseModel], place: str = "", seen: tuple[Any, ...] = ()
) -> Iterator[tuple[str, type[BaseModel]]]:
    """A model and those of its tables, each with its place, as in ``training.vae`` or ``columns[].conditions[]``."""
    yield place, model
    for name, field in model.model_fields.items():
        for table, suffix in _models_in(field.annotation):
            if table not in (Component, *seen):
                yield from tables_of(table, f"{place}.{name}{suffix}".lstrip("."), (*seen, model))


def _models_in(annotation: Any, suffix: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation, suffix
        return
    origin = getattr(annotation, "__origin__", None)
    inner = "[]" if origin in (tuple, list) else ".NAME" if origin is dict else ""
    for argument in get_args(annotation):
        yield from _models_in(argument, suffix + inner)


def _table(place: str, model: type[BaseModel]) -> str:
    told = {name: text for base in reversed(model.__mro__) for name, text in documented(base).items()}
    head = f"## `{place}`" if place else "## At the top"
    rows = [
        f"| `{name}` | {_cell(_type_of(field))} | {_default(field)} | {_cell(told.get(name, ''))} |"
        for name, field in model.model_fields.items()
    ]
    return "\n".join([head, "", _cell(inspect.getdoc(model) or ""), "", HEAD, *rows])


def documented(model: type) -> dict[str, str]:
    """The docstrings under a class's own attributes."""
    if model.__module__ in ("builtins", "typing", "abc") or model.__module__.startswith("pydantic"):
        return {}
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for node, after in zip(definition.body, definition.body[1:], strict=False):
        text = after.value if isinstance(after, ast.Expr) else None
        if isinstance(node, ast.AnnAssign) and isinstance(text, ast.Constant) and isinstance(text.value, str):
            found[node.target.id] = inspect.cleandoc(text.value)  # type: ignore[union-attr]
    return found


def _ours(kind: Registry) -> list[str]:
    """Names of the components of this package, whose pages do not hang on what is installed beside it."""
    return [entry.name for entry in kind.entries() if entry.in_tree]


def _arguments(role: str, kind: Registry, name: str) -> str:
    rows = [
        f"| `{p.name}` | {_cell(p.type)} | {'required' if p.default is ... else _cell(repr(p.default), code=True)} | |"
        for p in kind.parameters(name)
    ]
    return "\n".join([f'## `[{role}]` `use = "{name}"`', "", _cell(kind.entry(name).sentence), "", HEAD, *rows])


def _type_of(field: Any) -> str:
    bounds = _bounds(field.metadata)
    name = re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])", "", _type_name(field.annotation))
    return f"{name}, {bounds}" if bounds else name


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.default if field.default is not PydanticUndefined else field.default_factory()
    if isinstance(value, BaseModel) or value in ({}, ()):
        return ""
    return _cell(repr(value), code=True)


def _cell(text: str, *, code: bool = False) -> str:
    plain = " ".join(text.replace("``", "`").split()).replace("|", "\\|")
    return f"`{plain}`" if code else plain


def main() -> None:
    """Write all pages."""
    for page in PAGES:
        (FOLDER / f"reference-{page.name}.md").write_text(page_of(page), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
