"""Which systems a run compares, beside the preset's own: what identifies each, and how it is loaded.

Every system of ours whose weights for the preset are shipped, every plug-in, and what the command line names. A system
is identified by content (source, versions, hashes of files); one whose files decide all is loaded only when one of its
units must be computed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pydantic import Field

from melody import registry
from melody.config import Preset, Strict, parse, read_toml
from melody.errors import MelodyError
from melody.harness.provenance import component_facts
from melody.harness.units import one_line
from melody.paths import PACKAGE
from melody.protocols import System
from melody.registry import Entry
from melody.weights import file_hash

OWN = "melody"
"""The system that a run's preset is."""
PLACES = ("weights", "folder", "path")
"""Constructor arguments that ``--system NAME=WHERE`` may mean, the first that there is."""
OTHER_NAMES = "give it another title in a TOML file (use, title, arguments)"


@dataclass(eq=False)
class SystemUnderTest:
    """A system as a row of tables."""

    name: str
    """As tables call it, such as ``musiclm`` or ``folder:my-clips``."""
    use: str
    """As registered."""
    abilities: frozenset[str] = frozenset()
    takes: frozenset[str] = frozenset()
    """Options of its ``generate``."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Those that are set, whatever a suite says."""
    load: Callable[[], System] = field(default=System, repr=False)
    identify: Callable[[], dict[str, Any]] = field(default=dict, repr=False)
    known_by_content: bool = True
    """Whether ``identity`` is all, or what the loaded system says of itself belongs to it."""
    wanted: bool = False
    """Asked for by name: what is wrong with it ends the run, and not only its row."""
    absent: str = ""
    """Why it cannot be a row."""

    @cached_property
    def identity(self) -> dict[str, Any]:
        return self.identify()


class Declared(Strict):
    """``--system FILE.toml``: a system with its arguments."""

    use: str
    title: str = ""
    arguments: dict[str, Any] = Field(default_factory=dict)
    options: dict[str, str | int | float] = Field(default_factory=dict)
    """Of its ``generate``."""


@dataclass(frozen=True)
class Surroundings:
    """What systems of a run share."""

    preset: Preset
    own: Mapping[str, Any]
    """What identifies the preset and its weights, of which our other systems take parts."""
    device: str


def systems_of(around: Surroundings, asked: Sequence[str] = ()) -> dict[str, SystemUnderTest]:
    """All systems of a run but the preset's own, by name.

    Args:
        asked: ``NAME``, ``NAME=WEIGHTS`` or the path of a TOML file, each.
    Raises:
        MelodyError: an unknown system, a missing folder or file, two systems of one name.
    """
    systems = {}
    for entry in registry.systems.entries():
        if entry.name != OWN and (not entry.in_tree or _ships_weights(entry)):
            systems[entry.name] = _by_itself(entry, around)
    named: dict[str, SystemUnderTest] = {}
    for text in asked:
        if text == OWN:  # it is in every table already
            continue
        one = _asked_for(_declared(text), around)
        if one.name in named or one.name == OWN:
            raise MelodyError(f"--system {text}: there are two systems {one.name!r}; {OTHER_NAMES}")
        named[one.name] = one
    return systems | named


def shipped_folder(name: str, preset: str) -> Path:
    """Where weights of a system of ours would be shipped."""
    return PACKAGE / "presets" / "weights" / name / preset


def _ships_weights(entry: Entry) -> bool:
    """Whether a system of the tree takes a preset, and so weights that are shipped; others must be asked for."""
    return any(parameter.name == "preset" for parameter in registry.systems.parameters(entry.name))


def _by_itself(entry: Entry, around: Surroundings) -> SystemUnderTest:
    if entry.error:
        return SystemUnderTest(entry.name, entry.name, absent=f"system {entry.name!r} cannot be used: {entry.error}")
    required = [p.name for p in registry.systems.parameters(entry.name) if p.default is ...]
    if missing := [name for name in required if name not in ("preset", "device")]:
        why = f"system {entry.name!r} needs {missing[0]!r}: ask for it with --system {entry.name}=…"
        return SystemUnderTest(entry.name, entry.name, absent=why)
    try:
        one = _under_test(Declared(use=entry.name), around)
    except MelodyError as error:
        if entry.in_tree:
            raise
        return SystemUnderTest(entry.name, entry.name, absent=f"system {entry.name!r} cannot be used: {error}")
    if entry.in_tree and not _is_shipped(entry.name, around):
        one.absent = f"not run: no weights of system {entry.name!r} for preset {around.preset.name!r} are shipped"
    return one


def _is_shipped(name: str, around: Surroundings) -> bool:
    return any(shipped_folder(name, around.preset.name).glob("*.safetensors"))


def _declared(text: str) -> Declared:
    """What ``--system`` asks for."""
    if text.endswith(".toml"):
        found = parse(Declared, read_toml(Path(text)), text)
        registry.systems.entry(found.use)
        return found
    name, given, where = text.partition("=")
    entry = registry.systems.entry(name)
    needed = {parameter.name: parameter.default is ... for parameter in registry.systems.parameters(name)}
    place = next((one for one in PLACES if one in needed), None)
    if not given and place is not None and needed[place]:
        said = getattr(entry.component, "weights_from", "")
        source = f"; they are {said}" if said else f" ({entry.sentence})"
        wanted = "FOLDER_OR_HUB_ID" if place == "weights" else place.upper()
        raise MelodyError(f"system {name!r} needs its {place}: --system {name}={wanted}{source}")
    if not given:
        return Declared(use=name)
    if place is None:
        takes = ", ".join(needed) or "nothing"
        raise MelodyError(f"--system {text}: system {name!r} takes no weights and no folder (it takes: {takes})")
    title = f"{name}:{Path(where).resolve().name}" if place == "folder" or name == OWN else name
    return Declared(use=name, title=title, arguments={place: where})


def _asked_for(declared: Declared, around: Surroundings) -> SystemUnderTest:
    one = _under_test(declared, around)
    one.wanted = True
    entry = registry.systems.entry(one.use)
    takes_shipped = entry.in_tree and _ships_weights(entry) and not set(declared.arguments) & set(PLACES)
    if takes_shipped and not _is_shipped(one.use, around):
        raise MelodyError(
            f"system {one.use!r} has no shipped weights for preset {around.preset.name!r}; "
            f"give their folder: --system {one.use}=FOLDER"
        )
    return one


def _under_test(declared: Declared, around: Surroundings) -> SystemUnderTest:
    use = declared.use
    kind = registry.systems.get(use)
    names = [parameter.name for parameter in registry.systems.parameters(use)]
    # Other systems have presets of their own, of the same names.
    preset = around.preset if use == OWN else around.preset.name
    given = {name: value for name, value in (("preset", preset), ("device", around.device)) if name in names}
    where = f"system {declared.title or use!r}"
    arguments = registry.systems.validate(use, {**given, **declared.arguments}, where=where)
    content = _places(use, arguments, around)
    return SystemUnderTest(
        name=declared.title or use,
        use=use,
        abilities=kind.abilities,
        takes=kind.options,
        options=declared.options,
        load=partial(registry.systems.create, use, {**given, **declared.arguments}, where=where),
        identify=partial(_identity, use, arguments, content, around.own if "preset" in names else {}),
        # What takes a preset is decided by more than its weights' files, which only it can say.
        known_by_content=bool(content) and "preset" not in names,
    )


def _places(use: str, arguments: Mapping[str, Any], around: Surroundings) -> dict[str, Path]:
    """Files and folders that decide a system's bits, by argument."""
    given = {name: value for name, value in arguments.items() if name != "preset" and isinstance(value, str | Path)}
    places = {name: Path(value).expanduser() for name, value in given.items() if Path(value).expanduser().exists()}
    if not places and _is_shipped(use, around):
        return {"weights": shipped_folder(use, around.preset.name)}
    return places


def _identity(
    use: str, arguments: Mapping[str, Any], places: Mapping[str, Path], own: Mapping[str, Any]
) -> dict[str, Any]:
    """Content that decides a system's bits, without loading it."""
    plain = {name: value for name, value in arguments.items() if name not in ("preset", "device", *places)}
    return {
        "component": component_facts(registry.systems, use),
        "arguments": {name: value if _is_json(value) else str(value) for name, value in plain.items()},
        "files": {name: content_hash(path) for name, path in places.items()},
        "preset": dict(own),
    }


def _is_json(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool | list | dict)


def content_hash(path: Path) -> str:
    """SHA-256 of a file, or over the names and contents of a folder's files, but hidden ones and texts (.md).

    Raises:
        MelodyError: something cannot be read.
    """
    try:
        if path.is_file():
            return file_hash(path)
        seen = (one for one in path.rglob("*") if not one.name.startswith(".") and one.suffix != ".md")
        files = sorted(one for one in seen if one.is_file())
        lines = "".join(f"{one.relative_to(path)}:{file_hash(one)};" for one in files)
    except OSError as error:
        raise MelodyError(f"cannot read {error.filename or path}: {error.strerror or one_line(error)}") from None
    return hashlib.sha256(lines.encode()).hexdigest()
