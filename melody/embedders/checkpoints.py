"""Weights that other projects published: where they lie on this machine, and a model filled from them or not at all.

Nothing is fetched that is not asked for: a path is read in place, a hub id (``OWNER/NAME``) is fetched into the hub's
own cache, and without either the folder of the environment variable ``MELODY_EMBEDDERS`` is looked into.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from melody.artifacts.files import file_hash
from melody.artifacts.hub import local_folder
from melody.artifacts.weights import fill
from melody.errors import MelodyError

FOLDER_VARIABLE = "MELODY_EMBEDDERS"
FILE_SUFFIXES = frozenset({".safetensors", ".pt", ".pth", ".bin", ".ckpt"})
"""What is spelt so is a file that is missing, not a hub id, which may have dots too (``OWNER/NAME@v1.0``)."""
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Published:
    """Weights of one embedder as they are published."""

    embedder: str
    """Its registered name."""
    files: tuple[str, ...]
    """What the file may be called, the preferred one first; the last is its published name."""
    source: str
    """Where it usually comes from."""

    def missing(self, problem: str) -> MelodyError:
        """The error that says what is missing, where it comes from, and how to give it."""
        return MelodyError(
            f"{self.embedder}: {problem}; expected {self.files[-1]}, usually from {self.source}, given as "
            f"{self.embedder}:weights=PATH (a file, a folder, or a hub id OWNER/NAME), or in the folder that "
            f"{FOLDER_VARIABLE} names"
        )


def weights_file(published: Published, weights: str) -> Path:
    """The file of an embedder's weights.

    Args:
        weights: a file, a folder with one of the published files, a hub id, or empty for ``MELODY_EMBEDDERS``.
    Raises:
        MelodyError: there is none; the message names the file, its usual source and the option.
    """
    path = Path(weights).expanduser()
    if weights and path.is_file():
        return path
    folder = weights_folder(published, weights)
    present = [folder / name for name in published.files if (folder / name).is_file()]
    if not present:
        raise published.missing(f"there is none of {', '.join(published.files)} in {folder}")
    return present[0]


def weights_folder(published: Published, weights: str) -> Path:
    """The folder that the files lie in; ``MELODY_EMBEDDERS/NAME`` goes before ``MELODY_EMBEDDERS`` itself."""
    if weights:
        path = Path(weights).expanduser()
        if path.is_dir():
            return path
        if path.suffix in FILE_SUFFIXES or not _is_hub_id(weights):
            raise published.missing(f"there is no file or folder {weights}")
        return local_folder(weights, (*published.files, "*.json"))
    if not os.environ.get(FOLDER_VARIABLE):
        raise published.missing("no weights were given")
    folder = Path(os.environ[FOLDER_VARIABLE]).expanduser()
    if not folder.is_dir():
        raise published.missing(f"{FOLDER_VARIABLE} names {folder}, which is no folder")
    own = folder / published.embedder
    return own if own.is_dir() else folder


def _is_hub_id(text: str) -> bool:
    return text.count("/") == 1 and not text.startswith((".", "/", "~"))


def filled(build: type[Network], tensors: Mapping[str, Tensor], where: str) -> Network:
    """Build a network without memory of its own and fill it; for inference.

    Raises:
        MelodyError: a tensor is missing, unknown, not finite or of another shape.
    """
    with torch.device("meta"):
        network = build()
    fill(network, {name: as_float32(tensor) for name, tensor in tensors.items()}, where, assign=True)
    return network.eval().requires_grad_(False)


def as_float32(tensor: Tensor) -> Tensor:
    """A copy, floating-point weights of any precision as float32.

    A copy, because what lies in a mapped file may be aligned in any way, and then other kernels give other last bits.
    """
    return tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)


def load_transformers(published: Published, model_class: Any, folder: Path) -> Any:
    """A model of transformers from a folder with ``config.json`` and ``model.safetensors``; for inference, float32.

    Raises:
        MelodyError: no such files, another kind of model, or a tensor that is missing: transformers itself would warn
            and fill it with random numbers.
    """
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise published.missing(f"{folder} has no config.json with *.safetensors (pickles are never opened)")
    try:
        model, report = model_class.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True, dtype=torch.float32
        )
    except Exception as error:  # damaged files fail in many ways, in three libraries
        reason = " ".join(str(error).split())[:200]
        raise MelodyError(f"{published.embedder}: cannot load {folder}: {type(error).__name__}: {reason}") from None
    if missing := sorted(report["missing_keys"]):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise MelodyError(f"{published.embedder}: {folder} lacks tensor {missing[0]!r}{more}: another kind of model?")
    return model.eval().requires_grad_(False)


def folder_hash(folder: Path) -> str:
    """SHA-256 over the weights and configs of a folder, by name and content."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*config.json")]):
        digest.update(f"{path.name}:{file_hash(path)};".encode())
    return digest.hexdigest()
