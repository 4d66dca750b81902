"""The LAION-CLAP adapter, without the package: its errors, and its calls on a double of the package's interface."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from melody import registry
from melody.conditioning.clap import ClapEmbedder
from melody.errors import MelodyError


class _Module(nn.Module):
    """The part of ``laion_clap.CLAP_Module`` that the adapter calls; it too fails on a single text."""

    def __init__(self, enable_fusion: bool, device: str, amodel: str) -> None:
        super().__init__()
        self.model = nn.Linear(4, 512)
        self.environment = os.environ.get("HF_HUB_OFFLINE")

    def get_audio_embedding_from_data(self, x: Tensor, use_tensor: bool) -> Tensor:
        assert x.shape[1] == 480_000
        return self.model(x[:, :4])

    def get_text_embedding(self, x: list[str], use_tensor: bool) -> Tensor:
        assert len(x) > 1
        return self.model(torch.tensor([[float(len(text)), 1.0, 2.0, 3.0] for text in x]))


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("laion_clap")
    module.CLAP_Module = _Module
    monkeypatch.setitem(sys.modules, "laion_clap", module)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.fixture
def state() -> dict[str, Tensor]:
    return {"weight": torch.randn(512, 4), "bias": torch.zeros(512)}


def test_is_registered_without_its_package() -> None:
    assert registry.joint_embedders.get("laion-clap") is ClapEmbedder


@pytest.mark.parametrize("wrapped", [True, False])
def test_embeds_with_a_given_checkpoint(package: None, state: dict[str, Tensor], tmp_path: Path, wrapped: bool) -> None:
    if wrapped:
        path = tmp_path / "clap.pt"
        content = {f"module.{name}": tensor for name, tensor in state.items()}
        torch.save(
            {"epoch": 1, "state_dict": {**content, "module.text_branch.embeddings.position_ids": torch.zeros(1)}}, path
        )
    else:
        path = tmp_path / "clap.safetensors"
        save_file(state, path)
    embedder = ClapEmbedder(checkpoint=str(path))
    assert torch.equal(embedder.clap.model.weight, state["weight"])
    for embeddings in (
        embedder.embed_text(["slow piano"]).detach(),
        embedder.embed_audio(torch.randn(1, 1, 600_000)).detach(),
    ):
        assert embeddings.shape == (1, 512)
        assert float(embeddings.norm()) == pytest.approx(1, abs=1e-5)


def test_the_hub_is_left_alone_and_the_environment_restored(
    package: None, state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(state, tmp_path / "clap.safetensors")
    assert ClapEmbedder(str(tmp_path / "clap.safetensors")).clap.environment == "1"
    assert "HF_HUB_OFFLINE" not in os.environ
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert ClapEmbedder(str(tmp_path / "clap.safetensors")).clap.environment == "0"


def test_missing_checkpoint_names_file_source_and_option(tmp_path: Path) -> None:
    with pytest.raises(MelodyError, match=r"no checkpoint was given.*checkpoint = .*huggingface\.co/lukewys"):
        ClapEmbedder()
    with pytest.raises(MelodyError, match=r"there is no checkpoint .*absent\.pt"):
        ClapEmbedder(str(tmp_path / "absent.pt"))


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "clap.pt").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "laion_clap", None)
    with pytest.raises(MelodyError, match=r'pip install "\.\[embedders\]"'):
        ClapEmbedder(str(tmp_path / "clap.pt"))


class _Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("echo never > unpickled",)


def test_checkpoints_are_not_unpickled(package: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": _Payload()}, tmp_path / "evil.pt")
    with pytest.raises(MelodyError, match="more than tensors"):
        ClapEmbedder(str(tmp_path / "evil.pt"))
    assert not (tmp_path / "unpickled").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"not an archive", "evil|cannot read|more than tensors"), (None, "does not fit"), ([1, 2], "not a checkpoint")],
)
def test_damaged_and_foreign_checkpoints(package: None, tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "clap.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save({"weight": torch.zeros(1)} if content is None else content, path)
    with pytest.raises(MelodyError, match=message):
        ClapEmbedder(str(path))
