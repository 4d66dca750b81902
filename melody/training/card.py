"""The card of the weights: what each part was trained on, for how long, and how it does on held-out data."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from melody import __version__
from melody.artifacts.files import canonical, file_hash, write_bytes
from melody.config import RvqStage, Stage
from melody.data.corpus import Corpus
from melody.documents import parse_json, read_json_table
from melody.errors import MelodyError
from melody.pipeline import Statistics

LOSS_WINDOW = 100


def bind_stage(
    folder: Path,
    preset: str,
    *,
    component: dict[str, Any],
    settings: Stage | RvqStage,
    data: list[str],
    needs: dict[str, str],
) -> None:
    """Mark a stage's folder with what is trained there; raises ``MelodyError`` if it was begun with something else.

    A longer run that begins as that one did (``restart_at``) may go on in its folder.

    Args:
        preset: its name.
        data: content hashes of the corpora.
        needs: hashes of the earlier parts' weights, by part.
    """
    path = folder / "settings.json"
    content: dict[str, Any] = {
        "preset": preset,
        "component": component,
        "settings": settings.model_dump(),
        "data": data,
        "needs": needs,
    }
    if not path.is_file():
        write_bytes(path, canonical(content))
        return
    other = _begun_with(path, type(settings))
    changed = [key for key in content if canonical(other.get(key)) != canonical(content[key])]
    if changed == ["settings"] and _lengthens(content["settings"], other["settings"]):
        write_bytes(path, canonical(content))
    elif changed:
        raise MelodyError(
            f"{folder} was begun with preset {other.get('preset')!r}, whose {' and '.join(changed)} differ "
            f"from those of {preset!r} now; choose another --out, or delete that folder"
        )


def _lengthens(longer: dict[str, Any], shorter: dict[str, Any]) -> bool:
    """Whether nothing differs before ``restart_at``, the end of the shorter run."""
    end = shorter.get("steps")
    if end is None or longer.get("restart_at") != end or longer["steps"] <= end:
        return False
    later = {"steps", "restart_at"}
    if shorter.get("decoder_only_from") is None and (longer.get("decoder_only_from") or 0) >= end:
        later |= {"decoder_only_from", "decoder_log_stft_weight"}
    return all(longer[key] == shorter.get(key) for key in longer.keys() - later)


def is_finished(run: Path, stage: str, weights: Path, settings: Stage | RvqStage) -> bool:
    """Whether a run's card tells of these very weights, as the end of a stage with these settings."""
    if not weights.is_file():
        return False
    entries = _card(run / "weights" / "card.json").values()
    entry = next((entry for entry in entries if entry["stage"] == stage), None)
    if entry is None or entry["sha256"] != file_hash(weights):
        return False
    return _completed(entry["settings"], type(settings)) == settings.model_dump()


def _card(path: Path) -> dict[str, Any]:
    return read_json_table(path) if path.is_file() else {}


def _begun_with(path: Path, table: type[Stage | RvqStage]) -> dict[str, Any]:
    """What a folder was begun with; settings that came later say what was done before, so an older run goes on."""
    content = read_json_table(path)
    if "settings" in content:
        content["settings"] = _completed(content["settings"], table)
    return content


def _completed(settings: dict[str, Any], table: type[Stage | RvqStage]) -> dict[str, Any]:
    """Settings as they were kept, with those that came later; of another kind altogether they stay as they are."""
    earlier = table.earlier if issubclass(table, Stage) else {}
    try:
        return table.model_validate({**earlier, **settings}).model_dump()
    except ValidationError:
        return settings


def add_stage(
    folder: Path,
    *,
    stage: str,
    part: str,
    module: nn.Module,
    settings: Stage | RvqStage,
    corpora: tuple[Corpus, Corpus],
    seconds: float,
    figures: dict[str, float],
    weights: Path,
    words: list[str] | None = None,
    latents: Statistics | None = None,
) -> None:
    """Write a stage's entry into ``weights/card.json`` and render ``weights/CARD.md``.

    Args:
        words: of the captions that a joint embedder learnt from, so that a prompt's others can be told.
        latents: statistics of what a denoiser learnt, so that another codec under it can be told.
    """
    path = folder / "weights" / "card.json"
    card = _card(path)
    history = _history(folder / stage / "history.jsonl")
    card[part] = {
        "stage": stage,
        "parameters": sum(p.numel() for p in module.parameters()),
        "steps": settings.steps if isinstance(settings, Stage) else None,
        "seconds": round(sum(row.get("seconds", 0.0) for row in history) or seconds, 1),
        "seed": settings.seed,
        "settings": settings.model_dump(),
        "data": {
            "name": corpora[0].name,
            "train_clips": len(corpora[0]),
            "train_hash": corpora[0].content_hash(),
            "validation_clips": len(corpora[1]),
            "validation_hash": corpora[1].content_hash(),
            "left_out": [{"file": fault.file, "reason": fault.reason} for fault in corpora[0].faults],
        },
        "last_losses": _last_losses(history),
        "held_out": figures,
        "sha256": file_hash(weights),
        "machine": _machine(settings),
        "versions": {"melody": __version__, "torch": torch.__version__, "commit": _commit()},
    }
    if words is not None:
        card[part]["words"] = words
    if latents is not None:
        card[part]["latents"] = latents
    write_bytes(path, json.dumps(card, indent=1, sort_keys=True).encode())
    write_bytes(path.with_name("CARD.md"), render(card).encode())


def render(card: dict[str, Any]) -> str:
    """The card as Markdown."""
    lines = [
        "# Card of the weights",
        "",
        "Written by `melody train`; held-out figures are on the validation split.",
        "",
    ]
    lines += [
        "| part | parameters | steps | seconds | seed | last losses (mean of the last steps) | held out |",
        "|---|---|---|---|---|---|---|",
    ]
    for part, entry in sorted(card.items()):
        steps = entry["steps"] if entry["steps"] is not None else "fit"
        lines.append(
            f"| {part} | {entry['parameters']:,} | {steps} | {entry['seconds']:.0f} | {entry['seed']} "
            f"| {_figures(entry['last_losses'])} | {_figures(entry['held_out'])} |"
        )
    data = sorted(
        {
            f"{e['data']['name']}: {e['data']['train_clips']} clips (SHA-256 {e['data']['train_hash'][:16]}…), "
            f"{e['data']['validation_clips']} validation clips{_left_out(e['data'])}"
            for e in card.values()
        }
    )
    machines = sorted({f"{e['machine']}; torch {e['versions']['torch']}" for e in card.values()})
    return "\n".join([*lines, "", "Data: " + "; ".join(data) + ".", "", "Machine: " + "; ".join(machines) + ".", ""])


def _machine(settings: Stage | RvqStage) -> str:
    """Processor, threads, and the precision of the passes."""
    precision = settings.precision if isinstance(settings, Stage) else "32-true"
    arithmetic = "fp32" if precision == "32-true" else precision
    return f"{platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} threads, {arithmetic}"


def _left_out(data: dict[str, Any]) -> str:
    """How many files could not be used, where it is known."""
    faults = data.get("left_out") or []
    return f", {len(faults)} files left out ({', '.join(fault['file'] for fault in faults)})" if faults else ""


def _figures(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items()) or "–"


def _history(path: Path) -> list[dict[str, float]]:
    """Losses by step; where a killed run repeated steps, the last line of a step counts."""
    if not path.is_file():
        return []
    rows = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = parse_json(line.encode(), str(path))
        rows[row["step"]] = row
    return [rows[step] for step in sorted(rows)]


def _last_losses(history: list[dict[str, float]]) -> dict[str, float]:
    window = history[-LOSS_WINDOW:]
    names = [name for name in (window[-1] if window else {}) if name not in ("step", "seconds")]
    return {
        name: math.fsum(row[name] for row in window if name in row) / sum(name in row for row in window)
        for name in names
    }


def _commit() -> str | None:
    """The commit of the checkout that the package is run from, if it is one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    result = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    return result.stdout.strip() or None
