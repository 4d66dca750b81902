"""LAION-CLAP as the joint embedder, with weights that the user has: the embedder that others publish numbers with."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melody.artifacts.weights import read_foreign
from melody.bounds import Width
from melody.conditioning.windows import WINDOWS_AT_ONCE, check_waveform, cut_windows
from melody.errors import MelodyError
from melody.extras import need
from melody.protocols import JointEmbedder
from melody.registry import joint_embedders

SOURCE = "https://huggingface.co/lukewys/laion_clap"
"""Where its authors publish the checkpoints."""
HTSAT_BASE_WIDTH = 128
WINDOW = 480_000
"""Ten seconds at 48 kHz, what the model was trained on: fixed windows, never its own random crop."""


_TOKENIZER = Lock()
"""Held while texts are read: the package's tokenizer pads by a setting of its own, for all threads."""


@joint_embedders.register("laion-clap")
class ClapEmbedder(nn.Module, JointEmbedder):
    """LAION-CLAP (Wu et al. 2023, arXiv 2211.06687) from the laion-clap package and a checkpoint given by path.

    The package looks tokenizers up on a model hub when it is imported. They are taken from the local cache only, so
    that a machine without a network does not wait for minutes; with ``HF_HUB_OFFLINE=0`` set, the hub is asked.

    Args:
        checkpoint: path of the weights, ``.pt`` (read without unpickling code) or ``.safetensors``.
        audio_model: the checkpoint's music tower; the ``music_*`` checkpoints have ``HTSAT-base``; ``auto`` looks.
        embedding_dim: width of the space, 512 for every published checkpoint.
    Raises:
        MelodyError: the package, the checkpoint or the tokenizer's files are missing, or the checkpoint does not fit.
    """

    needs: ClassVar[tuple[str, ...]] = ("laion_clap",)

    def __init__(
        self,
        checkpoint: str = "",
        audio_model: Literal["HTSAT-tiny", "HTSAT-base", "auto"] = "HTSAT-tiny",
        embedding_dim: Width = 512,
    ) -> None:
        super().__init__()
        self.sample_rate = 48_000
        self.embedding_dim = embedding_dim
        path = _checkpoint_path(checkpoint)
        tensors = read_foreign(path, "laion-clap") if audio_model == "auto" else None
        self.clap = _build(audio_model if tensors is None else _audio_model_of(tensors))
        _fill(self.clap.model, read_foreign(path, "laion-clap") if tensors is None else tensors, path)
        self.clap.eval()

    def embed_audio(self, waveform: Tensor) -> Tensor:
        """``(B, 1, T)`` at 48 kHz -> unit vectors ``(B, E)``."""
        check_waveform(waveform, "embed_audio")
        windows = cut_windows(waveform[:, 0], WINDOW)  # (B, W, window)
        embed = self.clap.get_audio_embedding_from_data
        each = torch.cat([embed(x=group, use_tensor=True) for group in windows.flatten(0, 1).split(WINDOWS_AT_ONCE)])
        return F.normalize(F.normalize(each, dim=-1).unflatten(0, windows.shape[:2]).mean(dim=1), dim=-1)

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """``B`` texts -> unit vectors ``(B, E)``."""
        if isinstance(texts, str) or len(texts) == 0:
            raise MelodyError("embed_text: expected a list with at least one text")
        # A second text, cut off again: the package drops the batch axis of a single one.
        with _TOKENIZER:
            embeddings = self.clap.get_text_embedding([*texts, ""], use_tensor=True)[: len(texts)]
        return F.normalize(embeddings, dim=-1)


def _checkpoint_path(checkpoint: str) -> Path:
    where = f'in the preset: [joint_embedder] use = "laion-clap", checkpoint = "PATH"; published at {SOURCE}'
    if not checkpoint:
        raise MelodyError(f"laion-clap: no checkpoint was given; expected a path {where}")
    path = Path(checkpoint).expanduser()
    if not path.is_file():
        raise MelodyError(f"laion-clap: there is no checkpoint {path}; expected a file {where}")
    return path


def _audio_model_of(tensors: dict[str, Tensor]) -> str:
    """Which of the published towers it is, by the width of its first layer; ``HTSAT-tiny`` if that is not there."""
    first = next((t for name, t in tensors.items() if name.endswith("audio_branch.patch_embed.proj.weight")), None)
    return "HTSAT-base" if first is not None and len(first) == HTSAT_BASE_WIDTH else "HTSAT-tiny"


def _build(audio_model: str) -> Any:
    with _offline_by_default():
        try:
            laion_clap = need("laion_clap", "joint embedder 'laion-clap'")
        except OSError as error:
            raise _missing_tokenizer(error) from None
        try:
            return laion_clap.CLAP_Module(enable_fusion=False, device="cpu", amodel=audio_model)
        except OSError as error:
            raise _missing_tokenizer(error) from None


def _missing_tokenizer(error: OSError) -> MelodyError:
    return MelodyError(
        "laion-clap needs the files of its text tower (roberta-base) in the local model cache; run once with a "
        f"network and HF_HUB_OFFLINE=0 ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
    )


@contextmanager
def _offline_by_default() -> Iterator[None]:
    """Keep the model hub out of the import, unless the user set ``HF_HUB_OFFLINE`` either way."""
    if "HF_HUB_OFFLINE" in os.environ:
        yield
        return
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE  # read from the environment once, when the hub's client was imported
    os.environ["HF_HUB_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        del os.environ["HF_HUB_OFFLINE"]
        constants.HF_HUB_OFFLINE = before


def _fill(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    state = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    if "text_branch.embeddings.position_ids" not in model.state_dict():
        state.pop("text_branch.embeddings.position_ids", None)  # kept by transformers before 4.31 only
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise MelodyError(
            f"laion-clap: {path} does not fit audio_model: {' '.join(str(error).split())[:300]}"
        ) from None
