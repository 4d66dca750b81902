"""What jobs on clips share, whoever made them: joint embeddings with those of their texts, and windows by embedders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from melody.data.recordings import AudioInfo, Recording
from melody.errors import MelodyError
from melody.reproduce.context import Context
from melody.reproduce.jobs.job import JobResult, NetworkJob, float32
from melody.reproduce.loaded import Loaded
from melody.reproduce.suite import JOINT


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


@dataclass(frozen=True)
class EmbeddedClips:
    """What ``EmbeddedClipsJob`` found of a set of clips, in the order of one or several results."""

    results: tuple[JobResult, ...]

    @property
    def count(self) -> int:
        return sum(int(result.values["clips"]) for result in self.results)

    def vectors(self, embedder: str) -> list[Tensor]:
        """Embeddings of each clip, ``(windows, E)``; raises ``MelodyError`` if there are none."""
        name = f"embedding.{embedder}"
        if any(name not in result.arrays for result in self.results):
            raise MelodyError(f"no clip was embedded by {embedder!r}")
        return [
            clip
            for result in self.results
            for clip in torch.from_numpy(result.arrays[name]).split(result.values["windows"][embedder])
        ]

    @property
    def text(self) -> Tensor:
        """Joint embeddings of the texts, ``(clips, E)``."""
        return self._joined("joint_text")

    @property
    def audio(self) -> Tensor:
        """Joint embeddings of the clips, ``(clips, E)``."""
        return self._joined("joint_audio")

    def joint(self, by: str = "") -> tuple[Tensor, Tensor]:
        """The same of texts and of clips, by the preset's own joint embedder or another."""
        return (self._joined(f"text.{by}"), torch.cat(self.vectors(by))) if by else (self.text, self.audio)

    def _joined(self, name: str) -> Tensor:
        return torch.cat([torch.from_numpy(result.arrays[name]) for result in self.results])

    @property
    def recordings(self) -> list[Recording]:
        """The clips themselves; raises ``MelodyError`` if they were not kept."""
        if any("waveform" not in result.arrays for result in self.results):
            raise MelodyError("the clips were not kept, which the metric would have to hear")
        return [
            recording(waveform, int(result.values["sample_rate"]))
            for result in self.results
            for waveform in torch.from_numpy(result.arrays["waveform"]).split(result.values["samples"])
        ]

    @property
    def instrument_agreement(self) -> list[float]:
        """1 or 0 for each clip whose text names an instrument; raises ``MelodyError`` if none was heard for it."""
        heard: list[float] = []
        for result in self.results:
            if (agreement := result.values.get("instrument_agreement")) is None:
                raise MelodyError("no judges heard the clips: this run has no training clips for them to learn from")
            heard += agreement
        if not heard:
            raise MelodyError("no prompt names an instrument of the corpus")
        return heard


def recording(waveform: Tensor, sample_rate: int) -> Recording:
    """A mono clip ``(T,)`` as if it had been read from a file."""
    return Recording(waveform, AudioInfo(sample_rate, 1, len(waveform), float(waveform.abs().max()), "float32"))


def kept_waveforms(
    clips: Sequence[Tensor] | Tensor, sample_rate: int, keep: bool | None
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Values and arrays of clips, each ``(T,)``, that are kept as float32; nothing of others."""
    if not keep:
        return {}, {}
    samples = [len(clip) for clip in clips]
    return {"sample_rate": sample_rate, "samples": samples}, {"waveform": float32(torch.cat(list(clips)))}


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
    loaded: Loaded, joint: Tensor, texts: Sequence[str], windows: Mapping[str, Sequence[Tensor]]
) -> tuple[dict[str, NDArray[Any]], dict[str, list[int]]]:
    """Arrays of a result, and how many windows each clip has, by embedder.

    Args:
        joint: of the clips, ``(B, E)``.
        texts: of the clips.
        windows: of each clip ``(windows, E)``, by embedder.
    """
    arrays = {
        "joint_audio": float32(joint),
        "joint_text": float32(loaded.embed_text(texts)),
        **{f"embedding.{name}": float32(torch.cat(list(clips))) for name, clips in windows.items()},
        **{f"text.{name}": float32(loaded.embed_text(texts, name)) for name in windows if name.startswith(JOINT)},
    }
    return arrays, {name: [len(clip) for clip in clips] for name, clips in windows.items()}
