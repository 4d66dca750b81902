"""Embeddings, tokens and latents of a corpus: computed once, cached by content of the audio and of the weights."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from rich.progress import track
from safetensors.torch import load_file, save
from torch import Tensor

from melody.data.corpus import Corpus
from melody.paths import cache_dir
from melody.protocols import Codec, JointEmbedder, SemanticTokenizer
from melody.training.audio import segment_batch, segments
from melody.weights import write_bytes

BATCH = 16


def semantic_tokens(corpus: Corpus, tokenizer: SemanticTokenizer, clip_s: float, weights: str) -> Tensor:
    """Semantic tokens of every segment: ``(segments, N)``."""
    return _of_segments(corpus, clip_s, f"semantic tokens {weights} {_code(tokenizer)}", tokenizer.tokenize)


def latents(corpus: Corpus, codec: Codec, clip_s: float, weights: str) -> Tensor:
    """Latents of every segment: ``(segments, L, D)``."""
    return _of_segments(corpus, clip_s, f"latents {weights} {_code(codec)}", codec.encode)


def audio_embeddings(corpus: Corpus, joint: JointEmbedder, clip_s: float, weights: str) -> Tensor:
    """Joint embedding of every segment's audio: ``(segments, E)``."""
    return _of_segments(corpus, clip_s, f"audio embeddings {weights} {_code(joint)}", joint.embed_audio)


def text_embeddings(corpus: Corpus, joint: JointEmbedder, clip_s: float, weights: str) -> Tensor:
    """Joint embedding of every segment's caption and tags: ``(segments, 2, E)``."""
    places = segments(corpus, round(clip_s * corpus.sample_rate))

    def embed(batch: Sequence[tuple[int, int]]) -> Tensor:
        texts = [text for index, _ in batch for text in texts_of(corpus, index)]
        embedded: Tensor = joint.embed_text(texts).unflatten(0, (-1, 2))
        return embedded

    return _cached(corpus, f"text embeddings {weights} {_code(joint)} {clip_s}", places, embed)


def _code(part: object) -> str:
    """Hash of the part's source file: other code gives other features from the same weights."""
    return hashlib.sha256(inspect.getsource(sys.modules[type(part).__module__]).encode()).hexdigest()[:16]


def texts_of(corpus: Corpus, index: int) -> tuple[str, str]:
    """A clip's caption and its tags as a text; the caption twice where there are no tags."""
    clip = corpus[index]
    return clip.text, ", ".join(clip.tags) or clip.text


def _of_segments(corpus: Corpus, clip_s: float, what: str, function: Callable[[Tensor], Tensor]) -> Tensor:
    samples = round(clip_s * corpus.sample_rate)
    return _cached(
        corpus,
        f"{what} {clip_s}",
        segments(corpus, samples),
        lambda batch: function(segment_batch(corpus, list(batch), samples)),
    )


@torch.inference_mode()
def _cached(
    corpus: Corpus, what: str, places: list[tuple[int, int]], function: Callable[[Sequence[tuple[int, int]]], Tensor]
) -> Tensor:
    key = hashlib.sha256(f"{corpus.content_hash()} {what}".encode()).hexdigest()
    path = Path(cache_dir("features")) / f"{key}.safetensors"
    if not path.is_file():
        batches = [places[begin : begin + BATCH] for begin in range(0, len(places), BATCH)]
        computed = [function(batch) for batch in track(batches, description=f"{what.split()[0]} {what.split()[1]}")]
        write_bytes(path, save({"features": torch.cat(computed).contiguous()}))
    return load_file(path)["features"]
