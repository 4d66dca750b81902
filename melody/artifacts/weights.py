"""Weights of one part as a safetensors file: written whole or not at all, read without unpickling.

Floating-point tensors are stored as float16 (half the size of what a user downloads), or as float32 on request, and
computed with as float32.
"""

from __future__ import annotations

import inspect
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from melody.artifacts.files import canonical, write_bytes
from melody.errors import MelodyError, did_you_mean
from melody.tensor_names import installed_names, own_names

FORMAT_VERSION = "2"
READABLE = ("1", FORMAT_VERSION)
"""In the first, tensors that another library's module holds have that library's names."""
Precision = Literal["float16", "float32"]
PRECISIONS: dict[str, torch.dtype] = {"float16": torch.float16, "float32": torch.float32}
SHOWN_DIFFERENCES = 3


class ForeignWeightsError(MelodyError):
    """Weights of another component than the wanted one; ``component`` is theirs."""

    def __init__(self, message: str, component: dict[str, Any]) -> None:
        super().__init__(message)
        self.component = component


def save_weights(
    module: nn.Module,
    path: Path,
    component: dict[str, Any],
    *,
    preset: str | None = None,
    dtype: Precision = "float16",
) -> None:
    """Write a module's tensors to ``path``, with the component (its name and arguments) that they belong to.

    Args:
        preset: name of the preset that they were made for; it helps to tell weights apart and binds nothing.
        dtype: of the stored floating-point tensors.
    Raises:
        MelodyError: a tensor is not finite, does not fit into ``dtype``, or the file cannot be written.
    """
    if dtype not in PRECISIONS:
        raise MelodyError(f"unknown precision {dtype!r}{did_you_mean(str(dtype), PRECISIONS)}")
    installed_names(module)  # raises where a name is not ours
    state = own_names(module, module.state_dict())
    tensors = {name: _stored(name, tensor, PRECISIONS[dtype]) for name, tensor in state.items()}
    # "format": whose tensors they are; transformers and the hub's loaders refuse a file that does not tell.
    metadata = {"format": "pt", "format_version": FORMAT_VERSION, "component": canonical(component).decode()}
    write_bytes(path, save(tensors, metadata=metadata | ({"preset": preset} if preset else {})))


def load_weights(module: nn.Module, path: Path, component: dict[str, Any], *, wanted: str = "the preset") -> None:
    """Fill a module from ``path``; every tensor must be there, of the right shape, and finite.

    Args:
        wanted: who wants ``component``, for messages.
    Raises:
        ForeignWeightsError: weights of another component.
        MelodyError: missing or damaged file, another format, NaN, tensors that do not fit.
    """
    metadata, tensors = read_weights(path)
    stored = _with_later_arguments(_component(metadata, path), component, type(module))
    if canonical(stored) != canonical(component):
        named = f" (preset {metadata['preset']!r})" if "preset" in metadata else ""
        theirs, ours = _difference(stored, component)
        raise ForeignWeightsError(f"{path} holds weights of {theirs}{named}, but {wanted} wants {ours}", stored)
    fill(module, tensors, str(path))


def read_weights(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a file; raises ``MelodyError`` if it is missing, damaged or of another format."""
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise MelodyError(f"cannot read weights {path}: no such file{_pickles_beside(path)}") from None
    except (OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        if isinstance(error, SafetensorError):
            reason = f"truncated, damaged or not safetensors, and pickles are never opened ({reason})"
        raise MelodyError(f"cannot read weights {path}: {reason}") from None
    version = metadata.get("format_version")
    if version not in READABLE:
        problem = f"has weights of format {version!r}" if version else "names no version of the format"
        raise MelodyError(f"{path} {problem}, expected {FORMAT_VERSION!r}")
    return metadata, tensors


def stored_component(path: Path) -> dict[str, Any]:
    """Name and arguments of the component that a file's weights are of; raises ``MelodyError`` as ``read_weights``."""
    return _component(read_weights(path)[0], path)


def read_foreign(path: Path, who: str, wrapper: str = "state_dict") -> dict[str, Tensor]:
    """Tensors by name, from safetensors or from a checkpoint whose pickle may hold tensors and plain data only.

    Args:
        who: the component that wants them, for messages.
        wrapper: key of a checkpoint under which the tensors may lie.
    Raises:
        MelodyError: a damaged file, one that holds code, or none with tensors by name.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_numpy_data()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise MelodyError(
            f"{who}: {path} holds more than tensors and was not opened; convert its {wrapper} to .safetensors"
        ) from None
    except Exception as error:  # a damaged archive fails in many ways; all mean the same to the user
        raise MelodyError(f"{who}: cannot read {path}: {type(error).__name__}") from None
    state = content.get(wrapper, content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise MelodyError(f"{who}: {path} is not a checkpoint: expected tensors by name, or such under {wrapper!r}")
    return dict(state)


def _numpy_data() -> list[Any]:
    """What numpy arrays are pickled with: they hold no code, and published checkpoints have some beside the tensors."""
    array = np.zeros(0)
    names = [array.__reduce__()[0], np.ndarray, np.dtype, np.float64(0).__reduce__()[0]]
    return [*names, *(type(np.dtype(kind)) for kind in (np.int32, np.int64, np.float32, np.float64, np.bool_))]


def fill(module: nn.Module, tensors: Mapping[str, Tensor], where: str, *, assign: bool = False) -> None:
    """Put tensors into a module; raises ``MelodyError`` if one is missing, unknown, not finite or of another shape.

    What another library's module holds may have our names or those of any of its releases that we know. ``assign``
    makes the tensors themselves the module's, which may have been built on the meta device.
    """
    installed = installed_names(module)
    ours = {theirs: name for name, theirs in installed.items()}
    tensors = own_names(module, tensors)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise MelodyError(f"{where}: tensor {name!r} holds NaN or infinity")
    try:
        # Names and shapes are torch's to check: a module may take in a buffer of another length, or folded weights.
        misfit = module.load_state_dict(
            {installed.get(name, name): tensor for name, tensor in tensors.items()}, strict=False, assign=assign
        )
    except RuntimeError as error:
        own = module.state_dict()
        misfits = [name for name in own if f"size mismatch for {name}:" in str(error)]
        if not misfits:
            raise
        name, shape = ours.get(misfits[0], misfits[0]), tuple(own[misfits[0]].shape)
        given = f"shape {tuple(tensors[name].shape)}" if name in tensors else "another shape"  # folded, another name
        raise MelodyError(
            f"{where} does not fit the component: tensor {name!r} has {given}, expected {shape}"
        ) from None
    if misfit.missing_keys:
        lacking = _first([ours.get(name, name) for name in misfit.missing_keys])
        raise MelodyError(f"{where} does not fit the component: it lacks tensor {lacking}")
    if misfit.unexpected_keys:
        raise MelodyError(
            f"{where} does not fit the component: it holds an unknown tensor, {_first(misfit.unexpected_keys)}"
        )


def _component(metadata: dict[str, str], path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(metadata.get("component", ""))
    except json.JSONDecodeError:
        stored = None
    if not isinstance(stored, dict):
        raise MelodyError(f"{path} does not say which component its weights belong to")
    return stored


def _with_later_arguments(stored: dict[str, Any], wanted: dict[str, Any], kind: type[nn.Module]) -> dict[str, Any]:
    """A file's component with the arguments that came after it was written: they have their defaults."""
    parameters = inspect.signature(kind).parameters
    if "arguments" not in stored or not wanted.get("arguments", {}).keys() <= parameters.keys():
        return stored
    later = wanted["arguments"].keys() - stored["arguments"].keys()
    defaults = {name: parameters[name].default for name in later}
    known = {name: value for name, value in defaults.items() if value is not inspect.Parameter.empty}
    return stored | {"arguments": known | stored["arguments"]}


def _difference(stored: dict[str, Any], wanted: dict[str, Any]) -> tuple[str, str]:
    """Both components in words: their names, and where these agree the arguments that differ."""
    theirs, ours = (component.get("use", "rvq") for component in (stored, wanted))
    if theirs != ours:
        return repr(theirs), repr(ours)
    kept, asked = (component.get("arguments", component) for component in (stored, wanted))
    keys = [key for key in sorted({*kept, *asked}) if canonical(kept.get(key)) != canonical(asked.get(key))]
    shown = keys[:SHOWN_DIFFERENCES]
    rest = f" and {len(keys) - len(shown)} more" if len(keys) > len(shown) else ""
    first, second = (
        ", ".join(f"{key} = {canonical(arguments.get(key)).decode()}" for key in shown) for arguments in (kept, asked)
    )
    return f"{theirs!r} with {first}{rest}", second + rest


def _first(names: list[str]) -> str:
    return repr(names[0]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _pickles_beside(path: Path) -> str:
    suffixes = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
    beside = sorted(p.name for p in path.parent.iterdir() if p.suffix in suffixes) if path.parent.is_dir() else []
    return f" ({', '.join(beside)} beside it: pickles are never opened as weights)" if beside else ""


def _stored(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if not tensor.is_floating_point():
        return tensor.detach().cpu().contiguous()
    stored = tensor.detach().to("cpu", dtype, copy=True).contiguous()  # tied tensors must not share memory in the file
    if not torch.isfinite(stored).all():
        label = str(dtype).removeprefix("torch.")
        raise MelodyError(f"tensor {name!r} holds values that are not finite in {label}; nothing was written")
    return stored
