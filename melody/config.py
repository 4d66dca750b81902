"""Presets: which component sits in which role, with which arguments, how to generate, how to train.

A preset is a TOML file, ``melody/presets/NAME.toml`` or any path. A component's table names it by ``use``; the other
keys are its constructor's arguments::

    [codec]
    use = "fourier-vae"
    latent_dim = 32

Unknown keys are refused, with the nearest valid one. ``base = "demo"`` at the top takes over whatever is not given
from that preset; a component's table that is given replaces the base's whole one, and ``unset =
["training.vae.restart_at"]`` takes keys of the base back to their defaults. Parts that stay the base's have its
weights.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, overload

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from melody import registry
from melody.artifacts.pretrained import CONFIG, read_config
from melody.bounds import (
    Batch,
    Entries,
    Factor,
    GuidanceScale,
    Levels,
    SampleRate,
    Seconds,
    Seed,
    Steps,
    StepsOrNone,
    Temperature,
    TrainingSteps,
    Weight,
    Width,
    problem,
)
from melody.documents import read_toml
from melody.errors import MelodyError, did_you_mean
from melody.key_changes import changed, keys_to_unset
from melody.paths import PACKAGE

PRESETS = PACKAGE / "presets"
DEFAULT_PRESET = "demo"

UNSAVED = frozenset({"base", "changes"})
"""What of a preset is of one machine and one call, so that it is in no hash and no saved pipeline."""
INDIFFERENT = frozenset({"name", "description", "training", *UNSAVED})
"""What of a preset changes no number: weights tell by their own content how they were trained."""

Model = TypeVar("Model", bound=BaseModel)
AnyPreset = TypeVar("AnyPreset", bound="SystemPreset")

Positive = Annotated[int, Field(gt=0, le=1_000_000_000)]
PositiveFloat = Annotated[float, Field(gt=0, le=1e9)]


class FrozenModel(BaseModel):
    """A table of a TOML file: frozen, no keys beyond those declared, no number that is NaN or infinite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Component(FrozenModel):
    """A component by name with its constructor's arguments."""

    use: str
    arguments: dict[str, Any] = {}


PAPER_GUIDANCE_SCALE = 2.5
"""Of the denoiser, in every generation of the paper (grade S: a public summary of the paper)."""


class Generation(FrozenModel):
    """How music is generated, unless a call says otherwise."""

    segment_s: Seconds = 10.0
    """Length that the denoiser makes at once (main text: 10 s)."""
    chunks: Factor = 4
    """M: a continuation adds one chunk, 1/M of a segment (Algorithm 2)."""
    sampler: str = "ddim"
    grid: str = "melody-linear"
    num_steps: Steps = 20
    guidance_scale: GuidanceScale = PAPER_GUIDANCE_SCALE
    temperature: Temperature = 1.0
    top_k: Entries | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    token_guidance_scale: GuidanceScale = 1.0
    """Guidance of the language model by its prefix; 1 is none, as in the paper."""


class Stage(FrozenModel):
    """Settings that every training stage shares."""

    earlier: ClassVar[Mapping[str, Any]] = {}
    """What was done before a setting was one, where that is not its default: what runs and cards without it mean."""

    steps: TrainingSteps
    batch_size: Batch
    """Of one step, over all processes and accumulated parts."""
    learning_rate: PositiveFloat
    clip_s: Seconds = 10.0
    warmup_steps: StepsOrNone = 0
    restart_at: Positive | None = None
    """Step at which the learning rate has come to zero and begins anew, with its warm-up (SGDR, arXiv 1608.03983): a
    longer run that begins as a shorter one did. None if it lies at or beyond ``steps``."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    gradient_clip: PositiveFloat = 1.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    seed: Seed = 0
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Lightning's name: the arithmetic of the passes; weights, losses and updates stay in float32."""
    accumulate: Positive = 1
    """Into how many parts the batch of a step is cut, one after the other: less memory, the same step to rounding."""
    validate_every: Annotated[int, Field(ge=0)] = 0
    """Steps between figures on held-out data, with sounds, in TensorBoard; 0 leaves them to the end of the stage."""


class JointStage(Stage):
    audio_weights: str | None = None
    """Folder or hub id (OWNER/NAME) of a public AST that the music tower begins as (appendix B.3); else random."""
    text_weights: str | None = None
    """Of a public BERT, whose vocabulary comes with it (appendix B.3); else random, with a vocabulary of ours."""


class LanguageModelStage(Stage):
    earlier: ClassVar[Mapping[str, Any]] = {"audio_share": 1 / 3}

    token_dropout: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Most semantic tokens that are hidden in a row, whose own share is uniform from 0 to this: what stays hidden must
    be read from the prefix (word dropout, arXiv 1511.06349); not in the paper."""
    prefix_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability that a row is trained without its prefix, for guidance; not in the paper."""
    audio_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Of the prefixes, those of the audio itself: all, for text and audio share one space (as MusicLM uses MuLan, arXiv
    2301.11325). The others are of captions and tags, all alike: ours, for a joint space that is small."""


class ReconstructionStage(Stage):
    """Settings of every codec's training."""

    earlier: ClassVar[Mapping[str, Any]] = {"reduction": "mean"}

    adversarial_start: Annotated[int, Field(ge=0)] | None = None
    """First step with discriminators; ``None`` trains without them."""
    reduction: Literal["sum", "mean"] = "sum"
    """Of spectra over resolutions and of features and judgements over discriminators: Eq. 34 to 36 sum; the mean, over
    the discriminators of one kind, is ours."""
    stft_weight: Weight = 50.0
    """Appendix B.1."""
    feature_weight: Weight = 20.0
    """Appendix B.1."""
    adversarial_weight: Weight = 1.0
    """Appendix B.1."""
    log_stft_weight: Weight = 0.0
    """Log magnitudes at the same resolutions: not in the paper."""
    waveform_weight: Weight = 0.0
    """L1 of the waveform: not in the paper."""
    discriminator_width: Width = 32
    decoder_only_from: Positive | None = None
    """First step of the decoder alone: the encoder stays as its moving average is, so that the latents stay what
    later stages learn, and the discriminators rest. Ours."""
    decoder_log_stft_weight: Annotated[float, Field(ge=0)] | None = None
    """``log_stft_weight`` from that step on."""


class CodecStage(ReconstructionStage):
    earlier: ClassVar[Mapping[str, Any]] = {"reduction": "mean", "map_samples": False}

    kl_weight: Weight = 5e-3
    """Appendix B.1: "critical to lower the scale of the KL"."""
    map_samples: bool = True
    """Whether the decoder is trained on mapped samples, clamp(z̄/3, −1, 1) (appendix B.1, figure 4); samples that are
    not clamped are ours."""


class TokenCodecStage(ReconstructionStage):
    commitment_weight: Annotated[float, Field(ge=0)] = 1.0
    """Of the squared distance between residuals and the entries chosen; ours (0.25 in arXiv 1711.00937, recalled)."""
    full_levels_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability that a row is decoded from all levels; else their number is uniform from 1 (quantiser dropout,
    SoundStream, section III-C). Ours: SoundStream always draws."""
    codebook_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Of the moving averages that the codebooks follow (arXiv 1711.00937, recalled)."""
    restart_below: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Entries chosen less often than this share of an entry's mean restart at a vector of the batch; ours."""


class DenoiserStage(Stage):
    earlier: ClassVar[Mapping[str, Any]] = {"latents": "mean"}

    guidance_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Probability that a row is trained without tokens (grade S: a public summary of the paper)."""
    latents: Literal["sample", "mean"] = "sample"
    """What is learnt: mapped samples of the codec's posterior, drawn anew in every step (appendix B.1), or its mapped
    means (ours)."""


class RvqStage(FrozenModel):
    """The quantiser is fitted, not trained: to the embeddings of pieces of this length."""

    clip_s: Seconds = 10.0
    seed: Seed = 0


class Training(FrozenModel):
    """Recipes by stage, in the order of what each needs."""

    joint: JointStage
    rvq: RvqStage = RvqStage()
    semantic: Stage
    lm: LanguageModelStage
    vae: CodecStage
    dpd: DenoiserStage


class Rvq(FrozenModel):
    """Residual vector quantiser of the joint embedding (main text: 12 tokens of 1,024)."""

    num_levels: Levels = 12
    codebook_size: Entries = 1024


class SystemPreset(FrozenModel):
    """What the preset of every system has: a name, parts, and components in roles."""

    system: ClassVar[str]
    folder: ClassVar[Path]
    """Of the presets that ship with the package."""
    roles: ClassVar[Mapping[str, registry.Registry]] = {}
    """Table of a component -> the registry of its kind."""

    name: str
    description: str
    base: str | None = None
    """Shipped preset that gave what the file leaves out, and whose weights serve parts that are as they are there."""
    changes: tuple[str, ...] = ()
    """What ``--set`` changed, as it was given."""

    @classmethod
    def of(cls, tables: dict[str, Any], where: str) -> Self:
        """The preset of tables as in a TOML file; raises ``MelodyError`` as ``load_preset`` does, with ``where``."""
        preset = _with_components(cls, tables, where)
        preset.check()
        return preset

    @property
    @abstractmethod
    def parts(self) -> tuple[str, ...]:
        """Parts with weights that this preset describes, in the order in which they are built."""

    @property
    def title(self) -> str:
        """For messages."""
        return f"preset {self.name!r} of {self.system}"

    @property
    def label(self) -> str:
        """Its name, with what was changed for one call and can change a number: tables call it so."""
        deciding = [change for change in self.changes if change.partition(".")[0] not in INDIFFERENT]
        return f"{self.name} with {', '.join(deciding)}" if deciding else self.name

    def check(self) -> None:
        """Raise ``MelodyError`` for values that do not fit together, or that name nothing."""

    def build(self, part: str) -> Any:
        """One part with random weights, on torch's default device."""
        component: Component = getattr(self, part)
        return self.roles[part].create(component.use, component.arguments, where=f"{self.title} [{part}]")

    def component_of(self, part: str) -> dict[str, Any]:
        """What a part's weights are bound to: the component's name and arguments."""
        described: dict[str, Any] = getattr(self, part).model_dump()
        return described

    def components(self) -> dict[str, tuple[str, str]]:
        """Kind and name of what sits in each role, as in ``{"codec": ("codecs", "fourier-vae")}``."""
        used = {role: getattr(self, role) for role in self.roles}
        return {role: (self.roles[role].kind, component.use) for role, component in used.items() if component}

    def files(self, folder: Path) -> dict[str, Path]:
        """The file of each part's weights, whether it is there or not."""
        return {part: folder / f"{part}.safetensors" for part in self.parts}

    def tables(self) -> dict[str, Any]:
        """The tables of plain values that ``of`` takes."""
        unset = {name for name in UNSAVED if not getattr(self, name)}
        tables = self.model_dump(mode="json", exclude=unset)
        there = [role for role in self.roles if tables[role] is not None]
        return tables | {role: {"use": tables[role]["use"], **tables[role]["arguments"]} for role in there}

    def decisive(self) -> dict[str, Any]:
        """What of it can change a sound or a count, as plain values."""
        return self.model_dump(mode="json", exclude=set(INDIFFERENT))

    def hash(self) -> str:
        """SHA-256 of the resolved content, the same for the same settings however they were written."""
        return content_hash(self.model_dump(exclude=set(UNSAVED)))


def content_hash(content: Any) -> str:
    """SHA-256 of plain values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


ROLES = {
    "codec": registry.codecs,
    "joint_embedder": registry.joint_embedders,
    "semantic_tokenizer": registry.semantic_tokenizers,
    "language_model": registry.language_models,
    "denoiser": registry.denoisers,
}
PARTS = ("joint_embedder", "rvq", "semantic_tokenizer", "language_model", "codec", "denoiser")


class Preset(SystemPreset):
    """A whole system: one component a role."""

    system = "melody"
    folder = PRESETS
    roles = ROLES

    sample_rate: SampleRate = 24_000
    codec: Component
    joint_embedder: Component
    rvq: Rvq
    semantic_tokenizer: Component
    language_model: Component
    denoiser: Component
    generation: Generation = Generation()
    training: Training | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        return PARTS

    @property
    def title(self) -> str:
        return f"preset {self.name!r}"

    @property
    def embedding_dim(self) -> int:
        """Width of the joint embedding."""
        use, arguments = self.joint_embedder.use, self.joint_embedder.arguments
        width: int = registry.joint_embedders.validate(use, arguments, where="[joint_embedder]")["embedding_dim"]
        return width

    def check(self) -> None:
        registry.samplers.entry(self.generation.sampler)
        registry.grids.entry(self.generation.grid)

    def components(self) -> dict[str, tuple[str, str]]:
        drawn = {name: (f"{name}s", getattr(self.generation, name)) for name in ("sampler", "grid")}
        return super().components() | drawn


STAGES = {
    "joint": "joint_embedder",
    "rvq": "rvq",
    "semantic": "semantic_tokenizer",
    "lm": "language_model",
    "vae": "codec",
    "dpd": "denoiser",
}
"""Stage -> the part that it trains."""


def preset_names(kind: type[SystemPreset] = Preset) -> list[str]:
    """Presets of a system, MeLoDy's if not said otherwise, that ship with the package."""
    return sorted(path.stem for path in kind.folder.glob("*.toml"))


@overload
def load_preset(name: str | Path) -> Preset: ...
@overload
def load_preset(name: str | Path, kind: type[AnyPreset]) -> AnyPreset: ...
def load_preset(name: str | Path, kind: type[SystemPreset] = Preset) -> SystemPreset:
    """Load a preset by name or by path, and check every component's name and arguments.

    Args:
        kind: of which system; MeLoDy's if not given.
    Raises:
        MelodyError: no such preset, malformed TOML, an unknown component or key, a value of a wrong type.
    """
    path = kind.folder / f"{name}.toml"
    if not path.is_file():
        path = Path(name)
        if path.suffix != ".toml":
            whose = "" if kind is Preset else f" of {kind.system}"
            raise MelodyError(
                f"unknown preset {str(name)!r}{whose}{did_you_mean(str(name), preset_names(kind))}; "
                "or give the path of a .toml file"
            )
    return kind.of(_with_base(read_toml(path), str(path), kind), str(path))


def _with_base(tables: dict[str, Any], where: str, kind: type[SystemPreset]) -> dict[str, Any]:
    """The tables laid over those of the shipped preset that ``base`` names."""
    if "base" not in tables:
        return tables
    base, own = tables["base"], {key: value for key, value in tables.items() if key != "unset"}
    if base not in preset_names(kind):
        raise MelodyError(f"{where}: unknown base {base!r}{did_you_mean(str(base), preset_names(kind))}")
    below = _with_base(read_toml(kind.folder / f"{base}.toml"), where, kind)
    return _over(
        changed(below, [f"{key}=" for key in keys_to_unset(tables, where)], f"{where}: unset", kind.roles), own
    )


def _over(below: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Key by key; a component's table replaces the whole of it, for two components' arguments would not mix."""
    merged = dict(below)
    for key, value in own.items():
        mixes = isinstance(value, dict) and isinstance(below.get(key), dict) and "use" not in value
        merged[key] = _over(below[key], value) if mixes else value
    return merged


def with_changes(preset: AnyPreset, changes: Sequence[str]) -> AnyPreset:
    """The preset with values of single keys instead (see ``changed``), checked as those of a file are."""
    if not changes:
        return preset
    where = f"{preset.title} with --set {' --set '.join(changes)}"
    made = type(preset).of(changed(preset.tables(), changes, "--set", preset.roles), where)
    return made.model_copy(update={"changes": (*preset.changes, *changes)})


def _with_components(kind: type[AnyPreset], tables: dict[str, Any], where: str) -> AnyPreset:
    """A preset of tables of which those of roles name a component by ``use``; their arguments are checked."""
    raw, roles = dict(tables), kind.roles
    for role, components in roles.items():
        if isinstance(raw.get(role), dict):
            raw[role] = _component(raw[role], components, f"{where} [{role}]")
    parsed = parse(kind, raw, where)
    given = {role: getattr(parsed, role) for role in roles}
    return parsed.model_copy(
        update={s: _resolved(component, roles[s], f"{where} [{s}]") for s, component in given.items() if component}
    )


def preset_for(name: str | Path | None, weights: Path | None) -> Preset:
    """The preset that is named; else the one that the folder of weights came with; else ``demo``."""
    if name is not None or weights is None or not (weights / CONFIG).is_file():
        return load_preset(name or DEFAULT_PRESET)
    config = read_config(weights)
    return Preset.of(config, str(weights / CONFIG)) if "name" in config else load_preset(DEFAULT_PRESET)


def _resolved(component: Component, components: registry.Registry, where: str) -> Component:
    """The component with its defaults filled in, so that a default that is written out changes no hash."""
    return Component(use=component.use, arguments=components.validate(component.use, component.arguments, where=where))


def _component(table: dict[str, Any], components: registry.Registry, where: str) -> dict[str, Any]:
    if "use" not in table:
        raise MelodyError(f'{where}: expected use = "NAME" with one of: {", ".join(components.names())}')
    return {"use": table["use"], "arguments": {key: value for key, value in table.items() if key != "use"}}


def parse(model: type[Model], raw: dict[str, Any], where: str) -> Model:
    """Validate a table against a model; the first problem becomes one line with the nearest valid key."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        # A misspelt key shows up as an unknown one and a missing one: the first says what to mend.
        first = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
        path = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            key, *parents = reversed(first["loc"])
            hint = did_you_mean(str(key), _keys(model, list(reversed(parents))))
            raise MelodyError(f"{where}: unknown key {path!r}{hint}") from None
        raise MelodyError(f"{where}: {path}: {problem(first)}") from None


def _keys(model: Any, parents: list[Any]) -> list[str]:
    """Field names of the table at ``parents``, as far as the annotations tell."""
    for part in parents:
        if not isinstance(part, str):
            continue
        annotation = model.model_fields[part].annotation if part in getattr(model, "model_fields", {}) else None
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        models = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not models:
            return []
        model = models[0]
    return list(model.model_fields)
