"""What a pass of each of our parts takes, by formula from its constructor's arguments (see ``flops``).

The arguments are a preset's, with defaults filled in: ``preset.denoiser.arguments``. Rows, frames and tokens are of one
pass, the batch included. Two things are counted as the network runs them: padded segments are computed like others, and
weight norms are folded in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from melody.conditioning.ast_bands import FRAME, FRAMES, HOP, N_FFT, resampling_taps
from melody.metrics.flops import (
    Cost,
    attention,
    convolution,
    fourier,
    linear,
    parameters,
    product,
    recurrence,
    table,
)
from melody.vae.fourier import KERNEL_SIZE
from melody.vae.hifi import DILATIONS, END_KERNEL

Arguments = Mapping[str, Any]


def llama(a: Arguments, tokens: int, cached: int) -> Cost:
    """One pass over ``tokens`` new tokens after ``cached`` ones, with logits of the last (``llama``)."""
    d, f = a["hidden_size"], a["feed_forward_size"]
    vocabulary = a["num_prefix_tokens"] * a["prefix_codebook_size"] + a["codebook_size"]
    layer = linear(tokens, d, 3 * d) + attention(tokens, cached + tokens, d) + linear(tokens, d, d)
    layer += linear(tokens, d, 2 * f) + linear(tokens, f, d) + parameters(2 * d)
    return table(tokens, d, vocabulary) + layer.times(a["num_layers"]) + parameters(d) + linear(1, d, vocabulary)


def dual_path_prepare(a: Arguments, tokens: int) -> Cost:
    """The semantic tokens' embedding, and their keys and values for every cross-attention: once a generation."""
    d = a["hidden_size"]
    memories = linear(tokens, d, 2 * d).times(a["num_blocks"] * a["coarse_layers"])
    return table(tokens, d, a["codebook_size"]) + _mlp(tokens, d, d) + memories


def dual_path(a: Arguments, frames: int, tokens: int, conditional: int = 1, unconditional: int = 0) -> Cost:
    """One pass of ``dual-path`` over rows that see the tokens and rows that do not; ``prepare`` is not in it.

    Args:
        frames: latent frames of a row.
        tokens: semantic tokens of a row.
    """
    d, D = a["hidden_size"], a["latent_dim"]
    rows = (conditional + unconditional) * frames
    angles = parameters(2 * a["angle_embedding_dim"]) + _mlp(rows, a["angle_embedding_dim"], d)
    ends = linear(rows, D, d, bias=True) + parameters(2 * d) + linear(rows, d, D, bias=True)
    segments = -(-frames // (a["segment_size"] // 2)) + 1
    total = angles + ends
    for width in a["merge_widths"]:
        layer = _roformer_layer(a, width, segments, tokens, conditional, unconditional)
        total += (
            layer.times(a["coarse_layers"]) + _fine_path(a, segments, conditional + unconditional) + parameters(2 * d)
        )
    return total


def _roformer_layer(a: Arguments, width: int, segments: int, tokens: int, conditional: int, unconditional: int) -> Cost:
    d, f = a["hidden_size"], a["feed_forward_size"]
    rows, blind = (conditional + unconditional) * width * segments, unconditional * width * segments
    columns = (conditional + unconditional) * width
    to_itself = attention(segments, segments, d).times(columns)
    own = linear(rows, d, 3 * d) + to_itself + linear(rows, d, d)
    cross = linear(rows, d, d) + attention(conditional * width * segments, tokens, d) + linear(rows, d, d)
    cross += linear(blind, d, 2 * d) + attention(segments, segments, d).times(unconditional * width)
    return own + cross + linear(rows, d, 2 * f) + linear(rows, f, d) + parameters(3 * d)


def _fine_path(a: Arguments, segments: int, batch: int) -> Cost:
    d, both = a["hidden_size"], 2 * a["recurrent_size"]
    places = batch * segments * a["segment_size"]
    products = 3 if d == both else 4  # W, W_f, W_r, and the highway's where the widths differ
    cost = linear(places, d, products * both) + linear(places, both, 3 * both)
    cost += (parameters(2 * both) + recurrence(places, both)).times(2)
    film = linear(batch * (segments + 1) * a["segment_size"] // 2, d, 2 * d, bias=True)
    return cost + linear(places, both, d) + film


def _mlp(rows: int, n_in: int, width: int) -> Cost:
    return linear(rows, n_in, width, bias=True) + parameters(width) + linear(rows, width, width, bias=True)


def hifi_encode(a: Arguments, frames: int) -> Cost:
    """``hifi-vae`` from the waveform of so many latent frames to their mean and variance."""
    samples, n_in, total = frames * math.prod(a["encoder_rates"]), 1, Cost()
    blocks = zip(a["encoder_widths"], a["encoder_rates"], a["encoder_kernels"], strict=True)
    for n_out, rate, kernel in blocks:
        samples //= rate
        residual = _residual(samples, n_out, a["encoder_residual_kernels"], convolutions=2)
        total += convolution(samples, n_in, n_out, kernel) + residual.times(a["encoder_units"])
        n_in = n_out
    return total + convolution(frames, n_in, 2 * a["latent_dim"], END_KERNEL)


def hifi_decode(a: Arguments, frames: int) -> Cost:
    """``hifi-vae`` from so many latent frames to the waveform."""
    samples, n_in = frames, a["decoder_input_width"]
    total = convolution(frames, a["latent_dim"], n_in, END_KERNEL)
    blocks = zip(a["decoder_widths"], a["decoder_rates"], a["decoder_kernels"], strict=True)
    for n_out, rate, kernel in blocks:
        total += convolution(samples, n_in, n_out, kernel)
        samples *= rate
        total += _residual(samples, n_out, a["decoder_residual_kernels"], convolutions=1)
        n_in = n_out
    return total + convolution(samples, n_in, 1, END_KERNEL)


def _residual(samples: int, width: int, kernels: Sequence[int], convolutions: int) -> Cost:
    chains = [convolution(samples, width, width, kernel) for kernel in kernels]
    return sum(chains, Cost()).times(len(DILATIONS) * convolutions)


def fourier_encode(a: Arguments, frames: int) -> Cost:
    """``fourier-vae`` from the waveform of so many latent frames to their mean and variance."""
    h, bins, per_frame = a["hidden_dim"], a["n_fft"] // 2 + 1, a["hop_length"] // a["stft_hop_length"]
    into = fourier(frames * per_frame, a["n_fft"]) + linear(frames, 3 * bins * per_frame, h, bias=True)
    blocks = _convnext(frames, h).times(a["encoder_layers"])
    return into + blocks + parameters(2 * h) + linear(frames, h, 2 * a["latent_dim"], bias=True)


def fourier_decode(a: Arguments, frames: int) -> Cost:
    """``fourier-vae`` from so many latent frames to the waveform."""
    h, bins, per_frame = a["hidden_dim"], a["n_fft"] // 2 + 1, a["hop_length"] // a["stft_hop_length"]
    blocks = linear(frames, a["latent_dim"], h, bias=True) + _convnext(frames, h).times(a["decoder_layers"])
    out = parameters(2 * h) + linear(frames, h, 2 * bins * per_frame, bias=True)
    return blocks + out + fourier(frames * per_frame, a["n_fft"])


def _convnext(frames: int, h: int) -> Cost:
    mix = convolution(frames, h, h, KERNEL_SIZE, groups=h) + parameters(3 * h)  # norm and gain
    return mix + linear(frames, h, 3 * h, bias=True) + linear(frames, 3 * h, h, bias=True)


def mulan_audio(a: Arguments) -> Cost:
    """``mulan``'s music tower on one window, log-mel bands and projection included."""
    d, patch = a["audio_hidden_size"], a["patch_size"]
    frames, bands = _mulan_bands(a)
    patches = math.prod((side - patch) // a["patch_stride"] + 1 for side in (frames, a["num_mels"]))
    places = patches + 2  # AST's two summary tokens
    into = bands + convolution(patches, 1, d, patch**2) + parameters((2 + places) * d)
    layers = _transformer_layer(places, d, 4 * d).times(a["audio_layers"])
    return into + layers + parameters(2 * d) + linear(1, d, a["embedding_dim"], bias=True)


def _mulan_bands(a: Arguments) -> tuple[int, Cost]:
    """Frames that the music tower hears, and what they cost."""
    samples = round(a["window_s"] * a["sample_rate"])
    if a["front_end"] == "log-mel":
        frames = samples // a["mel_hop_length"]
        return frames, _log_mel(a, frames)
    old, new, taps = resampling_taps(a["sample_rate"])
    resampling = product(samples // old + 1, taps, new) if old != new else Cost()
    frames = (-(-samples * new // old) - FRAME) // HOP + 1
    return FRAMES, resampling + fourier(frames, N_FFT) + product(frames, N_FFT // 2 + 1, a["num_mels"])


def mulan_text(a: Arguments, tokens: int) -> Cost:
    """``mulan``'s text tower on one text, projection included."""
    d = a["text_hidden_size"]
    into = table(tokens, d, a["vocabulary_size"]) + table(tokens, d, a["max_text_tokens"]) + table(tokens, d, 2)
    layers = _transformer_layer(tokens, d, 4 * d).times(a["text_layers"])
    return into + parameters(2 * d) + layers + linear(1, d, a["embedding_dim"], bias=True)


def _transformer_layer(rows: int, d: int, f: int) -> Cost:
    """Biases everywhere and two layer norms, as BERT and AST have them."""
    projections = linear(rows, d, 3 * d, bias=True) + attention(rows, rows, d) + linear(rows, d, d, bias=True)
    return projections + linear(rows, d, f, bias=True) + linear(rows, f, d, bias=True) + parameters(4 * d)


def _log_mel(a: Arguments, frames: int) -> Cost:
    return fourier(frames, a["n_fft"]) + product(frames, a["n_fft"] // 2 + 1, a["num_mels"])


def conformer_tokens(a: Arguments, tokens: int, token_rate: float) -> Cost:
    """``wav2vec2-conformer`` from the waveform of so many tokens to them: layers up to the one that is read."""
    d, f, kernel = a["hidden_size"], a["intermediate_size"], a["depthwise_kernel"]
    hop = int(a["sample_rate"] / token_rate)
    feed_forward = parameters(2 * d) + linear(tokens, d, f, bias=True) + linear(tokens, f, d, bias=True)
    attending = linear(tokens, d, 3 * d, bias=True) + attention(tokens, tokens, d) + linear(tokens, d, d, bias=True)
    mixing = linear(tokens, d, 2 * d) + convolution(tokens, d, d, kernel, groups=d, bias=False) + linear(tokens, d, d)
    layer = feed_forward.times(2) + attending + mixing + parameters(8 * d)  # four more norms
    return _conformer_front(a, tokens, hop) + layer.times(a["feature_layer"]) + product(tokens, d, a["codebook_size"])


def _conformer_front(a: Arguments, tokens: int, hop: int) -> Cost:
    d, width = a["hidden_size"], a["conv_width"]
    if a["front_end"] == "mel":
        frames = tokens * hop // a["mel_hop_length"]
        return _log_mel(a, frames) + convolution(tokens, a["num_mels"], d, hop // a["mel_hop_length"])
    kernels, strides = a["conv_kernels"], a["conv_strides"]
    reach = sum((kernel - 1) * math.prod(strides[:layer]) for layer, kernel in enumerate(kernels))
    samples, n_in, total = (tokens - 1) * hop + 1 + reach, 1, Cost()  # padded so that a token a hop comes out
    for kernel, stride in zip(kernels, strides, strict=True):
        samples = (samples - kernel) // stride + 1
        total += convolution(samples, n_in, width, kernel, bias=False) + parameters(2 * width)
        n_in = width
    return total + parameters(2 * width) + linear(tokens, width, d, bias=True)
