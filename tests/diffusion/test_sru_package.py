"""Our recurrent unit against the ``sru`` package of its authors, on the same weights.

The package builds its CPU kernel when it is imported, which takes a C++ compiler, ninja, and some 20 seconds. The
kernel computes without gradients, the package's Python path with them: both are compared.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest
import torch
from torch import Tensor

from melody.diffusion.sru import SRU

SIZES = [(6, 3), (4, 4)]
"""Input and hidden: the highway as it is, and through a product, for the widths of both directions together differ."""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The package, its kernel built in a folder of the test's own: a build that was killed elsewhere leaves a lock."""
    if shutil.which(os.environ.get("CXX", "c++")) is None or shutil.which("ninja") is None:
        pytest.skip("the sru package builds a kernel when it is imported: no C++ compiler or no ninja here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path_factory.mktemp("extensions")))
        return pytest.importorskip("sru", reason="the sru package is not installed")


def peer_of(ours: SRU, package: Any, input_size: int, hidden_size: int) -> torch.nn.Module:
    """The package's unit in the version whose gates see the input only, with our weights."""
    peer: torch.nn.Module = package.SRU(
        input_size, hidden_size, num_layers=2, bidirectional=True, v1=True, rescale=False
    )
    for theirs, layer in zip(peer.rnn_lst, ours.layers, strict=True):
        with torch.no_grad():
            theirs.weight.copy_(to_package(layer.weight, layer.width))
            theirs.bias.copy_(layer.bias)
    return peer


def to_package(weight: Tensor, width: int) -> Tensor:
    """Ours is ``(matrices * width, input)``, theirs ``(input, width * matrices)``, a channel's side by side."""
    return weight.view(-1, width, weight.shape[1]).permute(2, 1, 0).flatten(1)


def random_pair(package: Any, input_size: int, hidden_size: int) -> tuple[SRU, torch.nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    ours = SRU(input_size, hidden_size, num_layers=2)
    for layer in ours.layers:
        torch.nn.init.normal_(layer.bias)
    padding = torch.zeros(9, 3, dtype=torch.bool)
    padding[:2, 0] = padding[6:, 1] = True
    return ours, peer_of(ours, package, input_size, hidden_size), torch.randn(9, 3, input_size), padding


@pytest.mark.parametrize(("input_size", "hidden_size"), SIZES)
def test_equals_the_packages_kernel(package: Any, input_size: int, hidden_size: int) -> None:
    ours, peer, x, padding = random_pair(package, input_size, hidden_size)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), peer(x)[0], rtol=1e-5, atol=1e-6)
        kept = ~padding
        torch.testing.assert_close(
            ours(x, padding[..., None])[kept], peer(x, mask_pad=padding)[0][kept], rtol=1e-5, atol=1e-6
        )


@pytest.mark.filterwarnings("ignore:Running SRU on CPU with grad_enabled")
@pytest.mark.parametrize(("input_size", "hidden_size"), SIZES)
def test_gradients_equal_the_packages(package: Any, input_size: int, hidden_size: int) -> None:
    ours, peer, x, _ = random_pair(package, input_size, hidden_size)
    ours, peer = ours.double(), peer.double()
    mine, theirs = x.double().requires_grad_(), x.double().requires_grad_()
    toward = torch.randn(9, 3, 2 * hidden_size, dtype=torch.float64)
    expected = peer(theirs)[0]
    torch.testing.assert_close(ours(mine), expected)
    (ours(mine) * toward).sum().backward()
    (expected * toward).sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad)
    for cell, layer in zip(peer.rnn_lst, ours.layers, strict=True):
        torch.testing.assert_close(to_package(layer.weight.grad, layer.width), cell.weight.grad)
        torch.testing.assert_close(layer.bias.grad, cell.bias.grad)
