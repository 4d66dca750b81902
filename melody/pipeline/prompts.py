"""Prompts of text or of audio, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from melody.conditioning.prompts import check_prompt
from melody.conditioning.words import warn_of_unmet_words
from melody.data.audio import AudioInput, as_mono
from melody.errors import MelodyError
from melody.protocols import JointEmbedder


@dataclass(frozen=True)
class Prompt:
    """One row a prompt, all of them texts or all of them audio ``(T,)`` at the joint embedder's rate."""

    texts: tuple[str, ...] = ()
    audio: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.texts) or len(self.audio)

    def embed(self, embedder: JointEmbedder, device: torch.device) -> Tensor:
        """Unit vectors ``(B, E)``, either way of the same space."""
        if self.texts:
            return embedder.embed_text(self.texts)
        # Row by row, for rows differ in length.
        return torch.cat([embedder.embed_audio(row[None, None].to(device)) for row in self.audio])


def read_prompt(
    prompts: str | Sequence[str] | None,
    prompt_audio: AudioInput | list[AudioInput] | None,
    embedder: JointEmbedder,
) -> Prompt:
    """A text or several, or audio or several; words that the embedder has never met are told by a warning.

    Raises:
        MelodyError: both or neither of them; a text that ``check_prompt`` or audio that ``as_mono`` refuses.
    """
    if (prompts is None) == (prompt_audio is None):
        got = "no prompt was given" if prompts is None else "text and audio were given as the prompt"
        raise MelodyError(f"{got}: expected one of the two, a text or prompt audio")
    if prompt_audio is not None:
        return _audio_prompt(prompt_audio, embedder.sample_rate)
    assert prompts is not None
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    if not texts:
        raise MelodyError("no prompt was given: expected at least one text")
    for number, text in enumerate(texts, start=1):
        check_prompt(text, where=f"prompt {number}" if len(texts) > 1 else "the prompt")
    warn_of_unmet_words(texts, embedder)
    return Prompt(texts=tuple(texts))


def _audio_prompt(prompt_audio: AudioInput | list[AudioInput], sample_rate: int) -> Prompt:
    # A list holds several; a tuple is one, of samples and their rate.
    several = prompt_audio if isinstance(prompt_audio, list) else [prompt_audio]
    if not several:
        raise MelodyError("no prompt audio was given: expected at least one")
    rows = [
        as_mono(audio, sample_rate, f"prompt audio {number}" if len(several) > 1 else "prompt audio")
        for number, audio in enumerate(several, start=1)
    ]
    return Prompt(audio=tuple(rows))
