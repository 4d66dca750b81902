"""Other values of single keys of a preset, as ``--set`` and ``unset`` ask for them."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from melody.errors import MelodyError, did_you_mean
from melody.registry import Registry

DATA_ARGUMENTS = {
    "codec": ("sample_rate", "hop_length", "latent_dim"),
    "language_model": ("num_prefix_tokens", "prefix_codebook_size", "codebook_size"),
    "denoiser": ("latent_dim", "codebook_size", "frame_rate", "sample_rate"),
}
"""Role -> arguments that say what the data are, so that another component in the role takes them over."""


def keys_to_unset(tables: Mapping[str, Any], where: str) -> list[str]:
    """The keys that a preset takes back to their defaults; raises ``MelodyError`` unless they are a list of texts."""
    keys = tables.get("unset", [])
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise MelodyError(f'{where}: unset is {keys!r}: expected a list of keys, as in ["training.vae.restart_at"]')
    return keys


def changed(
    tables: Mapping[str, Any],
    changes: Sequence[str],
    where: str,
    roles: Mapping[str, Registry],
) -> dict[str, Any]:
    """Tables with other values of single keys: ``KEY=VALUE``, or ``KEY=`` for the key's default.

    A value is read as TOML, and what is no TOML as a text. Another component in a role (``denoiser.use=NAME``) takes
    over the arguments that say what its data are, and has its own defaults beyond them.

    Args:
        where: what asks for the changes, for messages.
        roles: tables that name a component.

    >>> changed({"vae": {"steps": 9, "seed": 1}}, ["vae.steps=5", "vae.seed="], "--set", {})
    {'vae': {'steps': 5}}

    Raises:
        MelodyError: no ``=``, a key within a value, a key taken back that is not set.
    """
    result = copy.deepcopy(dict(tables))
    for change in changes:
        path, sign, value = change.partition("=")
        *parents, key = path.strip().split(".")
        if not sign or not all((*parents, key)):
            raise MelodyError(f"{where} {change}: expected KEY=VALUE, as in training.vae.steps=5")
        table = result
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise MelodyError(f"{where} {change}: {parent!r} is no table, so it has no {key!r}")
        if value:
            table.update(_set(table, path.strip(), key, _value(value), roles))
        elif table.pop(key, change) is change:
            raise MelodyError(f"{where} {change}: {path.strip()!r} is not set{did_you_mean(key, table)}")
    return result


def _set(table: dict[str, Any], path: str, key: str, value: Any, roles: Mapping[str, Registry]) -> dict[str, Any]:
    """What is put into a table; a component's is emptied for another one's."""
    role, _, rest = path.partition(".")
    if rest != "use" or role not in roles or table.get("use") == value:
        return {key: value}
    takes = {parameter.name for parameter in roles[role].parameters(str(value))}
    kept = {name: table[name] for name in DATA_ARGUMENTS.get(role, ()) if name in takes and name in table}
    table.clear()
    return {"use": value, **kept}


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
