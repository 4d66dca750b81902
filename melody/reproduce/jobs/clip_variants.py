"""Jobs on sounds of one kind (real clips, the codec's, the system's, controls): what judges and embedders hear.

A job is a batch of clips, so that a run of minutes goes on where it was stopped. Control sounds are drawn by the
clip's place in the corpus: white noise of the clip's power, and the clip's own pieces of 100 ms in random order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from melody.artifacts.code_identity import source_hash
from melody.data.attributes import Attributes
from melody.data.audio import resampled
from melody.data.captions import full_caption
from melody.data.corpus import Clip
from melody.data.embedded import distinct_combinations
from melody.diffusion.guidance import guided_velocity
from melody.errors import MelodyError, did_you_mean
from melody.metrics.attributes import AttributePrediction
from melody.reproduce.context import Context
from melody.reproduce.jobs.attribute_classifiers import classifiers_facts
from melody.reproduce.jobs.embedded_clips import EmbeddedClips, embedding_arrays, kept_waveforms
from melody.reproduce.jobs.generation import Setting, SystemJob, flac, setting_facts
from melody.reproduce.jobs.job import JobResult
from melody.reproduce.loaded import SEED_STRIDE, Loaded
from melody.samplers import sample
from melody.samplers.noise import standard_normal

BATCH = 16
PIECE_S = 0.1
STORED_CLIPS = 2


def chosen_clips(context: Context, count: int) -> list[int]:
    """Places of held-out clips with distinct attributes, the same in every run."""
    return distinct_combinations(context.loaded.corpus, count)


def caption_of(clip: Clip) -> str:
    """The full caption of an embedded clip: the prompt, and the text that a sound is held against."""
    return full_caption(Attributes.from_mapping(clip.attributes))


@dataclass(frozen=True, kw_only=True)
class SoundsJob(SystemJob):
    """A batch of sounds of one kind, and what classifiers and embedders hear in them."""

    kind: ClassVar[str] = "sounds"
    subject: dict[str, Any]
    weights: str | None
    judges: str
    training_clips: int
    corpus: str
    sound: str
    windows: int
    """Equal parts of each sound that are heard one by one."""
    seed: int
    embedder: dict[str, Any]
    places: list[int]
    first: int
    """Place of the batch's first sound among all of the row."""
    waveforms: bool | None = None
    """Whether the sounds are kept, as float32, for metrics that hear them."""

    @property
    def generators(self) -> list[torch.Generator]:
        """One for each clip, by its place in the corpus."""
        return [torch.Generator().manual_seed(self.seed * SEED_STRIDE + place) for place in self.places]

    @property
    def seeds(self) -> list[int]:
        """One for each clip, by its place in the row."""
        first = self.seed * SEED_STRIDE + self.first
        return [first + row for row in range(len(self.places))]

    def compute(self, loaded: Loaded) -> JobResult:
        pieces = loaded.pieces(self.duration_s)
        clips = [pieces[place] for place in self.places]
        waveform, rate = SOUNDS[self.sound](self, loaded, clips)
        length = waveform.shape[2] // self.windows
        parts = [
            self._heard(loaded, clips, waveform[..., number * length : (number + 1) * length], rate)
            for number in range(self.windows)
        ]
        arrays = {f"{number}.{name}": array for number, part in enumerate(parts) for name, array in part.arrays.items()}
        kept = range(min(STORED_CLIPS, len(clips)) if self.first == 0 else 0)
        sounds = {f"{row:02d}": flac(waveform[row, 0], rate) for row in kept}
        return JobResult({"clips": len(clips), "parts": [part.values for part in parts]}, arrays, sounds)

    def _heard(self, loaded: Loaded, clips: Sequence[Clip], waveform: Tensor, rate: int) -> JobResult:
        """One window of every clip's sound ``(B, 1, T)``."""
        heard = loaded.attribute_classifiers(self.training_clips).predict(waveform, rate)
        embedder = self.embedder["name"]
        windows = {embedder: [loaded.embed_windows(embedder, row[0], rate) for row in waveform]}
        texts = [caption_of(clip) for clip in clips]
        arrays, counts = embedding_arrays(loaded, loaded.embed_joint(waveform, rate), texts, windows)
        facts, kept = kept_waveforms(waveform[:, 0], rate, self.waveforms)
        values = {
            "clips": len(clips),
            **facts,
            "texts": texts,
            "facts": [dict(clip.attributes) for clip in clips],
            "heard": [asdict(prediction) for prediction in heard],
            "windows": counts,
        }
        return JobResult(values, {**arrays, **kept})


@dataclass(frozen=True)
class HeardSounds(EmbeddedClips):
    """What ``SoundsJob`` found in one window of a row's sounds, over all batches."""

    @classmethod
    def of(cls, results: Sequence[JobResult], window: int) -> HeardSounds:
        """Of the window of that number, counted from 0."""
        return cls(tuple(_in_window(result, window) for result in results))

    @property
    def texts(self) -> list[str]:
        return [text for result in self.results for text in result.values["texts"]]

    @property
    def attributes(self) -> list[dict[str, Any]]:
        """What each clip was to be."""
        return [facts for result in self.results for facts in result.values["facts"]]

    @property
    def predictions(self) -> list[AttributePrediction]:
        """What classifiers hear in each."""
        return [AttributePrediction(**heard) for result in self.results for heard in result.values["heard"]]


def _in_window(result: JobResult, window: int) -> JobResult:
    """Values and arrays of one window, without its number."""
    prefix = f"{window}."
    arrays = {name.removeprefix(prefix): array for name, array in result.arrays.items() if name.startswith(prefix)}
    return JobResult(result.values["parts"][window], arrays)


def sound_jobs(
    context: Context,
    kind: str,
    places: Sequence[int],
    *,
    setting: Setting,
    embedder: str,
    training_clips: int,
    seed: int,
    held_out: int,
    windows: int = 1,
    waveforms: bool = False,
) -> list[SoundsJob]:
    """Sounds of a kind for the clips at ``places``, in batches.

    Args:
        windows: equal parts of each sound that are heard one by one; see ``HeardSounds``.
        waveforms: whether the sounds are kept.
    Raises:
        MelodyError: an unknown kind; sounds longer than the run has pieces.
    """
    if kind not in SOUNDS:
        raise MelodyError(f"unknown kind of sound {kind!r}{did_you_mean(kind, SOUNDS)}")
    facts = {
        **context.common,
        **setting_facts(context, setting),
        **classifiers_facts(context, training_clips),
        "measuring": source_hash(__name__),
        "corpus": context.corpus_hash(held_out, setting.duration_s),
        "sound": kind,
        "windows": windows,
        "seed": seed,
        "embedder": context.embedder_facts(embedder),
        "waveforms": waveforms or None,
    }
    batches = [list(places[begin : begin + BATCH]) for begin in range(0, len(places), BATCH)]
    return [
        SoundsJob(label=f"{kind}, batch {number + 1}", **facts, places=batch, first=number * BATCH)
        for number, batch in enumerate(batches)
    ]


def _real(job: SoundsJob, loaded: Loaded, clips: Sequence[Clip]) -> tuple[Tensor, int]:
    rate = loaded.corpus.sample_rate
    samples = round(job.duration_s * rate)
    return torch.stack([clip.waveform(rate)[:samples] for clip in clips])[:, None], rate


@torch.inference_mode()
def _codec_only(job: SoundsJob, loaded: Loaded, clips: Sequence[Clip]) -> tuple[Tensor, int]:
    codec = loaded.parts.codec
    real = _at(*_real(job, loaded, clips), codec.sample_rate).to(loaded.device)
    decoded = codec.decode(codec.encode(real))[..., : real.shape[-1]]
    return decoded.clamp(-1, 1).cpu(), codec.sample_rate


@torch.inference_mode()
def _own_tokens(job: SoundsJob, loaded: Loaded, clips: Sequence[Clip]) -> tuple[Tensor, int]:
    """The real clip's semantic tokens, and latents drawn for them: what is left without text and language model."""
    parts = loaded.parts
    real, rate = _real(job, loaded, clips)
    tokens = parts.semantic_tokenizer.tokenize(_at(real, rate, parts.semantic_tokenizer.sample_rate).to(loaded.device))
    frames = round(job.duration_s * parts.codec.frame_rate)
    generators = [torch.Generator().manual_seed(seed) for seed in job.seeds]
    options = job.given_options
    latents = sample(
        guided_velocity(parts.denoiser, parts.denoiser.prepare(tokens), options["guidance_scale"]),
        standard_normal((len(clips), frames, parts.codec.latent_dim), generators, device=loaded.device),
        sampler=options["sampler"],
        grid=options["grid"],
        num_steps=options["num_steps"],
        generator=generators,
    )
    decoded = parts.codec.decode(latents)[..., : round(job.duration_s * parts.codec.sample_rate)]
    return decoded.clamp(-1, 1).cpu(), parts.codec.sample_rate


def _from_text(job: SoundsJob, loaded: Loaded, clips: Sequence[Clip]) -> tuple[Tensor, int]:
    made = job.generated(loaded, [caption_of(clip) for clip in clips], job.seeds)
    return made.waveform.cpu(), made.sample_rate


def _noise(job: SoundsJob, loaded: Loaded, clips: Sequence[Clip]) -> tuple[Tensor, int]:
    real, rate = _real(job, loaded, clips)
    power = real.square().mean(dim=2, keepdim=True).sqrt()
    drawn = torch.stack([torch.randn(row.shape, generator=g) for row, g in zip(real, job.generators, strict=True)])
    return (power * drawn).clamp(-1, 1), rate


def _shuffled(job: SoundsJob, loaded: Loaded, clips: Sequence[Clip]) -> tuple[Tensor, int]:
    real, rate = _real(job, loaded, clips)
    piece = round(PIECE_S * rate)
    rows = []
    for row, generator in zip(real, job.generators, strict=True):
        pieces = row[0, : row.shape[1] // piece * piece].unflatten(0, (-1, piece))
        rows.append(pieces[torch.randperm(len(pieces), generator=generator)].flatten())
    return torch.stack(rows)[:, None], rate


Sounds = Callable[[SoundsJob, Loaded, Sequence[Clip]], tuple[Tensor, int]]
"""Job, what is loaded, and held-out clips to sounds ``(B, 1, T)`` and their rate, one a clip."""
SOUNDS: dict[str, Sounds] = {
    "real clips": _real,
    "codec only": _codec_only,
    "own tokens": _own_tokens,
    "text": _from_text,
    "pieces shuffled": _shuffled,
    "white noise": _noise,
}


def _at(waveform: Tensor, native_rate: int, sample_rate: int) -> Tensor:
    return torch.stack([resampled(row[0], native_rate, sample_rate) for row in waveform])[:, None]
