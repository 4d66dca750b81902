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
from melody.artifacts.weights import stored_component
from melody.config import ROLES, Component, FrozenModel, Preset, load_preset, parse, with_changes
from melody.documents import read_toml
from melody.errors import MelodyError, one_line
from melody.paths import PACKAGE
from melody.pipeline import check_weights, has_weights, part_file, weight_files
from melody.protocols import System
from melody.registry import Entry

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
class RequestedRow:
    """A row that is asked for: a system, a preset of ours, or a component in a role of the run's own preset."""

    option: str
    """``system``, ``preset``, or a role, as in ``language_model``."""
    text: str
    """``NAME`` or ``NAME=WEIGHTS``; of a system or a preset also a TOML file."""

    def __str__(self) -> str:
        return f"--{self.option.replace('_', '-')} {self.text}"

    @property
    def system(self) -> str:
        """Registered name of the system that it is run by; empty of a file that names none."""
        if self.option != "system":
            return OWN
        if self.text.endswith(".toml"):
            return str(read_toml(Path(self.text)).get("use", ""))
        return self.text.partition("=")[0]


def requested_rows(
    systems: Sequence[str], presets: Sequence[str], components: Mapping[str, Sequence[str]]
) -> list[RequestedRow]:
    """All rows that a command line asks for."""
    of_roles = [RequestedRow(role, text) for role, texts in components.items() for text in texts]
    named = [
        RequestedRow(option, text) for option, texts in (("system", systems), ("preset", presets)) for text in texts
    ]
    return [*named, *of_roles]


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
    for entry in registry.systems.entries():
        if entry.name != OWN and (not entry.in_tree or _ships_weights(entry)):
            systems[entry.name] = _by_itself(entry, around)
    named: dict[str, SystemEntry] = {}
    for one_asked in asked:
        row = RequestedRow("system", one_asked) if isinstance(one_asked, str) else one_asked
        if row.text == OWN:  # it is in every table already
            continue
        one = _asked_for(_spec_of(row, around), around)
        if one.name in named or one.name == OWN:
            raise MelodyError(f"{row}: there are two systems {one.name!r}; {OTHER_NAMES}")
        named[one.name] = one
    return systems | named


def _spec_of(row: RequestedRow, around: RunDefaults) -> SystemSpec:
    """The system that a row is run by, with its arguments."""
    if row.option == "system":
        return _declared(row.text)
    return _of_preset(row) if row.option == "preset" else _of_component(row, around)


def _of_preset(row: RequestedRow) -> SystemSpec:
    name, given, where = row.text.partition("=")
    preset = load_preset(name)
    check_weights(preset, weight_files(preset, where if given else None))
    arguments = {"preset": preset} | ({"weights": where} if given else {})
    return SystemSpec(use=OWN, title=preset.label, arguments=arguments)


def _of_component(row: RequestedRow, around: RunDefaults) -> SystemSpec:
    """The run's preset with another component in a role: as its weights say, or by its defaults if it has none."""
    role, (name, given, where) = row.option, row.text.partition("=")
    ROLES[role].entry(name)
    arguments: dict[str, Any] = {} if around.weights is None else {"weights": around.weights}
    if given:
        arguments["parts"] = {role: where}
        preset = _with_stored(around.preset, role, name, part_file(role, where), row)
    else:
        preset = with_changes(around.preset, [f"{role}.use={name}"])
        if has_weights(preset, role):
            raise MelodyError(f"{row}: {name!r} needs its weights: expected {row}=FOLDER_OR_HUB_ID")
    return SystemSpec(use=OWN, title=name, arguments={"preset": preset, **arguments})


def _with_stored(preset: Preset, role: str, name: str, path: Path, row: RequestedRow) -> Preset:
    """The preset with the component that a weights file is of."""
    stored = stored_component(path)
    if stored.get("use") != name:
        raise MelodyError(f"{row}: {path} holds weights of {stored.get('use')!r}, not of {name!r}")
    arguments = ROLES[role].validate(name, stored["arguments"], where=str(path))
    changes = (*preset.changes, f"{role}.use={name}")
    return preset.model_copy(update={role: Component(use=name, arguments=arguments), "changes": changes})


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
