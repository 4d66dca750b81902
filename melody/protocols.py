"""What a component is: the class that each kind of component inherits from.

Components that hold weights also inherit from ``torch.nn.Module``, and have ``save_pretrained`` and
``from_pretrained``. Shapes: B batch, T audio samples, L latent frames, D latent width, N semantic tokens, P prefix
(MuLan) tokens, E embedding width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from melody.artifacts.makings import Makings
from melody.artifacts.pretrained import PretrainedPart
from melody.declared import (
    PROTOCOL,
    SAMPLE_RATE,
    VERSION,
    WIDEST,
    WINDOWS,
    Declaration,
    are_labels,
    are_names,
    is_bool,
    is_count,
    is_length_or_none,
    is_text,
    is_width,
    one_of,
)
from melody.errors import MelodyError, did_you_mean

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Velocity = Callable[["Tensor", "Tensor"], "Tensor"]
"""``velocity(latents (B, L, D), angle (B, L)) -> (B, L, D)``: dz/dδ at a per-frame angle in [0, π/2], with guidance."""


class Registered:
    """What the classes of every kind share: what a class declares, and which arguments the toolkit supplies."""

    _declares: ClassVar[tuple[Declaration, ...]] = ()
    _has: ClassVar[tuple[Declaration, ...]] = ()
    """Of an instance."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Modules that an extra of ours installs (``melody.extras``): where one is missing, rows of tables that want the
    component are not attempted."""
    _supplied: ClassVar[frozenset[str] | None] = None
    """Arguments that are given where the toolkit builds a component by itself, so that all others need a default;
    ``None`` where it builds none by itself."""
    _sized: ClassVar[bool] = True
    """Whether its arguments decide how much memory it takes."""


class Codec(PretrainedPart, Registered, ABC):
    """Waveform to latent frames and back."""

    _role = "codec"

    sample_rate: int
    hop_length: int
    latent_dim: int

    @property
    def frame_rate(self) -> float:
        """Latent frames a second."""
        return self.sample_rate / self.hop_length

    @property
    def decoder_context_frames(self) -> int | None:
        """How many latent frames on each side a decoded frame may depend on: what a chunk must overlap by.

        Chunks that overlap by it decode to what the whole decodes to. ``None``, the default, says that there is no such
        number or that it is not known: then long music is decoded at once, and a stream is refused.
        """
        return None

    @abstractmethod
    def encode(self, waveform: Tensor) -> Tensor:
        """``(B, 1, T)`` in [-1, 1] -> latents ``(B, ceil(T / hop_length), D)``, deterministic, scaled to [-1, 1]."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Latents ``(B, L, D)`` -> waveform ``(B, 1, L * hop_length)``."""

    def distribution(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of latents before they are clamped to [-1, 1], two ``(B, L, D)``.

        The denoiser may be trained on samples. A codec without a posterior, the default, has latents that do not
        deviate.
        """
        latents = self.encode(waveform)
        return latents, latents.new_zeros(latents.shape)

    def remove_weight_norm(self) -> None:
        """Fold what only training needs into the weights: the same output, sooner. The pipeline calls it, once."""


class TokenCodec(PretrainedPart, Registered, ABC):
    """Waveform to acoustic tokens, ``num_levels`` a frame from coarse to fine, and back."""

    _role = "token_codec"

    sample_rate: int
    hop_length: int
    num_levels: int
    codebook_size: int

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop_length

    @abstractmethod
    def encode(self, waveform: Tensor) -> Tensor:
        """``(B, 1, T)`` in [-1, 1] -> tokens ``(B, ceil(T / hop_length), num_levels)``, int64, below codebook_size."""

    @abstractmethod
    def decode(self, tokens: Tensor) -> Tensor:
        """Tokens ``(B, L, levels)`` -> waveform ``(B, 1, L * hop_length)``; the first levels alone sound coarser.

        Raises:
            MelodyError: no level or more than ``num_levels``, or a token outside ``[0, codebook_size)``.
        """

    def remove_weight_norm(self) -> None:
        """Fold what only training needs into the weights, as ``Codec.remove_weight_norm``."""


class SemanticTokenizer(PretrainedPart, Registered, ABC):
    """Waveform to semantic tokens (music structure in time, without timbre's detail)."""

    _role = "semantic_tokenizer"

    sample_rate: int
    token_rate: float
    codebook_size: int

    @abstractmethod
    def tokenize(self, waveform: Tensor) -> Tensor:
        """``(B, 1, T)`` at ``sample_rate`` -> tokens ``(B, floor(T / sample_rate * token_rate))``, int64."""


class JointEmbedder(PretrainedPart, Registered, ABC):
    """Text and audio into one space, so that either can be the prompt."""

    _role = "joint_embedder"

    sample_rate: int
    embedding_dim: int

    @abstractmethod
    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """``B`` texts -> unit vectors ``(B, E)``."""

    @abstractmethod
    def embed_audio(self, waveform: Tensor) -> Tensor:
        """``(B, 1, T)`` at ``sample_rate``, any length -> unit vectors ``(B, E)`` (windows averaged)."""


class LanguageModel(PretrainedPart, Registered, ABC):
    """MuLan tokens and the semantic tokens so far to further semantic tokens."""

    _role = "language_model"

    num_prefix_tokens: int
    codebook_size: int

    @abstractmethod
    def generate(
        self,
        prefix: Tensor,
        num_tokens: int,
        *,
        semantic_tokens: Tensor | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        guidance_scale: float = 1.0,
        generator: Sequence[torch.Generator] | torch.Generator | None = None,
        callback: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Draw semantic tokens.

        Args:
            prefix: MuLan tokens ``(B, P)``, each in ``[0, size of an RVQ level)``.
            num_tokens: how many new tokens; exactly so many forward passes are made.
            semantic_tokens: tokens so far ``(B, N)``, to continue from.
            guidance_scale: of the prefix, by passes of twice the rows; 1 is none, and others come only by a preset.
            generator: one per row, one for all, or none.
            callback: called with (tokens drawn, ``num_tokens``) after each.
        Returns:
            The new tokens ``(B, num_tokens)``, each in ``[0, codebook_size)``.
        """

    @abstractmethod
    def loss(self, prefix: Tensor, semantic_tokens: Tensor, dropped: Tensor | None = None) -> Tensor:
        """Mean cross-entropy (nats) of the semantic tokens ``(B, N)`` given the prefix ``(B, P)``: a scalar.

        ``dropped`` ``(B, P + N)``, boolean, marks tokens that are hidden from the network; it comes only by a preset.
        """


class Denoiser(PretrainedPart, Registered, ABC):
    """Network that predicts the velocity of noisy latents, given semantic tokens."""

    _role = "denoiser"

    latent_dim: int

    @abstractmethod
    def prepare(self, semantic_tokens: Tensor) -> Any:
        """Compute once per generation what does not depend on the angle, from tokens ``(B, N)``."""

    @abstractmethod
    def forward(self, latents: Tensor, angle: Tensor, condition: Any, unconditional: Tensor | None = None) -> Tensor:
        """Latents ``(B, L, D)``, angle ``(B, L)`` in [0, π/2], ``prepare``'s result -> velocity ``(B, L, D)``.

        ``unconditional`` ``(B,)``, boolean, marks the rows that must not see the tokens (guidance and its training).
        """

    @abstractmethod
    def repeat(self, condition: Any, times: int) -> Any:
        """The condition for a batch of ``times`` copies of the rows, in the order of ``torch.cat([x] * times)``."""


class Sampler(Registered, ABC):
    """One way to step from a larger angle to a smaller one; loop, grid and guidance are not its business."""

    order: ClassVar[int]
    """Order of convergence of the deterministic part."""
    stochastic: ClassVar[bool] = False
    evaluations_per_step: ClassVar[int] = 1

    _sized = False
    _declares = (
        Declaration("order", "a whole number, 1 or more", is_count),
        Declaration("stochastic", "true or false", is_bool),
        Declaration("evaluations_per_step", "a whole number, 1 or more", is_count),
    )
    _supplied = frozenset()

    def init(self, latents: Tensor, angles: Tensor) -> Any:
        """State before the first step. ``angles``: all of them, ``(num_steps + 1, B, L)``, falling to 0."""
        return None

    @abstractmethod
    def step(
        self,
        velocity: Velocity,
        latents: Tensor,
        angle: Tensor,
        next_angle: Tensor,
        state: Any,
        generator: Sequence[torch.Generator] | torch.Generator | None,
    ) -> tuple[Tensor, Any]:
        """Take latents ``(B, L, D)`` from ``angle`` ``(B, L)`` to ``next_angle``; returns them with the new state."""


@dataclass
class GenerationStats:
    """What one generation cost, by part (``language_model``, ``denoiser``, ``codec`` …)."""

    passes: dict[str, int] = field(default_factory=dict)
    """Calls of the network's forward, counted by hooks."""
    weighted_passes: dict[str, int] = field(default_factory=dict)
    """Calls weighted by guidance: a call on both halves of guidance counts two, of however many windows or clips."""
    formula: dict[str, int] = field(default_factory=dict)
    """The same calls as ``passes``, by formula."""
    seconds: dict[str, float] = field(default_factory=dict)
    prefill_tokens: int = 0


@dataclass
class Generation:
    """Audio made by a system: ``waveform`` ``(B, 1, T)`` in [-1, 1], and what it cost."""

    waveform: Tensor
    sample_rate: int
    trace: GenerationStats


@dataclass(frozen=True)
class CallCost:
    """Calls of one network, all of one shape, that one generation of one clip makes."""

    part: str
    """As in ``GenerationStats.passes``."""
    name: str
    shape: str
    """What goes in, in words."""
    calls: int
    module: torch.nn.Module
    """Whose parameters the call reads."""
    run: Callable[[], Any]
    """One such call, on whatever device and dtype the module has when ``setup`` runs: on the meta device to be counted;
    to be timed, one network at a time is brought to a real device, while the others stay where they are."""
    setup: Callable[[], Any] | None = None
    """What must run before each ``run``, and is not part of it: it makes what goes in."""
    rows: int = 1
    """Rows of a call for one clip: 2 where both halves of guidance go in together."""
    windows: int = 1
    """How many windows of the clip lie side by side in those rows; they are no halves of guidance."""
    serial: int | None = None
    """How many of the calls must wait for one another; ``None``: all."""
    prefill_tokens: int = 0
    """Tokens that the calls read beside those they make, all together."""
    once: bool = False
    """Beside the loop: an encoder of the prompt, a decoder at the end. Such calls are no passes of
    ``GenerationStats.passes``, as Table 3's formulas count none; they are in every sum of FLOPs, bytes and seconds."""


class System(Registered, ABC):
    """Anything that makes audio for prompts: our pipeline, a baseline, a folder of files."""

    name: str
    sample_rate: int
    capabilities: ClassVar[frozenset[str]] = frozenset()
    """What it can do beside making clips for texts: ``audio-continuation`` (has ``continue_from``), ``long-form``."""
    options: ClassVar[frozenset[str]] = frozenset()
    """Names of the options that ``generate`` takes, as in ``num_steps``; a caller gives no other."""
    longest_s: float | None = None
    """The longest clip that it can make; ``None``: any."""
    weights_from: ClassVar[str] = ""
    """Where its weights are to be had, for whoever gives none."""

    _sized = False
    _declares = (
        Declaration("capabilities", "a frozenset of names", are_names),
        Declaration("options", "a frozenset of names", are_names),
        Declaration("weights_from", "a text", is_text),
    )
    _has = (
        Declaration("name", "a text", is_text),
        SAMPLE_RATE,
        Declaration("longest_s", "a number of seconds above 0, or None", is_length_or_none),
    )

    @abstractmethod
    def generate(
        self, prompts: Sequence[str], *, duration_s: float, seeds: Sequence[int], **options: Any
    ) -> Generation:
        """One clip of ``duration_s`` for each prompt; the seed of a row decides its bits."""

    @classmethod
    def makings(cls, arguments: Mapping[str, Any]) -> Makings | None:
        """What a system built with these arguments is made of; ``None`` where only ``facts`` of a built one tells.

        Raises:
            MelodyError: no such preset, or one that cannot be read.
        """
        return None

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        """Raise ``MelodyError`` for an option that ``generate`` does not take."""
        for name in options:
            if name not in cls.options:
                raise MelodyError(f"system {cls.name!r} takes no option {name!r}{did_you_mean(name, cls.options)}")

    def identity(self) -> dict[str, Any]:
        """What decides its bits, as plain values: sizes, hashes of weights or files; part of the key of its clips."""
        return {}

    def work(self, duration_s: float, **options: Any) -> list[CallCost]:
        """What one generation of one clip is made of, by formula; empty where that is not known, as of a folder."""
        return []


InputKind = Literal[
    "embeddings", "waveforms", "waveform_pairs", "text_audio_embeddings", "labels", "label_pairs", "other"
]
"""What a metric's ``update`` is given, and so how an evaluation of a folder feeds it:

- ``embeddings``: ``update(embeddings, real)``, an audio embedder's ``(windows, dimension)`` of one clip, of the
  reference if ``real``; its constructor takes ``dimension`` if it matters;
- ``waveforms``: ``update(waveform)``, ``(B, 1, T)`` at the metric's ``sample_rate``; its constructor takes
  ``sample_rate`` if it matters;
- ``waveform_pairs``: ``update(preds, target)``, waveforms ``(B, 1, T)`` of the clips of one identifier;
- ``text_audio_embeddings``: ``update(text_embeddings, audio_embeddings)``, a joint embedder's ``(B, E)`` each;
- ``labels``: ``update(logits, real)``, an audio tagger's ``(windows, labels)`` of one clip, of the reference if
  ``real``, for what pools over clips; its constructor takes ``num_labels`` if it matters;
- ``label_pairs``: ``update(preds, target)``, an audio tagger's ``(windows, labels)`` of the generated and of the
  reference clip of one identifier; the numbers of windows may differ;
- ``other``: something that no folder of audio holds.
"""


class AudioEmbedder(Registered, ABC):
    """Audio to a sequence of embedding vectors, one a window, for distances between sets of clips."""

    sample_rate: int
    dimension: int
    window_s: float
    hop_s: float
    version: ClassVar[str]
    protocol: str = ""
    """Name of the published protocol that it follows, as in ``google-fad``; empty if it follows none but its own."""
    weights_hash: str | None = None
    """SHA-256 of the weights' files; ``None`` if it has no weights."""

    _sized = False
    _declares = (VERSION, PROTOCOL)
    _has = (SAMPLE_RATE, Declaration("dimension", f"a whole number, 1 to {WIDEST:,}", is_width), *WINDOWS)

    def identity(self) -> dict[str, Any]:
        """What decides its numbers, as plain values: to be kept with a number, and in the key of a cached embedding."""
        return {"dimension": self.dimension, **_window_facts(self)}

    @abstractmethod
    def embed(self, waveform: Tensor) -> Tensor:
        """Mono ``(T,)`` at ``sample_rate`` -> ``(windows, dimension)``, float32; at least one window (padded)."""


class AudioTagger(Registered, ABC):
    """Audio to a distribution over labels, one a window, for metrics of label distributions."""

    sample_rate: int
    labels: tuple[str, ...]
    window_s: float
    hop_s: float
    version: ClassVar[str]
    protocol: str = ""
    weights_hash: str | None = None

    _sized = False
    _declares = (VERSION, PROTOCOL)
    _has = (SAMPLE_RATE, Declaration("labels", "a tuple of texts, no two alike", are_labels), *WINDOWS)

    def identity(self) -> dict[str, Any]:
        """What decides its numbers, as ``AudioEmbedder.identity``."""
        return {"labels": list(self.labels), **_window_facts(self)}

    @abstractmethod
    def tag(self, waveform: Tensor) -> Tensor:
        """Mono ``(T,)`` at ``sample_rate`` -> logits ``(windows, labels)``, float32; at least one window (padded)."""


def _window_facts(component: AudioEmbedder | AudioTagger) -> dict[str, Any]:
    names = ("version", "protocol", "sample_rate", "window_s", "hop_s", "weights_hash")
    return {name: getattr(component, name) for name in names}


CONTROLS = ("white noise", "silence", "one clip repeated", "texts shuffled", "targets shuffled")
"""What is no music, and every metric of a folder is tried on; see ``melody.evaluation.controls``."""


def _are_controls(value: Any) -> bool:
    return value is None or (are_names(value) and value <= set(CONTROLS))


class Metric(Registered, ABC):
    """What a registered metric declares beside being a ``torchmetrics.Metric`` whose states merge by sum."""

    version: ClassVar[str]
    direction: ClassVar[Literal["lower", "higher", "none"]]
    unit: ClassVar[str] = ""
    input_kind: ClassVar[InputKind] = "other"
    hears: ClassVar[Literal["mix", "file"]] = "mix"
    """Of a metric of ``waveforms``: the mean of the channels at the metric's ``sample_rate`` (the file's, if it has
    none), ``(1, 1, T)``; or the file as it is, ``(1, C, T)``. Then a constructor that takes ``sample_rate`` is given
    the file's, and one that takes ``layout`` the speakers of its channels (``melody.data.layouts``)."""
    needs_reference: ClassVar[bool] = True
    """Of a metric of ``embeddings`` or ``labels``: whether it says anything of a set without a reference."""
    tells: ClassVar[frozenset[str] | None] = None
    """Those of ``CONTROLS`` that it claims to tell from music; ``None``: all. One that counts silent frames need not
    hear white noise."""

    _declares = (
        VERSION,
        Declaration("direction", "'lower', 'higher' or 'none'", one_of(Literal["lower", "higher", "none"])),
        Declaration("unit", "a text, empty if it has none", is_text),
        Declaration("input_kind", f"one of {', '.join(get_args(InputKind))}", one_of(InputKind)),
        Declaration("hears", "'mix' or 'file'", one_of(Literal["mix", "file"])),
        Declaration("needs_reference", "true or false", is_bool),
        Declaration("tells", f"None, or a frozenset of {', '.join(CONTROLS)}", _are_controls),
        Declaration("update", "a method, as of torchmetrics.Metric", callable),
        Declaration("compute", "a method, as of torchmetrics.Metric", callable),
        Declaration("merge_state", "a method, as of torchmetrics.Metric", callable),
        Declaration("full_state_update", "False, as states are merged", lambda value: value is False),
    )
    _supplied = frozenset({"dimension", "num_labels"})
