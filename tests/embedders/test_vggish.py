"""VGGish against the published sizes, a plain-numpy front end, and a network put together by other means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from melody.embedders.fad_protocols import GOOGLE, prepared, windows
from melody.embedders.vggish import (
    Vggish,
    VggishGoogle,
    VggishNetwork,
    VggishTorchvggish,
    VggishTorchvggishStripped,
    log_mel,
)
from melody.errors import MelodyError
from melody.registry import audio_embedders

PUBLISHED_SHAPES = {
    "features.0": (64, 1, 3, 3),
    "features.3": (128, 64, 3, 3),
    "features.6": (256, 128, 3, 3),
    "features.8": (256, 256, 3, 3),
    "features.11": (512, 256, 3, 3),
    "features.13": (512, 512, 3, 3),
    "embeddings.0": (4096, 12288),
    "embeddings.2": (4096, 4096),
    "embeddings.4": (128, 4096),
}


def noise(seconds: float, seed: int = 0, level: float = 0.1) -> Tensor:
    return level * torch.randn(round(seconds * 16_000), generator=torch.Generator().manual_seed(seed))


def test_layers_and_number_of_parameters_are_the_published_ones() -> None:
    with torch.device("meta"):
        network = VggishNetwork()
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    expected = {f"{name}.weight": shape for name, shape in PUBLISHED_SHAPES.items()}
    assert shapes == {**expected, **{f"{name}.bias": shape[:1] for name, shape in PUBLISHED_SHAPES.items()}}
    assert sum(p.numel() for p in network.parameters()) == 72_141_184


def numpy_log_mel(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """The published front end in loops: one frame, one bin and one band at a time."""
    taper = np.array([0.5 - 0.5 * np.cos(2 * np.pi * n / 400) for n in range(400)])
    edges = np.linspace(1127 * np.log(1 + 125 / 700), 1127 * np.log(1 + 7500 / 700), 66)
    rows = []
    for begin in range(0, len(samples) - 400 + 1, 160):
        magnitude = np.abs(np.fft.fft(np.concatenate([samples[begin : begin + 400] * taper, np.zeros(112)])))
        row = np.zeros(64)
        for index in range(1, 257):  # without 0 Hz
            mel = 1127 * np.log(1 + index * 16_000 / 512 / 700)
            for band in range(64):
                left, centre, right = edges[band : band + 3]
                weight = max(0.0, min((mel - left) / (centre - left), (right - mel) / (right - centre)))
                row[band] += weight * magnitude[index]
        rows.append(np.log(row + 0.01))
    return np.array(rows)


def test_front_end_equals_plain_numpy() -> None:
    t = np.arange(1_200) / 16_000
    samples = 0.4 * np.sin(2 * np.pi * 440 * t) + 0.1 * np.random.default_rng(0).standard_normal(1_200) + 0.2
    ours = log_mel(torch.from_numpy(samples)[None])[0].numpy()
    expected = numpy_log_mel(samples)
    assert ours.shape == expected.shape == (6, 64)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_golden_values_of_the_front_end() -> None:
    """What would go unseen if both computations were changed together: silence, and a tone's band."""
    torch.testing.assert_close(log_mel(torch.zeros(1, 400)), torch.full((1, 1, 64), np.log(0.01)))
    tone = torch.sin(2 * torch.pi * 1_000 * torch.arange(400) / 16_000)
    row = log_mel(tone[None])[0, 0]
    expected = torch.tensor([14.7660, 122.8589, 118.5056, 9.5943])  # magnitudes of bands 18 to 21
    torch.testing.assert_close(row[18:22], torch.log(expected + 0.01), atol=1e-4, rtol=0)
    assert float((row.exp() - 0.01).sum()) == pytest.approx(268.5702, rel=1e-4)


def independent_network(tensors: dict[str, Tensor]) -> nn.Sequential:
    """The same network out of unnamed pieces, from the paper's table."""

    class ChannelsLast(nn.Module):
        def forward(self, maps: Tensor) -> Tensor:
            return torch.stack([maps[:, :, t, f] for t in range(6) for f in range(4)], dim=1).reshape(len(maps), -1)

    def convolution(name: str, width_in: int, width: int) -> list[nn.Module]:
        layer = nn.utils.skip_init(nn.Conv2d, width_in, width, 3, padding="same")
        layer.weight, layer.bias = (nn.Parameter(tensors[f"{name}.{part}"]) for part in ("weight", "bias"))
        return [layer, nn.ReLU()]

    def linear(name: str, width_in: int, width: int) -> nn.Module:
        layer = nn.utils.skip_init(nn.Linear, width_in, width)
        layer.weight, layer.bias = (nn.Parameter(tensors[f"{name}.{part}"]) for part in ("weight", "bias"))
        return layer

    pool = nn.MaxPool2d(2, stride=2)
    return nn.Sequential(
        *convolution("features.0", 1, 64), pool,
        *convolution("features.3", 64, 128), pool,
        *convolution("features.6", 128, 256), *convolution("features.8", 256, 256), pool,
        *convolution("features.11", 256, 512), *convolution("features.13", 512, 512), pool,
        ChannelsLast(),
        linear("embeddings.0", 12288, 4096), nn.ReLU(),
        linear("embeddings.2", 4096, 4096), nn.ReLU(),
        linear("embeddings.4", 4096, 128),
    )  # fmt: skip


@pytest.fixture(scope="module")
def google(vggish_weights: Path) -> VggishGoogle:
    embedder = audio_embedders.create("vggish-google", {"weights": str(vggish_weights)})
    assert isinstance(embedder, VggishGoogle)
    return embedder


def other(embedder: VggishGoogle, kind: type[Vggish]) -> Vggish:
    """The same network under another protocol, without a second reading of 289 MB."""
    from melody.embedders.fad_protocols import PROTOCOLS

    name = {VggishTorchvggish: "torchvggish-fad", VggishTorchvggishStripped: "torchvggish-fad-stripped"}[kind]
    twin = object.__new__(kind)
    twin.__dict__.update(embedder.__dict__, protocol=name, rules=PROTOCOLS[name])
    return twin


def test_the_same_weights_give_what_an_independent_network_gives(google: VggishGoogle, vggish_weights: Path) -> None:
    clip = noise(1.7)
    embeddings = google.embed(clip)
    assert embeddings.shape == (2, 128)
    assert embeddings.dtype == torch.float32
    assert (embeddings < 0).any()  # before the last ReLU
    examples = log_mel(windows(prepared(clip, GOOGLE), GOOGLE))[:, None, :96]
    with torch.inference_mode():
        expected = independent_network(load_file(vggish_weights))(examples)
    torch.testing.assert_close(embeddings, expected, atol=1e-5, rtol=1e-4)


def test_each_protocol_moves_the_same_audio(google: VggishGoogle) -> None:
    clip = noise(2.0, level=0.2)
    port, stripped = other(google, VggishTorchvggish).embed(clip), other(google, VggishTorchvggishStripped).embed(clip)
    assert len(google.embed(clip)) == 3
    assert len(port) == len(stripped) == 2
    assert torch.equal(port, stripped.relu())
    assert (stripped < 0).any()
    # The first window begins with the same samples: what is left is google's peak normalisation.
    assert not torch.allclose(google.embed(clip)[0], stripped[0], atol=1e-3)
    peaked = clip / clip.max()
    torch.testing.assert_close(google.embed(peaked)[0], other(google, VggishTorchvggishStripped).embed(peaked)[0])


def test_facts_name_the_protocol_and_the_weights(google: VggishGoogle) -> None:
    facts = google.identity()
    assert facts["protocol"] == "google-fad"
    assert len(facts["weights_hash"]) == 64
    assert (facts["sample_rate"], facts["dimension"], facts["window_s"], facts["hop_s"]) == (16_000, 128, 0.96, 0.5)


def test_short_clips_are_padded_and_bad_ones_refused(google: VggishGoogle) -> None:
    assert google.embed(torch.tensor([0.1])).shape == (1, 128)
    for clip in (torch.zeros(0), torch.zeros(1, 16_000), torch.tensor([float("nan")] * 400)):
        with pytest.raises(MelodyError, match="vggish: the waveform"):
            google.embed(clip)


def test_the_ports_own_checkpoint_format_loads(vggish_weights: Path, google: VggishGoogle, tmp_path: Path) -> None:
    """The published file of 2019: a pickle of the old kind, read as data only; PCA parameters beside the network."""
    path = tmp_path / "vggish-10086976.pth"
    tensors = {**load_file(vggish_weights), "pproc.pca_matrix": torch.eye(128)}
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    loaded = audio_embedders.create("vggish-torchvggish-stripped", {"weights": str(tmp_path)})  # found in its folder
    path.unlink()
    clip = noise(1.0)
    assert torch.equal(loaded.embed(clip), other(google, VggishTorchvggishStripped).embed(clip))


def test_weights_that_do_not_fit_name_the_tensor(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(64, 1, 3, 3)}, tmp_path / "some.pth")
    with pytest.raises(MelodyError, match=r"vggish: .*some\.pth does not fit the component: it lacks tensor"):
        audio_embedders.create("vggish", {"weights": str(tmp_path / "some.pth")})


def test_the_protocol_is_checked_and_named() -> None:
    with pytest.raises(MelodyError, match="protocol: Input should be 'google-fad'"):
        audio_embedders.create("vggish", {"protocol": "mine"})
    for name in ("vggish-google", "vggish-torchvggish", "vggish-torchvggish-stripped"):
        assert name in audio_embedders


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_what_the_cpu_gives(google: VggishGoogle, vggish_weights: Path) -> None:
    on_cuda = audio_embedders.create("vggish-google", {"weights": str(vggish_weights), "device": "cuda"})
    embeddings = on_cuda.embed(noise(1.7))
    assert embeddings.device.type == "cpu"
    torch.testing.assert_close(embeddings, google.embed(noise(1.7)), atol=2e-2, rtol=2e-2)  # TF32 convolutions
