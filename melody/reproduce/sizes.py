"""What a preset is made of: parameters of its parts beside the paper's, and FLOPs and weights of their passes.

Parts are built on the meta device: shapes without values, so that it takes seconds, and no memory.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from melody.artifacts.provenance import versions
from melody.config import Preset
from melody.metrics.flops import BYTES, Count, count
from melody.metrics.part_passes import Pass, passes
from melody.pipeline import PARTS, build_part

TITLES = {
    "language_model": "language model",
    "denoiser": "denoiser",
    "codec": "codec",
    "joint_embedder": "joint embedder",
    "rvq": "quantiser",
    "semantic_tokenizer": "semantic tokenizer",
}
PAPER_MILLIONS = {
    "language_model": (429.5, "main text"),
    "denoiser": (296.6, "main text"),
    "codec": (100.1, "appendix B.1"),
    "codec encoder": (40.0, "appendix B.1"),
    "codec decoder": (60.1, "appendix B.1"),
    "joint_embedder": (195.3, "main text"),
    "semantic_tokenizer": (199.5, "main text"),
}
"""Sizes that the paper prints, in millions of parameters, and where."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class PartSize(_Frozen):
    """One part, or a half of one that is indented under it."""

    name: str
    component: str
    parameters: int
    """Trained weights; weight norms count as folded in."""
    fitted: int = 0
    """Values that are fitted by k-means and are no parameters: codebooks, centroids."""
    paper: float | None = None
    """What the paper prints, in parameters."""
    place: str | None = None
    within: str | None = None
    """The part that this is a half of."""

    @property
    def difference(self) -> float | None:
        """From the paper's figure, in per cent of it."""
        return None if self.paper is None else 100 * (self.parameters / self.paper - 1)


class PassCost(_Frozen):
    """One pass of a part."""

    part: str
    name: str
    shape: str
    flops_counted: int | None
    """By torch's counter; ``None`` where the part cannot run on the meta device."""
    flops_formula: int | None
    """``None`` for a component that is not ours."""
    flops_beside: int | None
    """By formula, and in neither: Fourier transforms and recurrences."""
    weights_counted: int | None
    """Values of parameters that the pass reads."""
    weights_formula: int | None
    note: str = ""

    @property
    def weights(self) -> int | None:
        return self.weights_counted if self.weights_counted is not None else self.weights_formula

    def weight_bytes(self, precision: str) -> int | None:
        """Bytes of weights that the pass reads, in ``fp32`` or ``half`` precision."""
        return None if self.weights is None else self.weights * BYTES[precision]


class Sizes(_Frozen):
    """All of a preset."""

    preset: str
    parts: list[PartSize]
    passes: list[PassCost]
    versions: dict[str, str]

    def to_json(self) -> str:
        """JSON with the derived values too."""
        parts = [part.model_dump() | {"difference_percent": part.difference} for part in self.parts]
        costs = [
            cost.model_dump() | {f"weight_bytes_{name}": cost.weight_bytes(name) for name in BYTES}
            for cost in self.passes
        ]
        content = {"preset": self.preset, "parts": parts, "passes": costs, "versions": self.versions}
        return json.dumps(content, indent=1)


def sizes(preset: Preset) -> Sizes:
    """Sizes and costs of every part of a preset; the paper's figures stand beside its own preset only.

    Raises:
        MelodyError: a part cannot be built.
    """
    with torch.device("meta"):
        # transformers makes a vector or two past the device that is set here.
        parts = {part: build_part(preset, part).to("meta").eval() for part in PARTS}
    parts["codec"].remove_weight_norm()  # type: ignore[operator]
    frame_rate: Any = parts["codec"].frame_rate
    ordered = {part: parts[part] for part in TITLES}
    return Sizes(
        preset=preset.name,
        parts=[row for part, module in ordered.items() for row in _part(preset, part, module)],
        passes=[
            _cost(part, network_pass, module)
            for part, module in ordered.items()
            for network_pass in passes(preset, part, module, frame_rate)
        ],
        versions=versions(),
    )


def _part(preset: Preset, part: str, module: nn.Module) -> list[PartSize]:
    component = "rvq" if part == "rvq" else getattr(preset, part).use
    fitted = sum(getattr(module, name).numel() for name in ("codebooks", "centroids") if hasattr(module, name))
    whole = _size(preset, part, TITLES[part], component, module, fitted)
    if part != "codec":
        return [whole]
    halves = [
        _size(preset, f"codec {half}", half, component, nn.ModuleList(children), within=whole.name)
        for half in ("encoder", "decoder")
        if (children := [child for name, child in module.named_children() if name.startswith(half)])
    ]
    return [whole, *halves]


def _size(
    preset: Preset,
    key: str,
    name: str,
    component: str,
    module: nn.Module,
    fitted: int = 0,
    within: str | None = None,
) -> PartSize:
    millions, place = PAPER_MILLIONS.get(key, (None, None)) if preset.name == "paper" else (None, None)
    return PartSize(
        name=name,
        component=component,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        fitted=fitted,
        paper=None if millions is None else millions * 1e6,
        place=place,
        within=within,
    )


def _cost(part: str, network_pass: Pass, module: nn.Module) -> PassCost:
    formula = network_pass.formula
    counted, note = _counted(module, network_pass)
    return PassCost(
        part=TITLES[part],
        name=network_pass.name,
        shape=network_pass.shape,
        flops_counted=counted.flops if counted else None,
        flops_formula=formula.flops if formula else None,
        flops_beside=formula.beside if formula else None,
        weights_counted=counted.weights if counted else None,
        weights_formula=formula.weights if formula else None,
        note=note,
    )


def _counted(module: nn.Module, network_pass: Pass) -> tuple[Count | None, str]:
    try:
        with torch.no_grad():
            network_pass.call.setup()
        return count(module, network_pass.call.run), ""
    except Exception as error:  # another project's component may do anything where there are no values
        if network_pass.formula is not None:
            raise
        return None, f"cannot run without values: {' '.join(str(error).split())[:80]}"
