"""Joint embedding of text and music after MuLan (Huang et al. 2022, arXiv 2208.12415): two towers, one sphere."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melody.bounds import Bands, Entries, Heads, Layers, SampleRate, Samples, Seconds, ShareBelowOne, Tokens, Width
from melody.conditioning.ast_bands import FRAME, FRAMES, HOP, AstBands
from melody.conditioning.ast_bands import SAMPLE_RATE as AST_RATE
from melody.conditioning.public_towers import MUSIC_FACTS, TEXT_FACTS, begin_from
from melody.conditioning.tower_names import AST, BERT
from melody.conditioning.vocabulary import TextVocabulary
from melody.conditioning.windows import WINDOWS_AT_ONCE, check_waveform, cut_windows, unit_gain
from melody.dsp.mel import LogMel
from melody.errors import MelodyError
from melody.protocols import JointEmbedder
from melody.registry import joint_embedders

MAX_LOGIT_SCALE = 100.0
"""Bound of the learnt inverse temperature, as in CLIP (arXiv 2103.00020, section 2.5)."""
_MEL_CENTRE, _MEL_SPREAD = -4.5, 2.0
"""Bring log-mel values (from -6.9, the floor, to about 0) near zero mean and unit spread (ours)."""


@joint_embedders.register("mulan")
class MulanEmbedder(nn.Module, JointEmbedder):
    """Music by an Audio Spectrogram Transformer, text by BERT, both projected to one unit sphere (appendix B.3).

    The defaults are AST base (arXiv 2104.01778) and BERT base (arXiv 1810.04805) at 24 kHz, 195.3M in the paper. The
    text tower has no pooler of its own; a vocabulary is learnt by ``fit_vocabulary`` and travels with the weights.

    The paper fine-tunes two public models (appendix B.3). ``begin_music`` and ``begin_text`` fill the towers from such;
    the music tower then hears what that model was trained on, ``front_end`` ``ast``, and not our ``log-mel``. Once
    trained, the towers' weights and the vocabulary are in our own file, and the public models are needed no more.

    Args:
        sample_rate: in Hz.
        embedding_dim: E, 128 as in MuLan.
        window_s: seconds that the music tower hears at once; longer audio is averaged, shorter repeated.
        front_end: ``log-mel`` is ours, at the audio's rate and one level; ``ast`` the public model's, at 16 kHz and the
            level that the audio has: 1,024 frames, so ``window_s`` is 10.24 at most.
        num_mels, n_fft, mel_hop_length: of the log-mel spectrogram; 128 bands and 10 ms as in AST, the window ours.
            ``ast`` takes only the bands.
        audio_hidden_size, audio_layers, audio_heads: of the music tower, AST base's.
        text_hidden_size, text_layers, text_heads: of the text tower, BERT base's.
        vocabulary_size: rows of the text tower's embedding; 30,522 in BERT.
        max_text_tokens: a text with more keeps its beginning.
        patch_size: side of a spectrogram patch, in frames and in bands.
        patch_stride: step between patches; AST overlaps them by 6.
        pooling: ``cls`` reads the first token (both in MuLan and in AST), ``mean`` averages all of them (ours,
            for small towers).
        dropout: of the text tower.
    """

    library_names: ClassVar = {"audio_tower": AST, "text_tower": BERT}

    def __init__(
        self,
        sample_rate: SampleRate = 24_000,
        embedding_dim: Width = 128,
        window_s: Seconds = 10.0,
        num_mels: Bands = 128,
        n_fft: Samples = 2048,
        mel_hop_length: Samples = 240,
        patch_size: Samples = 16,
        patch_stride: Samples = 10,
        audio_hidden_size: Width = 768,
        audio_layers: Layers = 12,
        audio_heads: Heads = 12,
        text_hidden_size: Width = 768,
        text_layers: Layers = 12,
        text_heads: Heads = 12,
        vocabulary_size: Entries = 30_522,
        max_text_tokens: Tokens = 512,
        pooling: Literal["cls", "mean"] = "cls",
        dropout: ShareBelowOne = 0.1,
        front_end: Literal["log-mel", "ast"] = "log-mel",
    ) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.embedding_dim = embedding_dim
        self.pooling = pooling
        self.front_end = front_end
        if front_end == "ast":
            frames, self.window_length = FRAMES, _ast_window(window_s, sample_rate)
            self.mel: nn.Module = AstBands(sample_rate, num_mels)
        else:
            frames = round(window_s * sample_rate) // mel_hop_length
            self.window_length = frames * mel_hop_length
            self.mel = LogMel(sample_rate, n_fft, mel_hop_length, num_mels)
        self.audio_tower = _audio_tower(
            frames, num_mels, patch_size, patch_stride, audio_hidden_size, audio_layers, audio_heads
        )
        self.audio_projection = nn.Linear(audio_hidden_size, embedding_dim)
        self.vocabulary = TextVocabulary(vocabulary_size, max_text_tokens)
        self.text_tower = _text_tower(
            vocabulary_size, max_text_tokens, text_hidden_size, text_layers, text_heads, dropout
        )
        self.text_projection = nn.Linear(text_hidden_size, embedding_dim)
        # Starts at a temperature of 0.07 as in CLIP.
        self.log_logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def fit_vocabulary(self, texts: Iterable[str]) -> None:
        """Learn the vocabulary from captions: before training, and once, for the text tower's rows follow it."""
        self.vocabulary.fit(texts)

    def begin_music(self, source: str | Path, setting: str = "audio_weights") -> None:
        """Fill the music tower from a public AST: a folder, or the hub's model ``OWNER/NAME``.

        Raises:
            MelodyError: no such model, one of another size, or a tower that hears something else.
        """
        if self.front_end != "ast":
            raise MelodyError(f"{setting}: a public music tower needs front_end 'ast', got {self.front_end!r}")
        begin_from(self.audio_tower, source, MUSIC_FACTS, setting)

    def begin_text(self, source: str | Path, setting: str = "text_weights") -> None:
        """Fill the text tower from a public BERT, and take over its vocabulary; raises as ``begin_music``."""
        folder = begin_from(self.text_tower, source, TEXT_FACTS, setting)
        self.vocabulary.adopt(folder / "tokenizer.json", setting)

    def embed_audio(self, waveform: Tensor) -> Tensor:
        """``(B, 1, T)`` -> unit vectors ``(B, E)``; raises ``MelodyError`` on a wrong shape or NaN."""
        check_waveform(waveform, "embed_audio")
        windows = cut_windows(waveform[:, 0], self.window_length)  # (B, W, window)
        if self.front_end == "log-mel":
            windows = unit_gain(windows)
        groups = windows.flatten(0, 1).split(WINDOWS_AT_ONCE)
        each = torch.cat([self.embed_windows(group) for group in groups]).unflatten(0, windows.shape[:2])  # (B, W, E)
        return F.normalize(each.mean(dim=1), dim=-1)

    def embed_windows(self, windows: Tensor) -> Tensor:
        """One pass of the music tower: ``(N, window_length)``, cut as by ``embed_audio`` -> unit vectors ``(N, E)``."""
        mel = self.mel(windows)  # (N, frames, num_mels)
        if self.front_end == "log-mel":
            mel = (mel - _MEL_CENTRE) / _MEL_SPREAD
        hidden = self.audio_tower(mel).last_hidden_state  # (N, 2 + patches, H)
        # AST carries two summary tokens, and averages them.
        pooled = hidden[:, :2].mean(dim=1) if self.pooling == "cls" else hidden[:, 2:].mean(dim=1)
        return F.normalize(self.audio_projection(pooled), dim=-1)

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """``B`` texts -> unit vectors ``(B, E)``, each the same alone as in a batch, to rounding."""
        if isinstance(texts, str) or len(texts) == 0:
            raise MelodyError("embed_text: expected a list with at least one text")
        return self.embed_tokens(*self.vocabulary(texts))

    def embed_tokens(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """One pass of the text tower: ids and, where some are padding, mask ``(B, N)`` -> unit vectors ``(B, E)``."""
        hidden = self.text_tower(input_ids=ids, attention_mask=mask).last_hidden_state  # (B, N, H)
        if self.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            pooled = hidden.mean(dim=1) if mask is None else _masked_mean(hidden, mask)
        return F.normalize(self.text_projection(pooled), dim=-1)

    def loss(self, texts: Sequence[str], waveform: Tensor) -> Tensor:
        """Symmetric contrastive loss over the batch (InfoNCE, arXiv 1807.03748, symmetric as CLIP's and MuLan's).

        Rows with equal texts (but for case and outer spaces) are positives of each other and share the target evenly,
        so a caption that occurs twice is not pushed away from its own meaning (ours). With distinct texts it is CLIP's
        loss.

        Args:
            texts: ``B`` captions, B >= 2.
            waveform: ``(B, 1, T)``.
        """
        if len(texts) != len(waveform) or len(texts) < 2:
            raise MelodyError(
                f"loss: {len(texts)} texts for {len(waveform)} waveforms; expected as many, and at least 2"
            )
        labels = [text.strip().lower() for text in texts]
        return self.contrast(self.embed_text(texts), self.embed_audio(waveform), labels)

    def contrast(self, text: Tensor, audio: Tensor, labels: Sequence[str | int]) -> Tensor:
        """The same loss from unit vectors, two ``(B, E)``, and what counts as the same text, ``B`` labels."""
        scale = self.log_logit_scale.exp().clamp(max=MAX_LOGIT_SCALE)
        return contrastive_loss(scale * text @ audio.T, labels)  # (B texts, B waveforms)


def contrastive_loss(logits: Tensor, labels: Sequence[str | int]) -> Tensor:
    """Mean of both directions' cross-entropy, the target spread evenly over rows of the same label.

    Args:
        logits: ``(B, B)``, row i for text i, column j for waveform j.
        labels: what counts as the same; ``B`` of them.
    """
    number = {label: index for index, label in enumerate(dict.fromkeys(labels))}
    index = torch.tensor([number[label] for label in labels], device=logits.device)
    same = (index[:, None] == index[None, :]).to(logits.dtype)
    target = same / same.sum(dim=1, keepdim=True)  # symmetric: rows of one label have the same count
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def _masked_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    weight = mask[..., None].to(hidden.dtype)
    return (hidden * weight).sum(dim=1) / weight.sum(dim=1)


def _ast_window(window_s: float, sample_rate: int) -> int:
    longest = FRAMES * HOP / AST_RATE
    if not FRAME / AST_RATE <= window_s <= longest:
        raise MelodyError(f"window_s is {window_s:g}: expected at most {longest:g} s, the frames of front_end 'ast'")
    return round(window_s * sample_rate)


def _audio_tower(
    frames: int, num_mels: int, patch_size: int, patch_stride: int, hidden_size: int, layers: int, heads: int
) -> Any:
    from transformers import ASTConfig, ASTModel

    if min(frames, num_mels) < patch_size:
        raise MelodyError(
            f"patch_size {patch_size} is larger than the spectrogram, {frames} frames of {num_mels} bands"
        )
    _check_heads("audio", hidden_size, heads)
    config = ASTConfig(
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden_size,
        patch_size=patch_size,
        frequency_stride=patch_stride,
        time_stride=patch_stride,
        max_length=frames,
        num_mel_bins=num_mels,
    )
    return ASTModel(config)


def _text_tower(
    vocabulary_size: int, max_text_tokens: int, hidden_size: int, layers: int, heads: int, dropout: float
) -> Any:
    from transformers import BertConfig, BertModel

    _check_heads("text", hidden_size, heads)
    config = BertConfig(
        vocab_size=vocabulary_size,
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden_size,
        max_position_embeddings=max_text_tokens,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        pad_token_id=0,
    )
    return BertModel(config, add_pooling_layer=False)


def _check_heads(tower: str, hidden_size: int, heads: int) -> None:
    if hidden_size % heads:
        raise MelodyError(f"{tower}_hidden_size {hidden_size} is not a multiple of {tower}_heads {heads}")
