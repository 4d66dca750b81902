"""Public towers to begin from, as in the paper (appendix B.3): an AST trained on AudioSet, and BERT base, uncased."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from melody.artifacts.hub import local_folder
from melody.errors import MelodyError

PATTERNS = ("*.safetensors", "*.json")
MUSIC_FACTS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "patch_size",
    "frequency_stride",
    "time_stride",
    "max_length",
    "num_mel_bins",
    "hidden_act",
    "layer_norm_eps",
)
TEXT_FACTS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
    "type_vocab_size",
    "hidden_act",
    "layer_norm_eps",
)
"""What both must have alike, by transformers' names: not all of it shows in the shapes of tensors."""


def begin_from(tower: Any, source: str | Path, facts: Sequence[str], setting: str) -> Path:
    """Fill a tower from a folder, or from the hub's model ``OWNER/NAME``, of transformers; returns the folder.

    Args:
        facts: of the two configurations, what must agree.
        setting: that named the source, for messages.
    Raises:
        MelodyError: no such model, damaged files, another kind or size of model.
    """
    try:
        folder = local_folder(source, PATTERNS)
    except MelodyError as error:
        raise MelodyError(f"{setting}: {error}; leave it out to begin from random weights") from None
    loaded = _loaded(type(tower), folder, setting)
    for name in facts:
        theirs, ours = getattr(loaded.config, name, None), getattr(tower.config, name)
        if theirs != ours:
            raise MelodyError(f"{setting}: {folder} has {name} = {theirs}, but the joint embedder has {ours}")
    state = loaded.state_dict()
    tower.load_state_dict({name: state[name] for name in tower.state_dict()})
    return folder


def _loaded(kind: type[nn.Module], folder: Path, setting: str) -> Any:
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise MelodyError(f"{setting}: {folder} has no config.json with *.safetensors (pickles are never opened)")
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()  # a head that is not wanted is told as a warning
    try:
        model, report = kind.from_pretrained(  # type: ignore[attr-defined]
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # damaged files fail in many ways, in three libraries
        reason = " ".join(str(error).split())[:200]
        raise MelodyError(f"{setting}: cannot load {folder}: {type(error).__name__}: {reason}") from None
    finally:
        logging.set_verbosity(before)
    if missing := sorted(name for name in report["missing_keys"] if not name.startswith("pooler")):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise MelodyError(f"{setting}: {folder} lacks tensor {missing[0]!r}{more}: another kind of model?")
    return model
