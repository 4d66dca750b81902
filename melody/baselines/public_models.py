"""What the adapters to public models share: weights from a folder or the hub, counted calls, stand-in tokenizers.

Networks are built by their own library's classes and loaded from safetensors only; pickles are refused. A tensor that
is missing, or of another shape, is an error and never a random one in its place, which the libraries only warn of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from melody.artifacts.files import file_hash
from melody.artifacts.hub import local_folder
from melody.devices import device_of
from melody.errors import MelodyError
from melody.pipeline.counters import counting
from melody.protocols import GenerationStats

FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.md")
PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl"})
TEXT_TOKENS = 32
"""Length of the text that a clip's work is stated for: a caption of two lines, as of our own systems."""


@dataclass(frozen=True)
class Published:
    """Where a public model comes from, for messages."""

    system: str
    title: str
    hub: str
    terms: str

    @property
    def source(self) -> str:
        """The hub's id and the terms."""
        return f"{self.hub} on the hub ({self.terms})"


def model_folder(source: str | Path, model: Published) -> Path:
    """The folder ``source`` or the hub's model of that id; raises ``MelodyError`` that says where weights come from."""
    try:
        return local_folder(source, FILES)
    except MelodyError as error:
        raise MelodyError(
            f"{model.title}: {error}; its weights are {model.source}: --system {model.system}=FOLDER_OR_ID"
        ) from None


def load_part(kind: Any, folder: Path, model: Published, **options: Any) -> Any:
    """One network of a library's class, float32, for inference.

    Raises:
        MelodyError: no weights, pickles only, a damaged file, tensors that are missing or of another shape.
    """
    check_files(folder, model)
    try:
        with torch.random.fork_rng():
            module, report = kind.from_pretrained(
                folder,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                torch_dtype=torch.float32,
                **options,
            )
    except Exception as error:  # the libraries' own classes, which share no base
        raise MelodyError(f"{model.title}: {folder} does not fit {kind.__name__}: {_line(error)}") from None
    for key, what in (("mismatched_keys", "of another shape"), ("missing_keys", "missing")):
        if wrong := sorted(map(str, report.get(key) or ())):
            raise MelodyError(f"{model.title}: {folder} does not fit {kind.__name__}: {len(wrong)} {what}: {wrong[0]}")
    return module.eval().requires_grad_(False)


def check_files(folder: Path, model: Published) -> None:
    """Raise ``MelodyError`` unless a folder has a config and weights in safetensors."""
    if not folder.is_dir() or not (folder / "config.json").is_file():
        raise MelodyError(
            f"{model.title}: {folder / 'config.json'} is not there; expected the layout of {model.hub} on the hub"
        )
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    beside = f"; {pickles[0]} is a pickle, which is never opened: save it as safetensors" if pickles else ""
    raise MelodyError(f"{model.title}: {folder} holds no safetensors{beside}")


def load_text(kind: Any, folder: Path, model: Published) -> Any:
    """A tokenizer or another part without weights."""
    try:
        return kind.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise MelodyError(f"{model.title}: {folder} does not fit {kind.__name__}: {_line(error)}") from None


def content_hash(folder: Path) -> str:
    """SHA-256 over names and contents of weights, configs and tokenizers."""
    digest = hashlib.sha256()
    for pattern in FILES[:-1]:
        for path in sorted(folder.rglob(pattern)):
            digest.update(f"{path.relative_to(folder).as_posix()}:{file_hash(path)};".encode())
    return digest.hexdigest()


def versions(*names: str) -> dict[str, str]:
    """Of libraries, by name."""
    return {name: version(name) for name in ("torch", *names)}


@contextmanager
def random_weights(seed: int, device: str) -> Iterator[None]:
    """Networks built within are on ``device`` (``meta``: shapes only), and the caller's random stream is not moved."""
    torch_device = torch.device("meta") if device == "meta" else device_of(device)
    with torch.random.fork_rng(), torch_device:
        torch.manual_seed(seed)
        yield


@contextmanager
def counted(parts: Mapping[str, nn.Module], rows: int) -> Iterator[GenerationStats]:
    """Calls of each part's forward within, by hooks; weighted by the rows that go in, of ``rows`` that come out."""
    trace = GenerationStats()

    def note(name: str, given: int) -> None:
        trace.passes[name] = trace.passes.get(name, 0) + 1
        trace.weighted_passes[name] = trace.weighted_passes.get(name, 0) + max(1, given // rows)

    with ExitStack() as stack:
        for name, part in parts.items():
            stack.enter_context(counting(part, partial(note, name)))
        yield trace


def settle(trace: GenerationStats, formula: dict[str, int], once: dict[str, int]) -> None:
    """Hold the hooks' counts to the formula; what runs beside the loop is checked, and is no pass of the trace."""
    for name, expected in {**formula, **once}.items():
        counted_passes = trace.passes.get(name, 0)
        if counted_passes != expected:
            raise MelodyError(f"{name}: {counted_passes} forward passes were counted, but the formula gives {expected}")
    for name in once:
        trace.passes.pop(name, None)
        trace.weighted_passes.pop(name, None)
    trace.formula = formula


def check_call(
    name: str, prompts: Sequence[str], duration_s: float, seeds: Sequence[int], longest_s: float | None
) -> None:
    """Raise ``MelodyError`` for a duration or seeds that cannot be."""
    if len(seeds) != len(prompts) or not prompts:
        raise MelodyError(f"expected prompts and one seed for each: got {len(prompts)} prompts and {len(seeds)} seeds")
    if not duration_s > 0 or (longest_s is not None and duration_s > longest_s + 1e-6):
        longest = f", and at most {longest_s:g} s" if longest_s is not None else ""
        raise MelodyError(f"system {name!r} cannot make {duration_s:g} s: expected more than 0{longest}")


def check_steps(num_steps: int) -> int:
    """Raise ``MelodyError`` for no steps."""
    if num_steps < 1:
        raise MelodyError(f"the number of steps is {num_steps}: expected 1 or more")
    return num_steps


def mono(waveform: Tensor, samples: int, name: str) -> Tensor:
    """``(B, C, T)`` to ``(B, 1, samples)`` in [-1, 1]: channels averaged, the end cut off.

    Raises:
        MelodyError: it is shorter than asked for.
    """
    if waveform.shape[-1] < samples:
        raise MelodyError(f"system {name!r} made {waveform.shape[-1]} samples, expected {samples}")
    return waveform[..., :samples].float().mean(dim=1, keepdim=True).clamp(-1, 1)


def t5_letters(max_length: int) -> Any:
    """A T5 tokenizer of single letters: the published vocabulary is not to be had without the hub, and the time that
    networks take does not depend on which tokens go in."""
    from transformers import T5Tokenizer

    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    return T5Tokenizer(
        vocab=[*special, *((chr(code), -3.0) for code in range(33, 127))], extra_ids=0, model_max_length=max_length
    )


def roberta_bytes(max_length: int) -> Any:
    """A RoBERTa tokenizer of single bytes, for the same reason."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import RobertaTokenizer

    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(ByteLevel.alphabet())]
    return RobertaTokenizer(
        vocab={piece: index for index, piece in enumerate(pieces)}, merges=[], model_max_length=max_length
    )


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = next((line for line in lines if "size mismatch" in line or "shape" in line), lines[0] if lines else "")
    return f"{type(error).__name__}: {telling[:300]}"
