"""Embeddings, tokens and latents of a corpus: computed once, cached by content of the audio and of the weights.

They are written batch by batch and read through a memory map, so neither needs memory for the whole corpus.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile

import torch
from rich.progress import track
from safetensors import safe_open
from torch import Tensor

from melody.artifacts.code_identity import source_hash
from melody.artifacts.store import Store
from melody.baselines.noise2music.frames import Frames
from melody.conditioning.rvq import ResidualVectorQuantizer
from melody.data.corpus import Corpus
from melody.data.embedded import further_captions
from melody.devices import place_of
from melody.protocols import Codec, JointEmbedder, SemanticTokenizer, TokenCodec
from melody.training.audio import segment_batch, segments
from melody.training.shares import is_main

BATCH = 16
PREFIX_ROWS = 1 << 16
"""Embeddings quantised at once."""
DTYPES = {torch.float32: "F32", torch.int64: "I64"}


def semantic_tokens(corpus: Corpus, tokenizer: SemanticTokenizer, clip_s: float, weights: str) -> Tensor:
    """Semantic tokens of every segment: ``(segments, N)``."""
    return _of_segments(corpus, clip_s, f"semantic tokens {weights} {_code(tokenizer)}", tokenizer.tokenize)


def latents(corpus: Corpus, codec: Codec, clip_s: float, weights: str) -> Tensor:
    """Latents of every segment: ``(segments, L, D)``."""
    return _of_segments(corpus, clip_s, f"latents {weights} {_code(codec)}", codec.encode)


def distributions(corpus: Corpus, codec: Codec, clip_s: float, weights: str) -> Tensor:
    """Mean and standard deviation of every segment's latents before the clamp: ``(segments, 2, L, D)``."""
    return _of_segments(corpus, clip_s, f"distributions {weights} {_code(codec)}", codec.distribution)


def spectrograms(corpus: Corpus, frames: Frames, clip_s: float) -> Tensor:
    """Log-mel spectrogram of every segment, as the cascade's generator makes it: ``(segments, L, M)``."""
    sizes = f"{frames.sample_rate} {frames.hop_length} {frames.num_mels} {frames.log_mel.n_fft}"
    return _of_segments(corpus, clip_s, f"spectrograms {sizes} {_code(frames.log_mel)}", frames.spectrogram)


def acoustic_tokens(corpus: Corpus, codec: TokenCodec, clip_s: float, weights: str) -> Tensor:
    """Acoustic tokens of every segment, all levels: ``(segments, L, num_levels)``."""
    return _of_segments(corpus, clip_s, f"acoustic tokens {weights} {_code(codec)}", codec.encode)


def audio_embeddings(corpus: Corpus, joint: JointEmbedder, clip_s: float, weights: str) -> Tensor:
    """Joint embedding of every segment's audio: ``(segments, E)``."""
    return _of_segments(corpus, clip_s, f"audio embeddings {weights} {_code(joint)}", joint.embed_audio)


def text_embeddings(corpus: Corpus, joint: JointEmbedder, clip_s: float, weights: str) -> Tensor:
    """Joint embedding of every segment's caption and tags: ``(segments, 2, E)``."""
    return _of_texts(corpus, joint, clip_s, f"text embeddings {weights}", texts_of)


def wording_embeddings(corpus: Corpus, joint: JointEmbedder, clip_s: float, weights: str) -> Tensor:
    """The same with every further caption that the corpus has: ``(segments, 2 or more, E)``."""
    return _of_texts(corpus, joint, clip_s, f"wording embeddings {weights}", wordings_of)


def _of_texts(
    corpus: Corpus,
    joint: JointEmbedder,
    clip_s: float,
    what: str,
    texts: Callable[[Corpus, int], tuple[str, ...]],
) -> Tensor:
    places = segments(corpus, round(clip_s * corpus.sample_rate))

    def embed(batch: Sequence[tuple[int, int]]) -> Tensor:
        of_clips = [texts(corpus, index) for index, _ in batch]
        every: Tensor = joint.embed_text([text for of_clip in of_clips for text in of_clip])
        embedded: Tensor = every.unflatten(0, (len(batch), -1))
        return embedded

    # Further captions are not in the corpus's own hash.
    said = hashlib.sha256(json.dumps([texts(corpus, index) for index in range(len(corpus))]).encode()).hexdigest()
    return _cached(corpus, f"{what} {_code(joint)} {said} {clip_s}", places, embed)


def prefixes(audio: Tensor, text: Tensor, rvq: ResidualVectorQuantizer) -> Tensor:
    """MuLan tokens of audio ``(segments, E)`` and texts ``(segments, n, E)``: ``(segments, 1 + n, P)``."""
    blocks = zip(audio.split(PREFIX_ROWS), text.split(PREFIX_ROWS), strict=True)
    device = rvq.codebooks.device
    views = (torch.cat([a[:, None], t], dim=1).to(device) for a, t in blocks)  # (block, 1 + n, E)
    return torch.cat([rvq.encode(view.flatten(0, 1)).unflatten(0, view.shape[:2]).cpu() for view in views])


def _code(part: object) -> str:
    """Other code gives other features from the same weights."""
    return source_hash(type(part).__module__)


def texts_of(corpus: Corpus, index: int) -> tuple[str, str]:
    """A clip's caption and its tags as a text; the caption twice where there are no tags."""
    clip = corpus[index]
    return clip.text, ", ".join(clip.tags) or clip.text


def wordings_of(corpus: Corpus, index: int) -> tuple[str, ...]:
    """A clip's caption, its tags, and further captions where the corpus can word them."""
    return (*texts_of(corpus, index), *further_captions(corpus[index]))


def _of_segments(
    corpus: Corpus, clip_s: float, what: str, function: Callable[[Tensor], Tensor | tuple[Tensor, ...]]
) -> Tensor:
    samples = round(clip_s * corpus.sample_rate)
    device = place_of(function.__self__)  # type: ignore[attr-defined]
    return _cached(
        corpus,
        f"{what} {clip_s}",
        segments(corpus, samples),
        lambda batch: _one(function(segment_batch(corpus, list(batch), samples).to(device))),
    )


def _one(computed: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Several tensors of the same rows side by side: ``(B, …)`` each -> ``(B, n, …)``."""
    return torch.stack(computed, dim=1) if isinstance(computed, tuple) else computed


@torch.inference_mode()
def _cached(
    corpus: Corpus, what: str, places: list[tuple[int, int]], function: Callable[[Sequence[tuple[int, int]]], Tensor]
) -> Tensor:
    def chunks() -> Iterator[bytes]:
        batches = [places[begin : begin + BATCH] for begin in range(0, len(places), BATCH)]
        title = " ".join(takewhile(str.isalpha, what.split()))
        shown = track(batches, description=title, disable=not is_main())
        return _as_safetensors(len(places), (function(batch).cpu() for batch in shown))

    key = hashlib.sha256(f"{corpus.content_hash()} {what}".encode()).hexdigest()
    path = Store().mapped("training", key, chunks)
    with safe_open(path, framework="pt") as file:  # a memory map: rows are read when they are asked for
        features: Tensor = file.get_tensor("features")
        return features


def _as_safetensors(rows: int, batches: Iterator[Tensor]) -> Iterator[bytes]:
    """A safetensors file with one tensor, ``features``, piece by piece: its shape is known from the first batch."""
    first = next(batches).contiguous()
    size = rows * first[0].numel() * first.element_size()
    entry = {"dtype": DTYPES[first.dtype], "shape": [rows, *first.shape[1:]], "data_offsets": [0, size]}
    header = json.dumps({"features": entry}).encode()
    header += b" " * (-len(header) % 8)
    yield len(header).to_bytes(8, "little") + header
    yield first.numpy().tobytes()
    for batch in batches:
        yield batch.contiguous().numpy().tobytes()
