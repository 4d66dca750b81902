"""Codec with a Fourier transform at both ends: all its layers work at the latent rate, so it is quick on a CPU.

Ours, for small systems; the paper's codec is ``hifi-vae``. The head follows Vocos (Siuzdak, arXiv 2306.00814): ConvNeXt
blocks that never change the rate, then an inverse transform. The encoder mirrors it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from melody.bounds import Entries, LayersOrNone, Levels, SampleRate, Samples, Width
from melody.errors import MelodyError
from melody.registry import codecs, token_codecs
from melody.vae.residual import ResidualCodec
from melody.vae.variational import VariationalCodec

KERNEL_SIZE = 7
"""Frames that a block's depthwise convolution sees (ConvNeXt, arXiv 2201.03545; Vocos)."""
COMPRESSION = 0.3
"""Exponent of the magnitudes that the encoder sees: ours, near loudness, so that quiet partials count too."""
HEAD_SCALE, HEAD_CORNER_HZ = 0.5, 300.0
"""Ours: a bin at frequency f is the network's output times 0.5 / (1 + f / 300 Hz), about the spectrum of music. With an
L1 of the waveform, a complex head so scaled learned faster than magnitude times unit phase, which is Vocos' head."""
LAYER_SCALE = 0.1
"""First value of a block's gain on its residual branch: ours; ConvNeXt's 1e-6 is for deep networks."""


class FourierBackbone(nn.Module):
    """Encoder and decoder of ConvNeXt blocks at the latent rate between an STFT and an inverse STFT (after Vocos)."""

    head_scale: Tensor

    def _build(
        self,
        name: str,
        sample_rate: int,
        hop_length: int,
        widths: tuple[int, int, int],
        layers: tuple[int, int],
        transform: tuple[int, int],
    ) -> None:
        """Build the layers.

        Args:
            name: of the codec, for messages.
            widths: what the encoder gives, what the decoder takes, channels of the blocks.
            layers: blocks of the encoder, of the decoder.
            transform: length and hop.
        """
        (encoded, latent_dim, hidden_dim), (n_fft, stft_hop_length) = widths, transform
        if min(sample_rate, hop_length, *widths, *transform) < 1:
            raise MelodyError(f"{name}: rate, hops, n_fft and widths must be at least 1")
        if min(layers) < 0:
            raise MelodyError(f"{name}: {layers[0]} and {layers[1]} layers: expected none or more")
        if hop_length % stft_hop_length:
            raise MelodyError(f"{name}: stft_hop_length {stft_hop_length} does not divide hop_length {hop_length}")
        self.sample_rate, self.hop_length = sample_rate, hop_length
        self.stft = ShortTimeFourier(n_fft, stft_hop_length)
        self.frames = hop_length // stft_hop_length
        bins = n_fft // 2 + 1
        self.encoder_input = nn.Linear(3 * bins * self.frames, hidden_dim)
        self.encoder_blocks = nn.ModuleList(ConvNextBlock(hidden_dim) for _ in range(layers[0]))
        self.encoder_output = nn.Sequential(nn.LayerNorm(hidden_dim), nn.Linear(hidden_dim, encoded))
        self.decoder_input = nn.Linear(latent_dim, hidden_dim)
        self.decoder_blocks = nn.ModuleList(ConvNextBlock(hidden_dim) for _ in range(layers[1]))
        self.decoder_output = nn.Sequential(nn.LayerNorm(hidden_dim), nn.Linear(hidden_dim, 2 * bins * self.frames))
        frequency = torch.arange(bins) * sample_rate / n_fft  # Hz
        self.register_buffer("head_scale", HEAD_SCALE / (1 + frequency / HEAD_CORNER_HZ), persistent=False)

    def analyse(self, waveform: Tensor) -> Tensor:
        """Waveform ``(B, 1, L * hop_length)`` -> what the encoder gives, ``(B, L, width)``."""
        spectrum = self.stft(waveform.squeeze(1))  # (B, L * frames, bins), complex
        x = spectrum_features(spectrum)  # (B, L * frames, 3 * bins)
        x = self.encoder_input(x.unflatten(1, (-1, self.frames)).flatten(2))  # (B, L, hidden)
        for block in self.encoder_blocks:
            x = block(x)
        output: Tensor = self.encoder_output(x)  # (B, L, width)
        return output

    def synthesize(self, latents: Tensor) -> Tensor:
        """Latents ``(B, L, D)`` -> waveform ``(B, 1, L * hop_length)``."""
        x = self.decoder_input(latents)  # (B, L, hidden)
        for block in self.decoder_blocks:
            x = block(x)
        x = self.decoder_output(x)  # (B, L, frames * 2 * bins)
        x = x.unflatten(2, (self.frames, 2, -1)).flatten(1, 2) * self.head_scale  # (B, L * frames, 2, bins)
        # Fourier transforms know no bfloat16.
        real, imaginary = (x.float() if x.dtype == torch.bfloat16 else x).unbind(2)
        return self.stft.inverse(torch.complex(real, imaginary)).unsqueeze(1)  # (B, 1, L * hop)


@codecs.register("fourier-vae")
class FourierVae(FourierBackbone, VariationalCodec):
    """Small VAE codec of ConvNeXt blocks at the latent rate between an STFT and an inverse STFT (after Vocos).

    Args:
        hop_length: samples of one latent frame.
        hidden_dim: channels of the blocks.
        encoder_layers: blocks before the latents.
        decoder_layers: blocks after them.
        n_fft: length of the transform and of its Hann window, in samples.
        stft_hop_length: hop of the transform; a latent frame holds ``hop_length / stft_hop_length`` of its frames.
    Raises:
        MelodyError: a hop that does not divide its whole, or a transform shorter than two hops.
    """

    def __init__(
        self,
        sample_rate: SampleRate = 24000,
        hop_length: Samples = 480,
        latent_dim: Width = 32,
        hidden_dim: Width = 208,
        encoder_layers: LayersOrNone = 2,
        decoder_layers: LayersOrNone = 3,
        n_fft: Samples = 480,
        stft_hop_length: Samples = 120,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        widths, layers = (2 * latent_dim, latent_dim, hidden_dim), (encoder_layers, decoder_layers)
        self._build("fourier-vae", sample_rate, hop_length, widths, layers, (n_fft, stft_hop_length))

    @property
    def decoder_context_frames(self) -> int:
        overlap = -(-(self.stft.n_fft - self.stft.hop_length) // (2 * self.hop_length))
        return len(self.decoder_blocks) * (KERNEL_SIZE // 2) + overlap

    def statistics(self, waveform: Tensor) -> Tensor:
        return self.analyse(waveform)


@token_codecs.register("fourier-rvq")
class FourierRvq(FourierBackbone, ResidualCodec):
    """``fourier-vae`` with residual vector quantisation in place of the Gaussian: small, quick on a CPU; ours.

    Args:
        hop_length: samples of one frame.
        num_levels: tokens a frame.
        codebook_size: entries of each level's codebook.
        latent_dim: width of a codebook's entries.
        hidden_dim, encoder_layers, decoder_layers, n_fft, stft_hop_length: as of ``fourier-vae``.
    Raises:
        MelodyError: as ``fourier-vae``, or a quantiser without levels or entries.
    """

    def __init__(
        self,
        sample_rate: SampleRate = 24000,
        hop_length: Samples = 480,
        num_levels: Levels = 12,
        codebook_size: Entries = 128,
        latent_dim: Width = 64,
        hidden_dim: Width = 208,
        encoder_layers: LayersOrNone = 2,
        decoder_layers: LayersOrNone = 3,
        n_fft: Samples = 480,
        stft_hop_length: Samples = 120,
    ) -> None:
        super().__init__()
        widths, layers = (latent_dim, latent_dim, hidden_dim), (encoder_layers, decoder_layers)
        self._build("fourier-rvq", sample_rate, hop_length, widths, layers, (n_fft, stft_hop_length))
        self._quantize(num_levels, codebook_size, latent_dim)


class ConvNextBlock(nn.Module):
    """Depthwise convolution over time, then a pointwise network, added to the input (ConvNeXt; Vocos, section 3.2)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mix = nn.Conv1d(dim, dim, KERNEL_SIZE, padding=KERNEL_SIZE // 2, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, 3 * dim)
        self.down = nn.Linear(3 * dim, dim)
        self.gain = nn.Parameter(torch.full((dim,), LAYER_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, L, C) -> (B, L, C)``."""
        y = self.mix(x.transpose(1, 2)).transpose(1, 2)
        output: Tensor = x + self.gain * self.down(F.gelu(self.up(self.norm(y))))
        return output


class ShortTimeFourier(nn.Module):
    """Orthonormal STFT of whole frames and its exact inverse.

    Frame ``l`` is centred on the middle of its hop, so ``L * hop_length`` samples give ``L`` frames and back. The
    inverse divides by the windows' overlapped squares.

    Raises:
        MelodyError: the window is no multiple of its hop, or frames cannot be centred on a hop.
    """

    window: Tensor

    def __init__(self, n_fft: int, hop_length: int) -> None:
        super().__init__()
        if n_fft < 2 * hop_length or n_fft % hop_length or (n_fft - hop_length) % 2 or n_fft % 2:
            raise MelodyError(
                f"fourier-vae: n_fft {n_fft} with a hop of {hop_length}: expected an even length, an even difference, "
                "and a multiple of at least two hops"
            )
        self.n_fft, self.hop_length = n_fft, hop_length
        self.margin = (n_fft - hop_length) // 2
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Samples ``(B, L * hop)`` -> spectrum ``(B, L, n_fft // 2 + 1)``, complex; silence beyond both ends."""
        frames = F.pad(samples, (self.margin, self.margin)).unfold(-1, self.n_fft, self.hop_length)
        spectrum: Tensor = torch.fft.rfft(frames * self.window, norm="ortho")
        return spectrum

    def inverse(self, spectrum: Tensor) -> Tensor:
        """Spectrum ``(B, L, n_fft // 2 + 1)`` -> samples ``(B, L * hop)``."""
        frames = torch.fft.irfft(spectrum, self.n_fft, norm="ortho") * self.window
        weights = self.window.square().expand(1, spectrum.shape[1], -1)
        samples: Tensor = self._overlap_add(frames) / self._overlap_add(weights)
        return samples

    def _overlap_add(self, frames: Tensor) -> Tensor:
        """Frames ``(B, L, n_fft)`` one hop apart -> their sum without the margins ``(B, L * hop)``."""
        overlap = self.n_fft // self.hop_length
        hops = frames.unflatten(-1, (overlap, self.hop_length))  # (B, L, overlap, hop)
        shifted = [
            F.pad(hops[:, :, i], (0, 0, i, overlap - 1 - i)) for i in range(overlap)
        ]  # (B, L + overlap - 1, hop)
        return torch.stack(shifted).sum(0).flatten(1)[:, self.margin : -self.margin]


def spectrum_features(spectrum: Tensor) -> Tensor:
    """Complex ``(B, L, bins)`` -> compressed magnitude, real and imaginary part so scaled: ``(B, L, 3 * bins)``."""
    power = spectrum.real.square() + spectrum.imag.square() + 1e-8
    scale = power.pow((COMPRESSION - 1) / 2)
    return torch.cat([power.sqrt() * scale, spectrum.real * scale, spectrum.imag * scale], dim=-1)
