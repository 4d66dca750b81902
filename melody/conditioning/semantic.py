"""Semantic tokens: a self-supervised Wav2Vec2-Conformer at 25 Hz, its features clustered by k-means (appendix B.2)."""

from __future__ import annotations

import math
from threading import Lock
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melody.bounds import (
    Bands,
    Blocks,
    Entries,
    Factor,
    Heads,
    Layers,
    SampleRate,
    Samples,
    Seed,
    Share,
    ShareBelowOne,
    Width,
)
from melody.conditioning.contrastive import ContrastiveTargets
from melody.conditioning.kmeans import fit_centroids, nearest
from melody.conditioning.tower_names import CONFORMER
from melody.conditioning.windows import check_waveform, unit_gain
from melody.dsp.mel import LogMel
from melody.errors import MelodyError
from melody.protocols import SemanticTokenizer
from melody.registry import semantic_tokenizers

TOKEN_RATE = 25.0
"""Tokens a second (Table 3 counts 25·T)."""

_POSITIONS = Lock()
"""Held while the encoder's rotary angles, which it keeps for one length, are made."""


@semantic_tokenizers.register("wav2vec2-conformer")
class ConformerTokenizer(nn.Module, SemanticTokenizer):
    """Wav2Vec2-Conformer features (transformers' blocks) to the nearest of 1,024 k-means centroids, 25 a second.

    The paper's tokenizer has 199.5M parameters, a rate of 25 Hz and 1,024 centroids (main text); widths and depth are
    ours. Rotary positions. Each clip is scaled to the same level first, so loudness says nothing.

    Spans of the input are masked, and one of two objectives asks for what they hid. ``contrastive`` is wav2vec 2.0's,
    which the paper's is similar to (appendix B.2). ``best-rq`` (Chiu et al. 2022, arXiv 2202.01855) is ours, and the
    demo's, since it learns within minutes on a CPU: log-mel frames, quantised by a fixed random projection and a fixed
    random codebook, are predicted.

    Args:
        sample_rate: in Hz; a multiple of 25.
        front_end: ``waveform`` is wav2vec 2.0's strided convolutions, ``mel`` a log-mel spectrogram and one strided
            convolution (ours: learns within minutes on a CPU).
        hidden_size, num_layers, num_heads, intermediate_size, depthwise_kernel: of the conformer (ours: as many layers
            of a base model's width as meet the size that is printed).
        feature_layer: the layer whose output is clustered, from 1; ``num_layers`` is the last (ours).
        conv_width, conv_kernels, conv_strides: of the ``waveform`` front end; strides multiply to the samples a token.
        mel_hop_length: samples a log-mel frame; divides the samples a token.
        objective: of training, see above; ``contrastive`` needs the ``waveform`` front end.
        mask_start_probability: of a masked span beginning at a token, 0.065 as in wav2vec 2.0 (arXiv 2006.11477).
        mask_span: tokens a span: 10 are 400 ms, as in BEST-RQ.
        num_targets: random quantisers, each predicted by a head of its own: 1 in BEST-RQ; several say more of a frame
            (arXiv 2303.01037), which short training needs.
        target_codebook_size, target_dim, target_seed: of each random quantiser.
        codevector_groups, codevectors, codevector_dim: of the learnt quantiser of ``contrastive``: codebooks side by
            side, rows of each, width of all together; and num_negatives, the distractors: wav2vec 2.0 base's.
    """

    library_names: ClassVar = {"model": CONFORMER}
    token_rate = TOKEN_RATE

    centroids: Tensor
    feature_mean: Tensor
    feature_std: Tensor
    fitted: Tensor
    target_projection: Tensor
    target_codebook: Tensor

    def __init__(
        self,
        sample_rate: SampleRate = 24_000,
        codebook_size: Entries = 1024,
        front_end: Literal["waveform", "mel"] = "waveform",
        hidden_size: Width = 768,
        num_layers: Layers = 14,
        num_heads: Heads = 12,
        intermediate_size: Width = 3072,
        feature_layer: Layers = 10,
        depthwise_kernel: Samples = 31,
        conv_width: Width = 512,
        conv_kernels: Blocks[Samples] = (10, 8, 8, 4, 4, 4),
        conv_strides: Blocks[Factor] = (5, 4, 4, 3, 2, 2),
        num_mels: Bands = 128,
        n_fft: Samples = 2048,
        mel_hop_length: Samples = 240,
        mask_start_probability: Share = 0.065,
        mask_span: Samples = 10,
        num_targets: Factor = 1,
        target_codebook_size: Entries = 1024,
        target_dim: Width = 16,
        target_seed: Seed = 0,
        dropout: ShareBelowOne = 0.1,
        objective: Literal["contrastive", "best-rq"] = "best-rq",
        codevector_groups: Factor = 2,
        codevectors: Width = 320,
        codevector_dim: Width = 256,
        num_negatives: Bands = 100,
    ) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.codebook_size = codebook_size
        self.hop_length = _samples_a_token(sample_rate)
        self.front_end = front_end
        self.feature_layer = feature_layer
        self.mask_start_probability = mask_start_probability
        self.mask_span = mask_span
        _check(feature_layer, num_layers, hidden_size, num_heads, objective, front_end)
        self.objective = objective
        self.stack = _frames_a_token(self.hop_length, mel_hop_length)
        if objective == "best-rq":
            self._add_mel(LogMel(sample_rate, n_fft, mel_hop_length, num_mels), num_mels)
        if front_end == "waveform":
            self.conv_padding = _conv_padding(conv_kernels, conv_strides, self.hop_length)
        # The "mel" front end has no use for wav2vec's convolutions; one of width 1 costs nothing until it is dropped.
        convs = (conv_width, conv_kernels, conv_strides) if front_end == "waveform" else (1, (1,), (1,))
        self.model = _conformer(
            hidden_size, num_layers, num_heads, intermediate_size, depthwise_kernel, dropout, *convs
        )
        if front_end == "mel":
            self._replace_convolutions(num_mels, hidden_size)
        if objective == "contrastive":
            self.contrast = ContrastiveTargets(
                hidden_size, conv_width, codevector_groups, codevectors, codevector_dim, num_negatives
            )
        else:
            self.head = nn.Linear(hidden_size, num_targets * target_codebook_size)
            self._draw_quantizers(num_targets, self.stack * num_mels, target_dim, target_codebook_size, target_seed)
        self._make_room_for_centroids(hidden_size)

    def _add_mel(self, mel: LogMel, num_mels: int) -> None:
        self.mel = mel
        # Statistics of each band over the training data, no weights: quantiser and front end see unit variance.
        self.mel_norm = nn.BatchNorm1d(num_mels, affine=False, momentum=None)

    def _replace_convolutions(self, num_mels: int, hidden_size: int) -> None:
        del self.model.feature_extractor, self.model.feature_projection
        self.mel_projection = nn.Conv1d(num_mels, hidden_size, kernel_size=self.stack, stride=self.stack)

    def _draw_quantizers(self, *sizes_and_seed: int) -> None:
        """Derived from the seed, so not part of the stored weights."""
        projection, codebook = _random_quantizers(*sizes_and_seed)
        self.register_buffer("target_projection", projection, persistent=False)
        self.register_buffer("target_codebook", codebook, persistent=False)

    def _make_room_for_centroids(self, hidden_size: int) -> None:
        """What ``fit_codebook`` fills."""
        self.register_buffer("feature_mean", torch.zeros(hidden_size))
        self.register_buffer("feature_std", torch.ones(hidden_size))
        self.register_buffer("centroids", torch.zeros(self.codebook_size, hidden_size))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    def tokenize(self, waveform: Tensor) -> Tensor:
        """``(B, 1, T)`` -> tokens ``(B, floor(T / hop_length))``, int64; what is left of the last hop is not heard.

        Raises:
            MelodyError: wrong shape, NaN, or centroids that are not fitted.
        """
        if not self.fitted:
            raise MelodyError(
                "semantic tokenizer: the centroids are not fitted; run melody train semantic, or load weights"
            )
        features = self.features(waveform)  # (B, N, d)
        points = (features.flatten(0, 1) - self.feature_mean) / self.feature_std
        return nearest(points, self.centroids).view(features.shape[:2])

    def features(self, waveform: Tensor) -> Tensor:
        """Output of layer ``feature_layer``: ``(B, 1, T)`` -> ``(B, N, d)``, N = floor(T / hop_length)."""
        samples = self._prepare(waveform)  # (B, N * hop)
        if samples.shape[1] == 0:
            return samples.new_zeros(len(samples), 0, self.centroids.shape[1])
        return self.encode_samples(samples)

    def encode_samples(self, samples: Tensor) -> Tensor:
        """The pass behind ``features``: ``(B, N * hop)`` at a level of 1 -> ``(B, N, d)``."""
        if self.front_end == "mel":
            return self._encode(self._mel_front(self._bands(samples)), self.feature_layer)
        return self._encode(self._waveform_front(samples)[0], self.feature_layer)

    def fit_codebook(self, features: Tensor, seed: int = 0) -> None:
        """Fit the centroids by k-means on standardised features, so that no dimension dominates.

        Args:
            features: ``(n, d)``, n >= codebook_size.
        """
        if features.ndim != 2 or features.shape[1] != self.centroids.shape[1]:
            raise MelodyError(
                f"fit_codebook: the features have shape {tuple(features.shape)}, "
                f"expected (frames, {self.centroids.shape[1]})"
            )
        features = features.detach().float()
        mean, std = features.mean(dim=0), features.std(dim=0, correction=0).clamp(min=1e-5)
        self.centroids.copy_(fit_centroids((features - mean) / std, self.codebook_size, seed=seed))
        self.feature_mean.copy_(mean)
        self.feature_std.copy_(std)
        self.fitted.fill_(True)

    def self_supervised_loss(self, waveform: Tensor, step: int = 0) -> Tensor:
        """Mean cross-entropy of the masked tokens' targets, in nats; masks come from the global generator.

        ``contrastive`` adds its diversity loss.

        Args:
            waveform: ``(B, 1, T)`` with at least two tokens' length.
            step: of training; the draws of ``contrastive`` become surer with it.
        """
        samples = self._prepare(waveform)
        if samples.shape[1] < 2 * self.hop_length:
            raise MelodyError(
                f"self_supervised_loss: expected at least {2 * self.hop_length} samples, got {waveform.shape[-1]}"
            )
        count = samples.shape[1] // self.hop_length
        mask = span_mask(len(samples), count, self.mask_start_probability, self.mask_span).to(samples.device)
        if self.objective == "contrastive":
            inputs, features = self._waveform_front(samples)
            loss: Tensor = self.contrast(self._hidden(inputs, mask), features, mask, step)
            return loss
        bands = self._bands(samples)  # (B, frames, num_mels)
        targets = self._targets(bands)  # (B, N, num_targets)
        inputs = self._mel_front(bands) if self.front_end == "mel" else self._waveform_front(samples)[0]
        logits = self.head(self._hidden(inputs, mask)[mask])
        logits = logits.unflatten(-1, self.target_codebook.shape[:2])  # (masked, num_targets, codebook)
        return F.cross_entropy(logits.transpose(1, 2), targets[mask])

    def _hidden(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """The whole encoder's output for inputs ``(B, N, hidden)`` whose masked places are hidden."""
        inputs = torch.where(mask[..., None], self.model.masked_spec_embed, inputs)
        hidden: Tensor = self.model.encoder.layer_norm(self._encode(inputs, len(self.model.encoder.layers)))
        return hidden

    def _prepare(self, waveform: Tensor) -> Tensor:
        """Check, drop what does not fill a token, and bring every row to the same level: ``(B, N * hop)``."""
        check_waveform(waveform, "semantic tokenizer")
        count = waveform.shape[-1] // self.hop_length
        return unit_gain(waveform[:, 0, : count * self.hop_length]) if count else waveform[:, 0, :0]

    def _bands(self, samples: Tensor) -> Tensor:
        """Log-mel bands of zero mean and unit variance over the training data: ``(B, N * stack, num_mels)``."""
        normalised: Tensor = self.mel_norm(self.mel(samples).transpose(1, 2)).transpose(1, 2)
        return normalised

    @torch.no_grad()
    def _targets(self, bands: Tensor) -> Tensor:
        """Nearest row of each random codebook by cosine, bands stacked to token rate: ``(B, N, num_targets)``."""
        stacked = bands.unflatten(1, (-1, self.stack)).flatten(2)  # (B, N, stack * num_mels)
        projected = torch.einsum("bnw,qwd->bnqd", stacked, self.target_projection)
        # Rows are of unit length, so the largest product is the nearest row whatever the length of the projection.
        return torch.einsum("bnqd,qkd->bnqk", projected, self.target_codebook).argmax(dim=-1)

    def _mel_front(self, bands: Tensor) -> Tensor:
        """Input of the conformer, one vector a token: ``(B, N, hidden)``."""
        projected: Tensor = self.mel_projection(bands.transpose(1, 2)).transpose(1, 2)
        return projected

    def _waveform_front(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """The same by convolutions, and the normalised features that it is made of, ``(B, N, conv_width)``."""
        extracted = self.model.feature_extractor(F.pad(samples, self.conv_padding)).transpose(1, 2)
        hidden, features = self.model.feature_projection(extracted)
        return hidden, features

    def _encode(self, hidden: Tensor, num_layers: int) -> Tensor:
        """The encoder's first layers, as its own forward runs them, but ending where the features are read."""
        encoder = self.model.encoder
        with _POSITIONS:  # another thread may ask for another length
            # It keeps rotary angles by length alone, wrong after a change of device or out of inference mode.
            encoder.embed_positions.cached_sequence_length = None
            positions = encoder.embed_positions(hidden)
        hidden = encoder.dropout(hidden)
        for layer in encoder.layers[:num_layers]:
            output = layer(hidden, attention_mask=None, relative_position_embeddings=positions)
            hidden = output[0] if isinstance(output, tuple) else output  # a tuple before transformers 5
        return hidden


def span_mask(rows: int, length: int, start_probability: float, span: int) -> Tensor:
    """Boolean mask ``(rows, length)`` of spans that may overlap; every row has a masked and an unmasked place.

    >>> mask = span_mask(3, 40, 0.1, 5)
    >>> bool(mask.any(dim=1).all()), bool(mask.all(dim=1).any())
    (True, False)
    """
    span = min(span, length - 1)
    starts = torch.rand(rows, length) < start_probability
    starts[torch.arange(rows), torch.randint(0, length - span + 1, (rows,))] = True
    padded = F.pad(starts.float()[:, None], (span - 1, 0))
    mask = F.max_pool1d(padded, span, stride=1)[:, 0] > 0
    full = mask.all(dim=1).nonzero().flatten()
    mask[full, torch.randint(0, length, (len(full),))] = False
    return mask


def _samples_a_token(sample_rate: int) -> int:
    if sample_rate % int(TOKEN_RATE):
        raise MelodyError(f"sample_rate is {sample_rate} Hz: expected a multiple of the token rate, {TOKEN_RATE:g} Hz")
    return sample_rate // int(TOKEN_RATE)


def _frames_a_token(hop_length: int, mel_hop_length: int) -> int:
    if mel_hop_length < 1 or hop_length % mel_hop_length:
        raise MelodyError(f"mel_hop_length {mel_hop_length} does not divide the {hop_length} samples of a token")
    return hop_length // mel_hop_length


def _check(
    feature_layer: int, num_layers: int, hidden_size: int, num_heads: int, objective: str, front_end: str
) -> None:
    if not 1 <= feature_layer <= num_layers:
        raise MelodyError(f"feature_layer is {feature_layer}: expected 1 to num_layers, {num_layers}")
    if hidden_size % (2 * num_heads):
        raise MelodyError(f"hidden_size {hidden_size} is not an even multiple of num_heads {num_heads}")
    if objective == "contrastive" and front_end == "mel":
        raise MelodyError("objective 'contrastive' needs front_end 'waveform', whose features it quantises; got 'mel'")


def _conv_padding(kernels: tuple[int, ...], strides: tuple[int, ...], hop_length: int) -> tuple[int, int]:
    """Padding that makes the convolutions give exactly one vector a token."""
    if len(kernels) != len(strides) or math.prod(strides) != hop_length:
        raise MelodyError(
            f"conv_strides {list(strides)} with {len(kernels)} conv_kernels: expected as many of each, "
            f"strides multiplying to {hop_length}"
        )
    if any(kernel < stride for kernel, stride in zip(kernels, strides, strict=True)):
        raise MelodyError(
            f"conv_kernels {list(kernels)}: a kernel shorter than its stride in {list(strides)} skips samples"
        )
    receptive_field = 1 + sum((kernel - 1) * math.prod(strides[:i]) for i, kernel in enumerate(kernels))
    total = receptive_field - hop_length
    return total // 2, total - total // 2


def _random_quantizers(number: int, width: int, dim: int, codebook_size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Projections ``(number, width, dim)`` and unit codebooks ``(number, codebook_size, dim)``, never trained."""
    generator = torch.Generator().manual_seed(seed)
    projection = torch.randn(number, width, dim, generator=generator, device="cpu") / width**0.5
    codebook = torch.randn(number, codebook_size, dim, generator=generator, device="cpu")
    return projection, F.normalize(codebook, dim=-1)


def _conformer(
    hidden_size: int,
    num_layers: int,
    num_heads: int,
    intermediate_size: int,
    depthwise_kernel: int,
    dropout: float,
    conv_width: int,
    conv_kernels: tuple[int, ...],
    conv_strides: tuple[int, ...],
) -> Any:
    from transformers import Wav2Vec2ConformerConfig, Wav2Vec2ConformerModel

    config = Wav2Vec2ConformerConfig(
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        intermediate_size=intermediate_size,
        conv_depthwise_kernel_size=depthwise_kernel,
        position_embeddings_type="rotary",
        conv_dim=(conv_width,) * len(conv_kernels),
        conv_kernel=conv_kernels,
        conv_stride=conv_strides,
        feat_extract_norm="layer",  # as in wav2vec 2.0 large: frames normalised one by one, so length does not matter
        # One small group: this convolution is built by transformers and never called, see below.
        num_conv_pos_embeddings=1,
        num_conv_pos_embedding_groups=1,
        hidden_dropout=dropout,
        attention_dropout=dropout,
        activation_dropout=dropout,
        conformer_conv_dropout=dropout,
        feat_proj_dropout=0.0,
        layerdrop=0.0,
    )
    model: Any = Wav2Vec2ConformerModel(config)
    # transformers builds a positional convolution that its conformer never calls: weights without a use.
    model.encoder.pos_conv_embed = nn.Identity()
    return model
