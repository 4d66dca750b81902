"""What of held-out prompts a system has met in training: their combinations of attributes, and their very wording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from melody.data.attributes import Attributes
from melody.data.corpus import Clip, Corpus
from melody.data.embedded import further_captions
from melody.errors import MelodyError


@dataclass(frozen=True)
class Overlap:
    """Of so many prompts, how many training clips have the combination of, and how many are a training clip's text."""

    prompts: int
    combinations: int
    wordings: int
    training_clips: int

    def __str__(self) -> str:
        return (
            f"Held-out clips, not held-out prompts: of {self.prompts} prompts, {self.combinations} have a combination "
            f"of attributes (instrument, style, tempo word, mode, drums, density) that occurs among the "
            f"{self.training_clips:,} training clips, and {self.wordings} are, word for word, a text that a training "
            "clip was given."
        )


def overlap(prompts: Sequence[tuple[Clip, str]], training: Corpus) -> Overlap:
    """Hold prompts, each with the clip that it describes, against all texts of training: captions and further ones.

    Raises:
        MelodyError: no prompts, or clips without the embedded corpus's attributes.
    """
    if not prompts:
        raise MelodyError("no prompts were given: expected at least one")
    combinations = {_combination(clip) for clip in training}
    texts = {text for clip in training for text in (clip.text, *further_captions(clip))}
    return Overlap(
        prompts=len(prompts),
        combinations=sum(_combination(clip) in combinations for clip, _ in prompts),
        wordings=sum(text in texts for _, text in prompts),
        training_clips=len(training),
    )


def _combination(clip: Clip) -> tuple[object, ...]:
    try:
        return Attributes.from_mapping(clip.attributes).combination
    except (KeyError, TypeError):
        raise MelodyError(f"{clip.identifier} lacks attributes of the embedded corpus") from None
