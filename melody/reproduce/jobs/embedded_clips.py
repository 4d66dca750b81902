"""What jobs on clips share, whoever made them: joint embeddings with those of their texts, and windows by embedders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from melody.reproduce.context import Context
from melody.reproduce.jobs.job import NetworkJob, float32


@dataclass(frozen=True, kw_only=True)
class EmbeddedClipsJob(NetworkJob):
    """A job whose clips are embedded; heard by classifiers if they are among the facts."""

    joint_embedder: dict[str, Any]
    embedders: list[dict[str, Any]]
    judges: str | None = None
    training_clips: int | None = None
    waveforms: bool | None = None
    """Whether all clips are kept, as float32, for metrics that hear them."""

    @property
    def embedder_names(self) -> list[str]:
        return [facts["name"] for facts in self.embedders]


def embedding_facts(
    context: Context, embedders: Sequence[str], judges: Mapping[str, Any] | None = None, *, waveforms: bool = False
) -> dict[str, Any]:
    """By what clips are embedded and heard: the fields of an ``EmbeddedClipsJob``.

    Args:
        judges: as of ``classifiers_facts``, where classifiers hear the clips.
        waveforms: whether all clips are kept.
    """
    return {
        "joint_embedder": context.joint_embedder,
        "embedders": [context.embedder_facts(name) for name in embedders],
        "waveforms": waveforms or None,
        **(judges or {}),
    }


def embedding_arrays(
    context: Context, joint: Tensor, texts: Sequence[str], windows: Mapping[str, Sequence[Tensor]]
) -> tuple[dict[str, NDArray[Any]], dict[str, list[int]]]:
    """Arrays of a result, and how many windows each clip has, by embedder.

    Args:
        joint: of the clips, ``(B, E)``.
        texts: of the clips.
        windows: of each clip ``(windows, E)``, by embedder.
    """
    arrays = {
        "joint_audio": float32(joint),
        "joint_text": float32(context.embed_text(texts)),
        **{f"embedding.{name}": float32(torch.cat(list(clips))) for name, clips in windows.items()},
    }
    return arrays, {name: [len(clip) for clip in clips] for name, clips in windows.items()}
