"""Rows that a run asks for beside its own preset's: systems, presets of ours, components in a role of the preset.

A suite's axes name presets and components too: each of their values makes a system, which is no row by itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from melody.artifacts.weights import stored_component
from melody.baselines.melody_system import MelodySystem
from melody.config import ROLES, Component, Preset, load_preset, with_changes
from melody.documents import read_toml
from melody.errors import MelodyError
from melody.pipeline import check_weights, has_weights, part_file, weight_files
from melody.reproduce.suite import Scalar, Suite

VARIANT_AXES = ("preset", *ROLES)
"""Axes of rows whose values make another system of ours: a preset, or a component in a role."""


@dataclass(frozen=True)
class RequestedRow:
    """A system, or a preset of ours with components: what is asked for under each name."""

    choices: tuple[tuple[str, str], ...]
    """``system``, or one or more of ``VARIANT_AXES``; with ``NAME`` or ``NAME=WEIGHTS``, of a system or a preset also
    a TOML file."""
    suite: str = ""
    """The suite whose axes ask for it; empty for an option, which makes a row of its own."""

    def __str__(self) -> str:
        if self.suite:
            return f"suite {self.suite}: {variant_name(dict(self.choices))}"
        return " ".join(f"--{axis.replace('_', '-')} {text}" for axis, text in self.choices)

    @property
    def is_of_ours(self) -> bool:
        """Whether it is a preset of ours, or the run's with another component."""
        return "system" not in dict(self.choices)

    @property
    def system(self) -> str:
        """Registered name of the system that it is run by; empty of a file that names none."""
        text = dict(self.choices).get("system")
        if text is None:
            return MelodySystem.name
        if text.endswith(".toml"):
            return str(read_toml(Path(text)).get("use", ""))
        return text.partition("=")[0]

    def preset(self, own: Preset) -> Preset:
        """The preset that it is run by, whose size needs no weights; raises ``MelodyError`` for an unknown name."""
        preset = own
        for axis, text in self.choices:
            preset = (
                load_preset(text.partition("=")[0]) if axis == "preset" else self._with_component(preset, axis, text)
            )
        return preset

    def arguments(self, own: Preset, weights: str | Path | None) -> dict[str, Any]:
        """Arguments of the system ``melody``.

        Args:
            weights: folder or hub id of the run's own preset, for parts that stay its.
        Raises:
            MelodyError: a component that needs weights and is given none, weights that are missing or another's.
        """
        preset, names = self.preset(own), dict(self.choices)
        parts = {role: where for role, text in self.choices if role != "preset" and (where := text.partition("=")[2])}
        if "preset" in names:
            weights = names["preset"].partition("=")[2] or None
        base = load_preset(names["preset"].partition("=")[0]) if "preset" in names else own
        for role, text in self.choices:
            if role == "preset" or role in parts or getattr(base, role).use == text:
                continue
            if has_weights(preset, role):
                expected = str(self).replace(text, f"{text}=FOLDER_OR_HUB_ID")
                raise MelodyError(f"{self}: {text!r} needs its weights: expected {expected}")
        check_weights(preset, weight_files(preset, weights, parts))
        given = {"weights": weights, "parts": parts}
        return {"preset": preset, **{name: value for name, value in given.items() if value}}

    def title(self, own: Preset) -> str:
        """As tables call it."""
        if self.suite or len(self.choices) > 1:
            return variant_name(dict(self.choices), own)
        ((axis, text),) = self.choices
        return self.preset(own).label if axis == "preset" else text.partition("=")[0]

    def _with_component(self, preset: Preset, role: str, text: str) -> Preset:
        """The preset with another component in a role: as its weights say, or by its defaults if it has none."""
        name, given, where = text.partition("=")
        ROLES[role].entry(name)
        if not given:
            return preset if getattr(preset, role).use == name else with_changes(preset, [f"{role}.use={name}"])
        path = part_file(role, where)
        stored = stored_component(path)
        if stored.get("use") != name:
            raise MelodyError(f"{self}: {path} holds weights of {stored.get('use')!r}, not of {name!r}")
        arguments = ROLES[role].validate(name, stored["arguments"], where=str(path))
        changes = (*preset.changes, f"{role}.use={name}")
        return preset.model_copy(update={role: Component(use=name, arguments=arguments), "changes": changes})


def requested_rows(
    systems: Sequence[str], presets: Sequence[str], components: Mapping[str, Sequence[str]]
) -> list[RequestedRow]:
    """All rows that options ask for."""
    options = {"system": systems, "preset": presets, **components}
    return [RequestedRow(((option, text),)) for option, texts in options.items() for text in texts]


def rows_of_axes(suite: Suite, own: Preset) -> Iterator[RequestedRow]:
    """Systems that the axes of a suite make; the run's own is none of them."""
    axes = [axis for axis in VARIANT_AXES if axis in suite.axes]
    for values in itertools.product(*(suite.axes[axis] for axis in axes)):
        if choices := _beside(dict(zip(axes, values, strict=True)), own):
            yield RequestedRow(tuple(choices.items()), suite.name)


def variant_name(row: Mapping[str, Scalar], own: Preset | None = None) -> str:
    """The system that a row's preset and components make: the run's own where they are the own preset's.

    >>> variant_name({"denoiser": "unet=runs/unet", "num_steps": 5})
    'denoiser = unet=runs/unet'
    >>> variant_name({"num_steps": 5})
    'melody'
    """
    return ", ".join(f"{axis} = {text}" for axis, text in _beside(row, own).items()) or MelodySystem.name


def _beside(row: Mapping[str, Scalar], own: Preset | None) -> dict[str, str]:
    """A row's preset and components, but for those that are the run's own."""
    choices = {axis: str(row[axis]) for axis in VARIANT_AXES if axis in row}
    if own is None:
        return choices
    if choices.get("preset") == own.name:
        del choices["preset"]
    if "preset" in choices:
        return choices
    return {role: text for role, text in choices.items() if getattr(own, role).use != text}
