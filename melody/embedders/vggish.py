"""VGGish (Hershey et al. 2017, arXiv 1609.09430): the network, its exact front end, and the protocols that use it.

Names: ``vggish-google``, ``vggish-torchvggish`` and ``vggish-torchvggish-stripped`` follow one protocol each; the
bare ``vggish`` takes the protocol as an argument and is google-fad, the definition of FAD, by default.

Definition, version 1, from the parameters that AudioSet publishes with the model: 16 kHz mono; frames of 25 ms (400
samples, periodic Hann, FFT of 512) every 10 ms, not centred; magnitudes, not powers; 64 triangles, equally wide and
linear on the HTK mel scale, from 125 to 7,500 Hz, without the bin of 0 Hz; log(mel + 0.01), in
float64; examples of 96 frames. Four groups of 3×3 convolutions and 2×2 maxima (64; 128; 256, 256; 512, 512 channels),
flattened in the order time, frequency, channel; 4,096, 4,096 and 128 units: 72,141,184 parameters. No PCA and no
quantisation, which AudioSet's released features have. Which windows, which scaling, and whether the last ReLU is
applied: ``melody.embedders.fad_protocols``.
"""

from __future__ import annotations

from functools import cache
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from melody.artifacts.files import file_hash
from melody.artifacts.weights import read_foreign
from melody.checks import check_clip
from melody.devices import device_of
from melody.dsp.mel import mel_filters
from melody.embedders.checkpoints import Published, filled, weights_file
from melody.embedders.fad_protocols import GOOGLE, TORCHVGGISH, TORCHVGGISH_STRIPPED, fad_protocol, prepared, windows
from melody.protocols import AudioEmbedder
from melody.registry import audio_embedders

SAMPLE_RATE = 16_000
FRAME, FRAME_HOP, FFT_SIZE = 400, 160, 512
NUM_BANDS, LOWEST_HZ, HIGHEST_HZ = 64, 125.0, 7_500.0
LOG_OFFSET = 0.01
EXAMPLE_FRAMES = 96
EXAMPLE_SAMPLES = (EXAMPLE_FRAMES - 1) * FRAME_HOP + FRAME
DIMENSION = 128
WINDOWS_AT_ONCE = 32
PUBLISHED = Published(
    "vggish",
    ("vggish.safetensors", "vggish-10086976.pth"),
    "https://github.com/harritaylor/torchvggish/releases (AudioSet's weights, ported)",
)


def log_mel(samples: Tensor) -> Tensor:
    """``(n, T)`` at 16 kHz, T >= 400 -> ``(n, 1 + (T - 400) // 160, 64)``; computed in float64, given as float32."""
    frames = samples.double().unfold(1, FRAME, FRAME_HOP)  # (n, frames, FRAME)
    taper = torch.hann_window(FRAME, periodic=True, dtype=torch.float64, device=samples.device)
    magnitude = torch.fft.rfft(frames * taper, FFT_SIZE).abs()  # (n, frames, FFT_SIZE // 2 + 1)
    return torch.log(magnitude @ _bands().to(samples.device) + LOG_OFFSET).float()


@cache
def _bands() -> Tensor:
    """``(257, 64)``, float64; the bin of 0 Hz has no weight."""
    return mel_filters(NUM_BANDS, FFT_SIZE, SAMPLE_RATE, LOWEST_HZ, HIGHEST_HZ, linear_in_mel=True)


class VggishNetwork(nn.Module):
    """Log-mel examples ``(n, 96, 64)`` to embeddings ``(n, 128)`` before the last ReLU; names as in the port."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(*_convolutions())
        self.embeddings = nn.Sequential(
            nn.Linear(512 * (EXAMPLE_FRAMES // 16) * (NUM_BANDS // 16), 4_096),
            nn.ReLU(),
            nn.Linear(4_096, 4_096),
            nn.ReLU(),
            nn.Linear(4_096, DIMENSION),
        )

    def forward(self, examples: Tensor) -> Tensor:
        maps = self.features(examples[:, None])  # (n, 512, 6, 4)
        flat = maps.permute(0, 2, 3, 1).flatten(1)  # channels last, as in the original
        embeddings: Tensor = self.embeddings(flat)
        return embeddings


def _convolutions() -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 1
    for group in ((64,), (128,), (256, 256), (512, 512)):
        for width in group:
            layers += [nn.Conv2d(channels, width, kernel_size=3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return layers


@audio_embedders.register("vggish")
class Vggish(AudioEmbedder):
    """VGGish embeddings by one of FAD's protocols, given as an argument; by default google-fad's.

    Args:
        weights: the port's state dict (``.pth``, read without unpickling code) or ``.safetensors`` with its names; a
            file, a folder or a hub id. AudioSet's PCA parameters beside them are ignored.
        protocol: google-fad, torchvggish-fad or torchvggish-fad-stripped.
        device: cpu, cuda or cuda:N.
    Raises:
        MelodyError: no weights, or such as do not fit.
    """

    version: ClassVar[str] = "1"
    dimension = DIMENSION

    def __init__(
        self,
        weights: str = "",
        protocol: Literal["google-fad", "torchvggish-fad", "torchvggish-fad-stripped"] = "google-fad",
        device: str = "cpu",
    ) -> None:
        self.device = device_of(device)
        self.protocol = protocol
        self.rules = fad_protocol(protocol)
        self.sample_rate, self.window_s, self.hop_s = SAMPLE_RATE, self.rules.window_s, self.rules.hop_s
        path = weights_file(PUBLISHED, weights)
        tensors = {name: t for name, t in read_foreign(path, "vggish").items() if not name.startswith("pproc.")}
        self.network = filled(VggishNetwork, tensors, f"vggish: {path}").to(self.device)
        self.weights_hash = file_hash(path)

    @torch.inference_mode()
    def embed(self, waveform: Tensor) -> Tensor:
        """Mono ``(T,)`` at 16 kHz -> ``(windows, 128)``; ``MelodyError`` if it is empty, not mono, or NaN."""
        check_clip(waveform, "vggish")
        samples = prepared(waveform.to(self.device), self.rules)
        groups = windows(samples, self.rules)[:, :EXAMPLE_SAMPLES].split(WINDOWS_AT_ONCE)
        embeddings = torch.cat([self.network(log_mel(group)) for group in groups])
        return (embeddings.relu() if self.rules.relu else embeddings).cpu()


@audio_embedders.register("vggish-google")
class VggishGoogle(Vggish):
    """VGGish as in FAD's definition: 0.96 s every 0.5 s, peak-normalised, before the last ReLU (google-fad)."""

    def __init__(self, weights: str = "", device: str = "cpu") -> None:
        super().__init__(weights, GOOGLE.name, device)  # type: ignore[arg-type]


@audio_embedders.register("vggish-torchvggish")
class VggishTorchvggish(Vggish):
    """VGGish as its port to torch gives it: 0.96 s side by side, no normalisation, after the last ReLU."""

    def __init__(self, weights: str = "", device: str = "cpu") -> None:
        super().__init__(weights, TORCHVGGISH.name, device)  # type: ignore[arg-type]


@audio_embedders.register("vggish-torchvggish-stripped")
class VggishTorchvggishStripped(Vggish):
    """VGGish as frechet-audio-distance uses it by default: the port's windows, with the last ReLU stripped."""

    def __init__(self, weights: str = "", device: str = "cpu") -> None:
        super().__init__(weights, TORCHVGGISH_STRIPPED.name, device)  # type: ignore[arg-type]
