"""``melody export``: what training left, as model files that ``from_pretrained`` and ``--weights`` read.

A finished run's weights become a whole pipeline. One part comes from its finished weights, or from the last checkpoint
of its stage: the moving average where there is one, as at the end of training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from melody.artifacts.files import canonical
from melody.artifacts.pretrained import CONFIG, read_card, read_config
from melody.artifacts.weights import Precision, fill
from melody.config import STAGES, Preset, load_preset
from melody.documents import read_json_table
from melody.errors import MelodyError, did_you_mean
from melody.pipeline import PARTS, MelodyPipeline, build_part, has_weights, load_part

CHECKPOINT = "last.ckpt"
PART_STAGES = {part: stage for stage, part in STAGES.items()}
AVERAGE, LIVE = "average.", "part."
"""Where a recipe keeps the moving average and the weights that it steps."""


def export(
    source: Path,
    out: Path,
    *,
    part: str | None = None,
    preset: Preset | None = None,
    dtype: Precision = "float16",
) -> list[str]:
    """Write model files into ``out``; returns a line for each part.

    Args:
        source: a run folder or its ``weights``; a stage's folder or checkpoint, which has one part.
        preset: if the run does not tell, or another than it tells.
    Raises:
        MelodyError: no such run, an unfinished one, a checkpoint that is damaged or holds code, another preset.
    """
    if part is not None and part not in PARTS:
        raise MelodyError(f"unknown part {part!r}{did_you_mean(part, PARTS)}")
    if not source.exists():
        raise MelodyError(f"there is no run or checkpoint {source}")
    stage_folder = source.parent if source.is_file() else source
    if source.is_file() or (source / CHECKPOINT).is_file():
        checkpoint = source if source.is_file() else source / CHECKPOINT
        chosen = part or _part_of(stage_folder)
        return [_checkpoint(checkpoint, out, chosen, preset or _preset(stage_folder.parent), dtype)]
    run = source.parent if source.name == "weights" else source
    weights = run / "weights" if (run / "weights").is_dir() else source
    loaded = preset or _preset(run)
    if part is not None:
        return [_part(run, weights, out, part, loaded, dtype)]
    return _pipeline(weights, out, loaded, dtype)


def _pipeline(weights: Path, out: Path, preset: Preset, dtype: Precision) -> list[str]:
    absent = [part for part in PARTS if not (weights / f"{part}.safetensors").is_file()]
    missing = [part for part in absent if has_weights(preset, part)]
    if missing:
        stages = ", ".join(PART_STAGES[part] for part in missing)
        raise MelodyError(
            f"{weights} lacks {', '.join(missing)}: train the stages {stages} first, or export one part with --part"
        )
    pipeline = MelodyPipeline.from_preset(preset, weights=weights)
    pipeline.save_pretrained(out, dtype=dtype)
    return [_line(part, getattr(pipeline, part), "its weights") for part in PARTS]


def _part(run: Path, weights: Path, out: Path, part: str, preset: Preset, dtype: Precision) -> str:
    finished, checkpoint = weights / f"{part}.safetensors", run / PART_STAGES[part] / CHECKPOINT
    if not finished.is_file():
        if not checkpoint.is_file():
            raise MelodyError(f"{run} has neither {finished.name} nor a checkpoint of the stage {PART_STAGES[part]}")
        return _checkpoint(checkpoint, out, part, preset, dtype)
    module: Any = load_part(preset, part, finished)
    card = read_card(weights) or {}
    module._preset_name, module._card = preset.name, {part: card[part]} if part in card else None
    module.save_pretrained(out, dtype=dtype)
    return _line(part, module, "its weights")


def _checkpoint(path: Path, out: Path, part: str, preset: Preset, dtype: Precision) -> str:
    _check_component(path.parent, part, preset)
    state = _read(path)
    prefix = AVERAGE if any(name.startswith(AVERAGE) for name in state) else LIVE
    tensors = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    if not tensors:
        raise MelodyError(f"{path} is no checkpoint of a training stage: it has no tensor {LIVE}…")
    module: Any = build_part(preset, part)
    fill(module, tensors, str(path))
    if not getattr(module, "fitted", True):
        raise MelodyError(f"{path}: the {part.replace('_', ' ')} gets its codebook at its stage's end; finish it first")
    module._preset_name = preset.name
    module.save_pretrained(out, dtype=dtype)
    kind = "the moving average" if prefix == AVERAGE else "the weights"
    return _line(part, module, f"{kind} at step {int(state.get('completed', 0))}")


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, of which nothing is executed."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = content["state_dict"]
        return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
    except Exception as error:  # a damaged archive fails in many ways; all mean the same to the user
        raise MelodyError(
            f"checkpoint {path} cannot be read ({type(error).__name__}): damaged, or more than tensors and plain values"
        ) from None


def _part_of(stage_folder: Path) -> str:
    if stage_folder.name not in STAGES:
        raise MelodyError(f"cannot tell the part from the folder {stage_folder.name!r}: name it with --part")
    return STAGES[stage_folder.name]


def _settings(stage_folder: Path) -> dict[str, Any]:
    path = stage_folder / "settings.json"
    return read_json_table(path) if path.is_file() else {}


def _check_component(stage_folder: Path, part: str, preset: Preset) -> None:
    settings = _settings(stage_folder)
    if settings and canonical(settings["component"]) != canonical(preset.component_of(part)):
        raise MelodyError(
            f"{stage_folder} was trained with preset {settings['preset']!r}, "
            f"whose {part.replace('_', ' ')} differs from that of {preset.name!r}"
        )


def _preset(run: Path) -> Preset:
    """The preset of a run: its own copy; in folders that have none, the shipped preset of the name that it tells."""
    if (run / CONFIG).is_file():
        return Preset.of(read_config(run), str(run / CONFIG))
    names = {name for stage in STAGES if (name := _settings(run / stage).get("preset"))}
    if len(names) != 1:
        raise MelodyError(f"{run} does not tell its preset: name it with --preset")
    return load_preset(names.pop())


def _line(part: str, module: torch.nn.Module, source: str) -> str:
    count = sum(p.numel() for p in module.parameters())
    return f"{part}: {count:,} parameters, from {source}"
