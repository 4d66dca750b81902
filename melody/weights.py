"""Weights of one part as a safetensors file: written whole or not at all, read without unpickling.

Floating-point tensors are stored as float16 (half the size of what a user downloads) and computed with as float32.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from melody.errors import MelodyError

FORMAT_VERSION = "1"


def save_weights(module: nn.Module, path: Path, component: dict[str, Any]) -> None:
    """Write a module's tensors to ``path``, with the component (its name and arguments) that they belong to.

    Raises:
        MelodyError: a tensor is not finite, does not fit into float16, or the file cannot be written.
    """
    tensors = {name: _stored(name, tensor) for name, tensor in module.state_dict().items()}
    content = save(tensors, metadata={"format_version": FORMAT_VERSION, "component": canonical(component)})
    write_bytes(path, content)


def load_weights(module: nn.Module, path: Path, component: dict[str, Any]) -> None:
    """Fill a module from ``path``; every tensor must be there, of the right shape, and finite.

    Raises:
        MelodyError: missing or damaged file, another format, weights of another component, NaN.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        raise MelodyError(f"cannot read weights {path}: {reason}") from None
    if metadata.get("format_version") != FORMAT_VERSION:
        raise MelodyError(
            f"{path} has weights of format {metadata.get('format_version')!r}, expected {FORMAT_VERSION!r}"
        )
    if metadata.get("component") != canonical(component):
        raise MelodyError(
            f"{path} holds weights of {metadata.get('component')}, but the preset wants {canonical(component)}"
        )
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise MelodyError(f"{path}: tensor {name!r} holds NaN or infinity")
    try:
        module.load_state_dict({name: t.float() if t.dtype == torch.float16 else t for name, t in tensors.items()})
    except RuntimeError as error:
        raise MelodyError(f"{path} does not fit the component: {' '.join(str(error).split())[:300]}") from None


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical(value: Any) -> str:
    """JSON that is the same for the same content."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; raises ``MelodyError`` if the folder cannot be written or the disk is full."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = file.name
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:  # Ctrl-C too leaves nothing behind
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise MelodyError(f"cannot write {path}: {error.strerror or error}") from None


def _stored(name: str, tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.is_floating_point():
        return tensor.detach().cpu().contiguous()
    half = tensor.detach().cpu().half().contiguous()
    if not torch.isfinite(half).all():
        raise MelodyError(f"tensor {name!r} holds values that are not finite in float16; nothing was written")
    return half
