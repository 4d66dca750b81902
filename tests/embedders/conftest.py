"""Random weights of the published networks' real sizes, written once and read through the real loading code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from melody.embedders.vggish import VggishNetwork


@pytest.fixture(scope="session")
def random_tensors() -> Callable[[type[nn.Module]], dict[str, Tensor]]:
    """Tensors for a network, scaled so that activations neither die nor grow."""
    return _tensors


def _tensors(network: type[nn.Module], seed: int = 0) -> dict[str, Tensor]:
    with torch.device("meta"):
        shapes = network().state_dict()
    generator = torch.Generator().manual_seed(seed)
    return {name: _tensor(name, shape, generator) for name, shape in shapes.items()}


def _tensor(name: str, like: Tensor, generator: torch.Generator) -> Tensor:
    if not like.is_floating_point():
        return torch.zeros(like.shape, dtype=like.dtype)
    if name.endswith("running_var"):
        return torch.ones(like.shape)
    if like.ndim == 1:
        return torch.full(like.shape, 1.0 if ".bn" in name and name.endswith("weight") else 0.01)
    fan_in = like[0].numel()
    return torch.empty(like.shape).uniform_(-1, 1, generator=generator) * (6 / fan_in) ** 0.5


@pytest.fixture(scope="session")
def vggish_weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("vggish") / "vggish.safetensors"
    save_file(_tensors(VggishNetwork), path)
    yield path
    path.unlink()  # 289 MB
