"""``melody check-plugin``: whether a component keeps what its kind promises, a line for each check.

A check is a function of a ``Candidate`` under ``@check(kind, "what is held")``: it returns nothing if the component
keeps it, raises ``BrokenPromiseError`` with what is wrong, or ``NotTriedError`` with why it cannot be tried. Anything
else that it raises is the component's failure too. Checks run in the order in which they stand here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from melody import registry
from melody.errors import MelodyError, did_you_mean
from melody.plugins import contained, streams_kept, told
from melody.registry import Entry, Registry

RATE = 16_000
"""Of clips for metrics that hear the file's own rate, in Hz."""
DIMENSION = 8
"""Of made-up embeddings, and of labels."""


class BrokenPromiseError(MelodyError):
    """A promise that the component does not keep."""


class NotTriedError(MelodyError):
    """Why a check cannot be tried here."""


@dataclass
class Candidate:
    """The component that is checked, and what is built of it."""

    kind: Registry
    entry: Entry
    arguments: dict[str, Any]
    built: Any = None

    def create(self) -> Any:
        """A new instance with the arguments given."""
        return self.kind.create(self.entry.name, self.arguments)

    def waveform(self, seed: int = 0) -> Tensor:
        """Half a second of noise ``(T,)`` at the component's rate."""
        return 0.1 * drawn(seed, self.built.sample_rate // 2)


@dataclass(frozen=True)
class Result:
    """What came of one check."""

    check: str
    state: Literal["holds", "fails", "skipped"]
    reason: str = ""


Check = Callable[[Candidate], None]
CHECKS: dict[str, list[tuple[str, Check]]] = {kind: [] for kind in registry.REGISTRIES}


def check(kind: str, what: str) -> Callable[[Check], Check]:
    """Add a check to a kind of component; several decorators add it to several kinds."""

    def add(function: Check) -> Check:
        CHECKS[kind].append((what, function))
        return function

    return add


def candidates(name: str, kind: str | None) -> list[tuple[Registry, Entry]]:
    """Components of a name, of one kind or of all; raises ``MelodyError`` with the nearest name if there is none."""
    kinds = [registry.registry(kind)] if kind else list(registry.REGISTRIES.values())
    entries = [(kind_registry, entry) for kind_registry in kinds for entry in kind_registry.entries()]
    matches = [(kind_registry, entry) for kind_registry, entry in entries if entry.name == name]
    if not matches:
        where = f" among {kind}" if kind else ""
        raise MelodyError(f"no component {name!r}{where}{did_you_mean(name, {entry.name for _, entry in entries})}")
    return matches


def run_checks(kind: Registry, entry: Entry, arguments: dict[str, Any]) -> Iterator[Result]:
    """Every check of the component's kind, one after the other, as far as one can go."""
    if entry.error is not None:
        yield Result("it loads and declares what its kind declares", "fails", entry.error)
        return
    yield Result("it loads", "holds")
    declared = () if kind.base is None else kind.base._declares
    for rule in declared:  # they were looked at when it was registered, which failed if one did not hold
        yield Result(f"{rule.name} is {rule.expected}", "holds")
    candidate = Candidate(kind, entry, arguments)
    yield Result("its docstring says in a line what it is", "holds" if entry.sentence else "fails")
    built = _outcome("it is built, with a default for every argument that is not given", _build, candidate)
    yield built
    if built.state != "holds":  # nothing else can be tried
        return
    for what, function in CHECKS[kind.kind]:
        yield _outcome(what, function, candidate)


def _outcome(what: str, function: Check, candidate: Candidate) -> Result:
    try:
        with streams_kept(), contained():
            function(candidate)
    except NotTriedError as reason:
        return Result(what, "skipped", told(reason))
    except MelodyError as error:
        return Result(what, "fails", told(error))
    return Result(what, "holds")


def _build(candidate: Candidate) -> None:
    kind, name = candidate.kind, candidate.entry.name
    if kind.base is None:  # a function is called, not built
        candidate.built = candidate.entry.component
        return
    required = [p.name for p in kind.parameters(name) if p.default is ... and p.name not in candidate.arguments]
    if required and kind.base._supplied is None:
        raise NotTriedError(f"give what it needs: melody check-plugin {name}:{required[0]}=VALUE")
    supplied = {n: DIMENSION for n in kind.base._supplied or () if n in {p.name for p in kind.parameters(name)}}
    candidate.arguments = {**supplied, **candidate.arguments}
    try:
        candidate.built = candidate.create()
    except MelodyError as error:
        if kind.base._supplied is None and not candidate.arguments:
            raise NotTriedError(f"not by its defaults ({error}): melody check-plugin {name}:ARGUMENT=VALUE") from None
        raise
    if isinstance(candidate.built, torch.nn.Module):
        candidate.built.eval()


def drawn(seed: int, *shape: int) -> Tensor:
    """Normal numbers of a seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _number(instance: Any, *names: str) -> None:
    for name in names:
        value = getattr(instance, name, None)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise BrokenPromiseError(f"{name} is {value!r}: expected a number above 0")


def _tensor(what: str, value: Any, shape: tuple[int | None, ...], *, whole: bool = False) -> Tensor:
    """``found``, if it is a finite tensor of that shape (``None``: any size); whole numbers if ``whole``."""
    if not isinstance(value, Tensor):
        raise BrokenPromiseError(f"{what} gives {type(value).__name__}: expected a tensor")
    fits = value.ndim == len(shape) and all(want in (None, size) for want, size in zip(shape, value.shape, strict=True))
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise BrokenPromiseError(f"{what} gives shape {tuple(value.shape)}: expected ({wanted})")
    if whole == value.is_floating_point() or value.is_complex():
        raise BrokenPromiseError(
            f"{what} gives {value.dtype}: expected {'whole' if whole else 'floating-point'} numbers"
        )
    if not torch.isfinite(value).all():
        raise BrokenPromiseError(f"{what} gives NaN or infinity: expected finite numbers")
    return value


def _same(what: str, first: Tensor, second: Tensor) -> None:
    if not torch.equal(first, second):
        raise BrokenPromiseError(f"{what} gives other bits at the second call")


def _try(candidate: Candidate, call: Callable[[], Any]) -> Any:
    """The call's result; what our own parts refuse without weights is no failure of theirs."""
    try:
        with torch.inference_mode():
            return call()
    except MelodyError as error:
        if candidate.entry.in_tree:
            raise NotTriedError(str(error)) from None
        raise


@check("metrics", "it computes one finite number of a tiny update")
def _metric_computes(candidate: Candidate) -> None:
    value = torch.as_tensor(_filled(candidate, _updates(candidate)).compute())
    if value.numel() != 1:
        raise BrokenPromiseError(f"compute gives shape {tuple(value.shape)}: expected one number")
    if not torch.isfinite(value).all():
        raise BrokenPromiseError(f"compute gives {float(value)}: expected a finite number")


@check("metrics", "the same updates give the same number")
def _metric_repeats(candidate: Candidate) -> None:
    updates = _updates(candidate)
    first, second = (float(_filled(candidate, updates).compute()) for _ in range(2))
    if first != second:
        raise BrokenPromiseError(f"{first!r} at the first run, {second!r} at the second")


@check("metrics", "two halves merge to the whole")
def _metric_merges(candidate: Candidate) -> None:
    updates = _updates(candidate)
    whole = float(_filled(candidate, updates).compute())
    merged = _filled(candidate, updates[:2])
    merged.merge_state(_filled(candidate, updates[2:]))
    merged._computed = None
    summed = float(merged.compute())
    if not math.isclose(summed, whole, rel_tol=1e-6, abs_tol=1e-9):
        raise BrokenPromiseError(f"{summed!r} merged, {whole!r} in one: states must merge by sum or by concatenation")


@check("metrics", "it refuses NaN with MelodyError")
def _metric_refuses(candidate: Candidate) -> None:
    update = [torch.full_like(a, math.nan) if isinstance(a, Tensor) else a for a in _updates(candidate)[0]]
    try:
        metric = candidate.create()
        metric.update(*update)
        metric.compute()
    except MelodyError:
        return
    except Exception as error:
        raise BrokenPromiseError(f"{told(error)}: expected melody.errors.MelodyError") from None
    raise BrokenPromiseError("update and compute take it")


def _updates(candidate: Candidate) -> list[tuple[Any, ...]]:
    """Four made-up updates of what the metric takes."""
    input_kind, metric = candidate.entry.component.input_kind, candidate.built
    rate = getattr(metric, "sample_rate", None) or RATE
    width = candidate.arguments.get("dimension") or candidate.arguments.get("num_labels") or DIMENSION
    if input_kind == "other":
        raise NotTriedError("what it takes is held by no folder, so nothing is made up for it")
    if input_kind == "waveforms":
        channels = 2 if candidate.entry.component.hears == "file" else 1
        return [(0.1 * drawn(seed, 1, channels, 5 * rate),) for seed in range(4)]
    if input_kind == "waveform_pairs":
        return [(0.1 * drawn(seed, 1, 1, rate), 0.1 * drawn(seed + 9, 1, 1, rate)) for seed in range(4)]
    if input_kind == "text_audio_embeddings":
        return [(drawn(seed, 12, width), drawn(seed + 9, 12, width)) for seed in range(4)]
    if input_kind == "label_pairs":
        return [(drawn(seed, 2, width), drawn(seed + 9, 3, width)) for seed in range(4)]
    return [(drawn(seed, 24, width), seed % 2 == 0) for seed in range(8)]


def _filled(candidate: Candidate, updates: list[tuple[Any, ...]]) -> Any:
    metric = candidate.create()
    for update in updates:
        metric.update(*update)
    return metric


@check("samplers", "it leads to finite latents of the same shape, with as many evaluations as it declares")
def _sampler_runs(candidate: Candidate) -> None:
    _tensor("sampling", _sampled(candidate, 4), (2, 6, 3))


@check("samplers", "the same generators give the same bits")
def _sampler_repeats(candidate: Candidate) -> None:
    _same("sampling", _sampled(candidate, 4), _sampled(candidate, 4))


@check("samplers", "more steps come nearer to the known end, unless it is stochastic")
def _sampler_converges(candidate: Candidate) -> None:
    if candidate.built.stochastic:
        raise NotTriedError("it draws noise")
    noise = drawn(0, 2, 6, 3)
    few, many = (float((_sampled(candidate, steps) - noise / 2).norm()) for steps in (8, 64))
    if not many < few:
        raise BrokenPromiseError(f"the error is {few:.3g} with 8 steps and {many:.3g} with 64")


def _sampled(candidate: Candidate, num_steps: int) -> Tensor:
    """From noise to data of N(0, 1/4), whose velocity is known: noise ends at half of itself."""
    from melody.samplers import sample

    def velocity(latents: Tensor, angle: Tensor) -> Tensor:
        cos, sin = torch.cos(angle)[..., None], torch.sin(angle)[..., None]
        return (0.75 * cos * sin / (cos**2 / 4 + sin**2) * latents).to(latents.dtype)

    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    return sample(
        velocity, drawn(0, 2, 6, 3), sampler=candidate.create(), grid="uniform", num_steps=num_steps,
        generator=generators,
    )  # fmt: skip


@check("grids", "1, 2 and 20 steps give angles that fall from π/2 to 0")
def _grid_falls(candidate: Candidate) -> None:
    for num_steps in (1, 2, 20):
        angles = _tensor(f"the grid of {num_steps} steps", candidate.built(num_steps), (num_steps + 1,)).double()
        ends = (abs(float(angles[0]) - math.pi / 2) < 1e-6, abs(float(angles[-1])) < 1e-6)
        if not all(ends) or not (angles.diff() < 0).all():
            raise BrokenPromiseError(f"{num_steps} steps: {angles.tolist()}")


@check("audio_embedders", "its rate, width and windows are numbers above 0")
def _embedder_declares(candidate: Candidate) -> None:
    _number(candidate.built, "sample_rate", "dimension", "window_s", "hop_s")


@check("audio_embedders", "a clip gives finite vectors of its dimension, the same at each call")
def _embedder_embeds(candidate: Candidate) -> None:
    built = candidate.built
    first, second = (_try(candidate, lambda: built.embed(candidate.waveform())) for _ in range(2))
    _tensor("embed", first, (None, built.dimension))
    _same("embed", first, second)


@check("audio_embedders", "a clip of one sample gives a window")
def _embedder_pads(candidate: Candidate) -> None:
    built = candidate.built
    if len(_tensor("embed", _try(candidate, lambda: built.embed(torch.zeros(1))), (None, built.dimension))) < 1:
        raise BrokenPromiseError("embed gives no window: expected padding to at least one")


@check("audio_taggers", "its rate and windows are numbers above 0, its labels a tuple of texts")
def _tagger_declares(candidate: Candidate) -> None:
    _number(candidate.built, "sample_rate", "window_s", "hop_s")
    labels = candidate.built.labels
    if not isinstance(labels, tuple) or not labels or not all(isinstance(label, str) for label in labels):
        raise BrokenPromiseError(f"labels is {labels!r}: expected a tuple of texts")


@check("audio_taggers", "a clip gives finite logits, one a label, the same at each call")
def _tagger_tags(candidate: Candidate) -> None:
    built = candidate.built
    first, second = (_try(candidate, lambda: built.tag(candidate.waveform())) for _ in range(2))
    _tensor("tag", first, (None, len(built.labels)))
    _same("tag", first, second)


@check("audio_embedders", "its facts are plain values")
@check("audio_taggers", "its facts are plain values")
@check("systems", "its facts are plain values")
def _facts(candidate: Candidate) -> None:
    facts = candidate.built.identity()
    try:
        json.dumps(facts, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BrokenPromiseError(f"identity() cannot be JSON: {error}") from None


@check("codecs", "its rate, hop and width are numbers above 0")
def _codec_declares(candidate: Candidate) -> None:
    _number(candidate.built, "sample_rate", "hop_length", "latent_dim")


@check("codecs", "a waveform becomes latents and comes back, the same at each call")
def _codec_goes_round(candidate: Candidate) -> None:
    built = candidate.built
    waveform = 0.1 * drawn(0, 1, 1, 8 * built.hop_length - 1)
    first, second = (_try(candidate, lambda: built.encode(waveform)) for _ in range(2))
    _same("encode", _tensor("encode", first, (1, 8, built.latent_dim)), second)
    _tensor("decode", _try(candidate, lambda: built.decode(first)), (1, 1, 8 * built.hop_length))


@check("token_codecs", "its rate, hop, levels and entries are numbers above 0")
def _token_codec_declares(candidate: Candidate) -> None:
    _number(candidate.built, "sample_rate", "hop_length", "num_levels", "codebook_size")


@check("token_codecs", "a waveform becomes tokens and comes back, the same at each call")
def _token_codec_goes_round(candidate: Candidate) -> None:
    built = candidate.built
    waveform = 0.1 * drawn(0, 1, 1, 8 * built.hop_length - 1)
    first, second = (_try(candidate, lambda: built.encode(waveform)) for _ in range(2))
    tokens = _tensor("encode", first, (1, 8, built.num_levels), whole=True)
    _same("encode", tokens, second)
    _within("encode", tokens, built.codebook_size)
    _tensor("decode", _try(candidate, lambda: built.decode(tokens)), (1, 1, 8 * built.hop_length))
    _tensor("decode of one level", _try(candidate, lambda: built.decode(tokens[..., :1])), (1, 1, 8 * built.hop_length))


@check("semantic_tokenizers", "its rates and codebook are numbers above 0")
def _tokenizer_declares(candidate: Candidate) -> None:
    _number(candidate.built, "sample_rate", "token_rate", "codebook_size")


@check("semantic_tokenizers", "a second gives one token a period, within the codebook, the same at each call")
def _tokenizer_tokenizes(candidate: Candidate) -> None:
    built = candidate.built
    waveform = 0.1 * drawn(0, 1, 1, built.sample_rate)
    first, second = (_try(candidate, lambda: built.tokenize(waveform)) for _ in range(2))
    _same("tokenize", _tensor("tokenize", first, (1, math.floor(built.token_rate)), whole=True), second)
    _within("tokenize", first, built.codebook_size)


@check("joint_embedders", "its rate and width are numbers above 0")
def _joint_declares(candidate: Candidate) -> None:
    _number(candidate.built, "sample_rate", "embedding_dim")


@check("joint_embedders", "texts and sounds become unit vectors of one space")
def _joint_embeds(candidate: Candidate) -> None:
    built = candidate.built
    texts = _try(candidate, lambda: built.embed_text(["a piano", "drums"]))
    sounds = _try(candidate, lambda: built.embed_audio(0.1 * drawn(0, 2, 1, built.sample_rate)))
    for what, vectors in (("embed_text", texts), ("embed_audio", sounds)):
        norms = _tensor(what, vectors, (2, built.embedding_dim)).float().norm(dim=1)
        if not torch.allclose(norms, torch.ones(2), atol=1e-3):
            raise BrokenPromiseError(f"{what} gives vectors of length {norms.tolist()}: expected 1")


@check("language_models", "it draws as many tokens as asked, within the codebook, the same from the same generator")
def _language_model_draws(candidate: Candidate) -> None:
    built = candidate.built
    prefix = torch.zeros(2, built.num_prefix_tokens, dtype=torch.long)
    first, second = (
        _try(candidate, lambda: built.generate(prefix, 3, generator=torch.Generator().manual_seed(0))) for _ in range(2)
    )
    _same("generate", _tensor("generate", first, (2, 3), whole=True), second)
    _within("generate", first, built.codebook_size)


@check("language_models", "its loss is one finite number")
def _language_model_loses(candidate: Candidate) -> None:
    built = candidate.built
    prefix = torch.zeros(2, built.num_prefix_tokens, dtype=torch.long)
    _tensor("loss", _try(candidate, lambda: built.loss(prefix, torch.zeros(2, 4, dtype=torch.long))), ())


@check("denoisers", "it gives finite velocities of the latents' shape, the same at each call")
def _denoiser_predicts(candidate: Candidate) -> None:
    built = candidate.built
    latents, angle = drawn(0, 2, 32, built.latent_dim), torch.full((2, 32), 0.7)

    def predict() -> Any:
        return built(latents, angle, built.prepare(torch.zeros(2, 4, dtype=torch.long)))

    first, second = (_try(candidate, predict) for _ in range(2))
    _same("forward", _tensor("forward", first, (2, 32, built.latent_dim)), second)


@check("systems", "its name and rate are declared")
def _system_declares(candidate: Candidate) -> None:
    _number(candidate.built, "sample_rate")
    if not isinstance(getattr(candidate.built, "name", None), str):
        raise BrokenPromiseError("it lacks 'name': expected a text")


@check("systems", "half a second for one prompt is a finite waveform of that length, the same for the same seed")
def _system_generates(candidate: Candidate) -> None:
    built = candidate.built
    if candidate.entry.in_tree:
        raise NotTriedError("systems of ours are run by the tables")
    first, second = (_try(candidate, lambda: built.generate(["a piano"], duration_s=0.5, seeds=[0])) for _ in range(2))
    wanted = (1, 1, round(0.5 * built.sample_rate))
    _same("generate", _tensor("generate", first.waveform, wanted), second.waveform)
    if first.sample_rate != built.sample_rate:
        raise BrokenPromiseError(
            f"the waveform's rate is {first.sample_rate}: expected {built.sample_rate}, as declared"
        )


def _within(what: str, tokens: Tensor, size: int) -> None:
    if tokens.numel() and (int(tokens.min()) < 0 or int(tokens.max()) >= size):
        raise BrokenPromiseError(f"{what} gives {int(tokens.min())} to {int(tokens.max())}: expected 0 to {size - 1}")


@check("tables", "its measures have a direction, and the version of a registered metric where they name one")
def _table_measures(candidate: Candidate) -> None:
    measures = candidate.built.measures
    if not measures:
        raise BrokenPromiseError("measures is empty: a table has no column that it can fill")
    for name, quantity in measures.items():
        version, direction, _ = quantity.facts
        if direction not in ("lower", "higher", "none") or not version:
            raise BrokenPromiseError(f"measure {name!r} is {quantity!r}: expected a direction")
