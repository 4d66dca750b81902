"""Which systems a run compares, beside the preset's own: what identifies each, and how it is loaded.

Every system of ours whose weights for the preset are shipped, every plug-in, and what the command line names. A system
is identified by content (source, versions, hashes of files); one whose files decide all is loaded only when one of its
jobs must be computed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pydantic import Field

from melody import registry
from melody.artifacts.files import file_hash
from melody.artifacts.makings import Makings
from melody.artifacts.provenance import component_facts, makings_facts, weights_hash
from melody.config import FrozenModel, Preset, parse
from melody.documents import read_toml
from melody.errors import MelodyError, one_line
from melody.paths import PACKAGE
from melody.protocols import System
from melody.registry import Entry
from melody.reproduce.requested import RequestedRow

OWN = "melody"
"""The system that a run's preset is."""
PLACES = ("weights", "folder", "path")
"""Constructor arguments that ``--system NAME=WHERE`` may mean, the first that there is."""
OTHER_NAMES = "give it another title in a TOML file (use, title, arguments)"


@dataclass(eq=False)
class SystemEntry:
    """A system as a row of tables."""

    name: str
    """As tables call it, such as ``musiclm`` or ``folder:my-clips``."""
    use: str
    """As registered."""
    capabilities: frozenset[str] = frozenset()
    takes: frozenset[str] = frozenset()
    """Options of its ``generate``."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Those that are set, whatever a suite says."""
    in_tree: bool = True
    load: Callable[[], System] = field(default=System, repr=False)
    describe: Callable[[], Makings | None] = field(default=lambda: None, repr=False)
    identify: Callable[[], dict[str, Any]] = field(default=dict, repr=False)
    identified_by_files: bool = True
    """Whether ``identity`` is all, or what the loaded system says of itself belongs to it."""
    required: bool = False
    """Asked for by name: what is wrong with it ends the run, and not only its row."""
    unavailable_reason: str = ""
    """Why it cannot be a row."""
    requested: RequestedRow | None = None
    """What asked for it; nothing, where it is there by itself."""
    definition: Preset | None = None
    """The preset of ours that it is run by, if it is."""

    @property
    def is_row(self) -> bool:
        """Whether it is a row of every table of systems; what only a suite asks for is a row of that suite."""
        return self.requested is None or not self.requested.suite

    @cached_property
    def identity(self) -> dict[str, Any]:
        return self.identify()

    @cached_property
    def makings(self) -> Makings | None:
        return self.describe()

    @property
    def preset(self) -> str:
        """Name of its own preset; empty if it has none."""
        return self.makings.preset if self.makings else ""

    @property
    def weights(self) -> str | None:
        """SHA-256 over its weights, or of the files that it was given."""
        if "weights" in self.identity:
            return weights_hash(self.identity["weights"])
        return next(iter(self.identity.get("files", {}).values()), None)


class SystemSpec(FrozenModel):
    """``--system FILE.toml``: a system with its arguments."""

    use: str
    title: str = ""
    arguments: dict[str, Any] = Field(default_factory=dict)
    options: dict[str, str | int | float] = Field(default_factory=dict)
    """Of its ``generate``."""


@dataclass(frozen=True)
class RunDefaults:
    """What systems of a run share."""

    preset: Preset
    device: str
    weights: str | Path | None = None
    """Folder or hub id of the preset's own weights; without it, those that ship."""


def systems_of(around: RunDefaults, asked: Sequence[str | RequestedRow] = ()) -> dict[str, SystemEntry]:
    """All systems of a run but the preset's own, by name.

    Args:
        asked: rows; of a system, its text alone will do.
    Raises:
        MelodyError: an unknown system, a missing folder or file, two systems of one name.
    """
    systems = {}
    for registered in registry.systems.entries():
        if registered.name != OWN and (not registered.in_tree or _ships_weights(registered)):
            systems[registered.name] = _by_itself(registered, around)
    named: dict[str, SystemEntry] = {}
    for row in (RequestedRow((("system", each),)) if isinstance(each, str) else each for each in asked):
        if row.choices == (("system", OWN),):  # it is in every table already
            continue
        entry = _asked_for(_spec_of(row, around), around)
        if entry.name in named or entry.name == OWN:
            raise MelodyError(f"{row}: there are two systems {entry.name!r}; {OTHER_NAMES}")
        entry.requested = row
        named[entry.name] = entry
    return systems | named


def _spec_of(row: RequestedRow, around: RunDefaults) -> SystemSpec:
    """The system that a row is run by, with its arguments."""
    if "system" in dict(row.choices):
        return _declared(row.choices[0][1])
    arguments = row.arguments(around.preset, around.weights)
    return SystemSpec(use=OWN, title=row.title(around.preset), arguments=arguments)


def shipped_folder(name: str, preset: str) -> Path:
    """Where weights of a system of ours would be shipped."""
    return PACKAGE / "presets" / "weights" / name / preset


def _ships_weights(entry: Entry) -> bool:
    """Whether a system of the tree takes a preset, and so weights that are shipped; others must be asked for."""
    return any(parameter.name == "preset" for parameter in registry.systems.parameters(entry.name))


def _by_itself(entry: Entry, around: RunDefaults) -> SystemEntry:
    if entry.error:
        return SystemEntry(
            entry.name, entry.name, unavailable_reason=f"system {entry.name!r} cannot be used: {entry.error}"
        )
    if lacks := registry.systems.lacks(entry.name):
        return SystemEntry(entry.name, entry.name, unavailable_reason=lacks)
    required = [p.name for p in registry.systems.parameters(entry.name) if p.default is ...]
    if missing := [name for name in required if name not in ("preset", "device")]:
        why = f"system {entry.name!r} needs {missing[0]!r}: ask for it with --system {entry.name}=…"
        return SystemEntry(entry.name, entry.name, unavailable_reason=why)
    try:
        one = _under_test(SystemSpec(use=entry.name), around)
    except MelodyError as error:
        if entry.in_tree:
            raise
        return SystemEntry(entry.name, entry.name, unavailable_reason=f"system {entry.name!r} cannot be used: {error}")
    if entry.in_tree and not _is_shipped(entry.name, around):
        one.unavailable_reason = (
            f"not run: no weights of system {entry.name!r} for preset {around.preset.name!r} are shipped"
        )
    return one


def _is_shipped(name: str, around: RunDefaults) -> bool:
    return any(shipped_folder(name, around.preset.name).glob("*.safetensors"))


def _declared(text: str) -> SystemSpec:
    """What ``--system`` asks for."""
    if text.endswith(".toml"):
        found = parse(SystemSpec, read_toml(Path(text)), text)
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
        return SystemSpec(use=name)
    if place is None:
        takes = ", ".join(needed) or "nothing"
        raise MelodyError(f"--system {text}: system {name!r} takes no weights and no folder (it takes: {takes})")
    title = f"{name}:{Path(where).resolve().name}" if place == "folder" or name == OWN else name
    return SystemSpec(use=name, title=title, arguments={place: where})


def _asked_for(declared: SystemSpec, around: RunDefaults) -> SystemEntry:
    if lacks := registry.systems.lacks(declared.use):
        raise MelodyError(f"{lacks} (for --system)")
    one = _under_test(declared, around)
    one.required = True
    if not one.makings or set(declared.arguments) & set(PLACES):
        return one
    if not all(path.is_file() for path in one.makings.weights.values()):
        raise MelodyError(
            f"system {one.use!r} has no shipped weights for preset {one.preset!r}; "
            f"give their folder: --system {one.use}=FOLDER"
        )
    return one


def _under_test(declared: SystemSpec, around: RunDefaults) -> SystemEntry:
    use, entry = declared.use, registry.systems.entry(declared.use)
    kind = entry.component
    names = [parameter.name for parameter in registry.systems.parameters(use)]
    where = f"system {declared.title or use!r}"
    if "device" in declared.arguments:
        raise MelodyError(f"{where}: device is the run's, for every system: give it by --device")
    # Other systems have presets of their own, of the same names.
    preset = around.preset if use == OWN else around.preset.name
    given = {name: value for name, value in (("preset", preset), ("device", around.device)) if name in names}
    arguments = registry.systems.validate(use, {**given, **declared.arguments}, where=where)
    decisive = {name: value for name, value in arguments.items() if name != "device"}
    describe = partial(kind.makings, decisive)
    places = _places(decisive)
    return SystemEntry(
        name=declared.title or use,
        use=use,
        capabilities=kind.capabilities,
        takes=kind.options,
        options=declared.options,
        definition=arguments["preset"] if use == OWN and isinstance(arguments["preset"], Preset) else None,
        in_tree=entry.in_tree,
        load=partial(registry.systems.create, use, {**given, **declared.arguments}, where=where),
        describe=describe,
        identify=partial(_identity, use, declared.title or use, decisive, places, describe),
        # A preset that only the system itself can read decides more than the files that it was given.
        identified_by_files=_tells(kind) or (bool(places) and "preset" not in names),
    )


def _tells(kind: type[System]) -> bool:
    """Whether a system says what it is made of before it is built."""
    return kind.makings.__func__ is not System.makings.__func__  # type: ignore[attr-defined]


def _places(arguments: Mapping[str, Any]) -> dict[str, Path]:
    """Files and folders that decide a system's bits, by argument."""
    given = {name: Path(value).expanduser() for name, value in arguments.items() if isinstance(value, str | Path)}
    # A preset's name may be that of a folder beside, which it does not mean.
    return {name: path for name, path in given.items() if (path.is_file() if name == "preset" else path.exists())}


def _identity(
    use: str,
    name: str,
    arguments: Mapping[str, Any],
    places: Mapping[str, Path],
    describe: Callable[[], Makings | None],
) -> dict[str, Any]:
    """Content that decides a system's bits, without loading it."""
    code = {"component": component_facts(registry.systems, use)}
    if (made := describe()) is not None:
        return {**code, **makings_facts(made), "weights": _part_hashes(name, made)}
    plain = {name: value for name, value in arguments.items() if name not in places}
    return {
        **code,
        "arguments": {name: value if _is_json(value) else str(value) for name, value in plain.items()},
        "files": {name: content_hash(path) for name, path in places.items()},
    }


def _part_hashes(name: str, made: Makings) -> dict[str, str]:
    missing = [path.name for path in made.weights.values() if not path.is_file()]
    if missing:
        folder = next(iter(made.weights.values())).parent
        raise MelodyError(f"system {name!r}, preset {made.preset!r}, lacks weights in {folder}: {', '.join(missing)}")
    return {part: content_hash(path) for part, path in made.weights.items()}


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
        lines = "".join(f"{one.relative_to(path)}:{file_hash(one)};" for one in _files_below(path))
    except OSError as error:
        raise MelodyError(f"cannot read {error.filename or path}: {error.strerror or one_line(error)}") from None
    return hashlib.sha256(lines.encode()).hexdigest()


def _files_below(folder: Path) -> list[Path]:
    """Sorted; folders that are linked are gone into, each once."""
    found, seen = [], set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = [Path(place, name) for name in files if not name.startswith(".")]
        found += [path for path in paths if path.suffix != ".md" and path.is_file()]
    return sorted(found)
