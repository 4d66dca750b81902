"""CNN14 against the published sizes, a plain-numpy front end, and the authors' own network."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from melody.embedders.pann import CNN14_16K, CNN14_32K, Cnn14, Pann, PannTagger, class_names, log_mel, mel_matrix
from melody.errors import MelodyError
from melody.registry import audio_embedders, audio_taggers


def test_sizes_are_the_published_ones() -> None:
    with torch.device("meta"):
        network = Cnn14()
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters()}
    assert shapes["conv_block1.conv1.weight"] == (64, 1, 3, 3)
    assert shapes["conv_block6.conv2.weight"] == (2048, 2048, 3, 3)
    assert shapes["fc1.weight"] == (2048, 2048)
    assert shapes["fc_audioset.weight"] == (527, 2048)
    assert sum(p.numel() for p in network.parameters()) == 80_753_615


def test_the_classes_are_audiosets() -> None:
    names = class_names()
    assert len(names) == len(set(names)) == 527
    assert [names[i] for i in (0, 1, 137, 138, 140, 500, 526)] == [
        "Speech", "Male speech, man speaking", "Music", "Musical instrument", "Guitar", "Silence", "Field recording",
    ]  # fmt: skip


def slaney(mel: float) -> float:
    """Slaney's mel to Hz: linear to 1 kHz (15 mels), then 27 steps to 6.4 kHz."""
    return 200 / 3 * mel if mel < 15 else 1000 * np.exp((mel - 15) * np.log(6.4) / 27)


def numpy_log_mel(samples: NDArray[np.float64], size: int, hop: int, rate: int, top_mel: float) -> NDArray[np.float64]:
    edges = [slaney(mel) for mel in np.linspace(50 * 3 / 200, top_mel, 66)]
    padded = np.pad(samples, size // 2, mode="reflect")
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    rows = []
    for begin in range(0, len(padded) - size + 1, hop):
        power = np.abs(np.fft.rfft(padded[begin : begin + size] * taper)) ** 2
        frequencies = np.arange(len(power)) * rate / size
        row = []
        for left, centre, right in zip(edges, edges[1:], edges[2:], strict=False):
            rise, fall = (frequencies - left) / (centre - left), (right - frequencies) / (right - centre)
            row.append(float(np.maximum(0, np.minimum(rise, fall)) @ power) * 2 / (right - left))
        rows.append(10 * np.log10(np.maximum(row, 1e-10)))
    return np.array(rows)


@pytest.mark.parametrize("variant", [CNN14_32K, CNN14_16K])
def test_front_end_equals_plain_numpy(variant: Any) -> None:
    samples = 0.1 * np.random.default_rng(0).standard_normal(variant.sample_rate // 8)
    top_mel = 15 + 27 * np.log(variant.highest_hz / 1000) / np.log(6.4)
    expected = numpy_log_mel(samples, variant.fft_size, variant.hop, variant.sample_rate, top_mel)
    ours = log_mel(torch.from_numpy(samples).float()[None], variant, mel_matrix(variant))[0]
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours.numpy(), expected, atol=2e-3)  # dB
    silence = log_mel(torch.zeros(1, variant.fft_size), variant, mel_matrix(variant))
    assert torch.equal(silence, torch.full_like(silence, -100.0))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, random_tensors: Callable[..., Any]) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("pann") / "Cnn14_16k.safetensors"
    save_file(random_tensors(Cnn14), path)
    yield path
    path.unlink()  # 323 MB


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The authors' module, which frechet-audio-distance carries, without the package's imports of a minute.

    Its front end is left out (and tested above): the network then takes log-mel.
    """
    spec = importlib.util.find_spec("frechet_audio_distance")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("frechet-audio-distance is not installed")

    class Through(nn.Identity):
        def __init__(self, **_: object) -> None:
            super().__init__()

    for name, classes in {
        "torchlibrosa": (),
        "torchlibrosa.stft": ("Spectrogram", "LogmelFilterBank"),
        "torchlibrosa.augmentation": ("SpecAugmentation",),
        "pann_of_the_authors": (),
    }.items():
        module = ModuleType(name)
        module.__path__ = [str(Path(spec.submodule_search_locations[0]) / "models")]
        for one in classes:
            setattr(module, one, Through)
        monkeypatch.setitem(sys.modules, name, module)
    return importlib.import_module("pann_of_the_authors.pann")


def test_outputs_equal_the_authors_network(weights: Path, theirs: ModuleType) -> None:
    embedder = audio_embedders.create("pann-16k", {"weights": str(weights)})
    with torch.device("meta"):
        network = theirs.Cnn14_16k(16_000, 512, 160, 64, 50, 8_000, 527)
    network.load_state_dict(load_file(weights), assign=True)
    clip = 0.1 * torch.randn(48_000, generator=torch.Generator().manual_seed(0))
    padded = nn.functional.pad(clip, (0, 160_000 - 48_000))
    with torch.inference_mode():
        expected = network.eval()(log_mel(padded[None], CNN14_16K, mel_matrix(CNN14_16K))[:, None])
    embeddings, logits = embedder.pann(clip)
    assert embeddings.shape == (1, 2048)
    assert (embeddings > 0).any()
    torch.testing.assert_close(embeddings, expected["embedding"], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(logits.sigmoid(), expected["clipwise_output"], atol=1e-4, rtol=1e-3)
    assert embedder.identity()["weights_hash"] == embedder.pann.weights_hash


def test_windows_lie_side_by_side_and_the_last_ends_with_the_clip() -> None:
    """On a double of the network: what it is given is what counts."""
    seen: list[Tensor] = []
    tagger, pann = object.__new__(PannTagger), object.__new__(Pann)
    pann.variant, pann.device, pann.bands = CNN14_32K, torch.device("cpu"), mel_matrix(CNN14_32K)

    def network(mel: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(mel)
        return mel.new_zeros(len(mel), 2048), mel.new_zeros(len(mel), 527)

    pann.network = network  # type: ignore[assignment]
    tagger.pann = pann
    assert tagger.tag(torch.ones(32_000 * 25)).shape == (3, 527)
    assert [tuple(mel.shape) for mel in seen] == [(3, 1001, 64)]


def test_a_checkpoint_of_another_rate_is_refused(tmp_path: Path) -> None:
    torch.save({"model": {"logmel_extractor.melW": torch.zeros(257, 64)}}, tmp_path / "Cnn14_mAP=0.431.pth")
    with pytest.raises(MelodyError, match=r"pann: .* was made for another rate.*\(257, 64\).*\(513, 64\)"):
        audio_taggers.create("pann", {"weights": str(tmp_path)})


def test_missing_weights_name_file_source_and_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MELODY_EMBEDDERS", raising=False)
    for kind in (audio_embedders, audio_taggers):
        with pytest.raises(
            MelodyError, match=r"pann-16k: no weights.*Cnn14_16k_mAP=0\.438\.pth.*zenodo\.org/record/3987831.*weights="
        ):
            kind.create("pann-16k")
