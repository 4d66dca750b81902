"""The batch whose loss was not finite, kept beside the run so that somebody can look at it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from melody.artifacts.files import write_bytes
from melody.training.shares import rank, world_size


def keep_batch(folder: Path, batch: Any, *, step: int, seed: int, losses: dict[str, float]) -> Path:
    """Write a batch's tensors, and its texts, step, seed and losses as the file's metadata; returns the path.

    ``safetensors.safe_open(path, "pt")`` reads it: tensors ``batch_0`` … in the order of the recipe's ``batch``.
    """
    items = batch if isinstance(batch, tuple) else (batch,)
    tensors = {
        f"batch_{i}": item.detach().cpu().contiguous() for i, item in enumerate(items) if isinstance(item, Tensor)
    }
    texts = [item for item in items if isinstance(item, Sequence)]
    metadata = {
        "step": str(step),
        "seed": str(seed),
        "losses": json.dumps({name: repr(value) for name, value in losses.items()}),
        "texts": json.dumps(texts[0] if texts else []),
    }
    own = f"-process-{rank()}" if world_size() > 1 else ""
    path = folder / f"nonfinite-step-{step}{own}.safetensors"
    write_bytes(path, save(tensors, metadata=metadata))
    return path
