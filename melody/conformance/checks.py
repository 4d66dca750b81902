"""``melody check-plugin``: whether a component keeps what its kind promises, a line for each check.

A check is a function of a ``Candidate`` under ``@check(kind, "what is held")``: it returns nothing if the component
keeps it, raises ``BrokenPromiseError`` with what is wrong, or ``NotTriedError`` with why it cannot be tried. Anything
else that it raises is the component's failure too. Checks run in the order in which they stand here.
"""

from __future__ import annotations

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


def above_zero(instance: Any, *names: str) -> None:
    """Raise ``BrokenPromiseError`` unless these attributes are numbers above 0."""
    for name in names:
        value = getattr(instance, name, None)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise BrokenPromiseError(f"{name} is {value!r}: expected a number above 0")


def tensor_of(what: str, value: Any, shape: tuple[int | None, ...], *, whole: bool = False) -> Tensor:
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


def same_bits(what: str, first: Tensor, second: Tensor) -> None:
    """Raise ``BrokenPromiseError`` unless two calls gave the same bits."""
    if not torch.equal(first, second):
        raise BrokenPromiseError(f"{what} gives other bits at the second call")


def attempt(candidate: Candidate, call: Callable[[], Any]) -> Any:
    """The call's result; what our own parts refuse without weights is no failure of theirs."""
    try:
        with torch.inference_mode():
            return call()
    except MelodyError as error:
        if candidate.entry.in_tree:
            raise NotTriedError(str(error)) from None
        raise


def within(what: str, tokens: Tensor, size: int) -> None:
    """Raise ``BrokenPromiseError`` for tokens that are no entry of a codebook of that size."""
    if tokens.numel() and (int(tokens.min()) < 0 or int(tokens.max()) >= size):
        raise BrokenPromiseError(f"{what} gives {int(tokens.min())} to {int(tokens.max())}: expected 0 to {size - 1}")


def same_numbers(what: str, found: Tensor, expected: Tensor) -> None:
    """Raise ``BrokenPromiseError`` unless two tensors agree to rounding."""
    if found.shape != expected.shape or not torch.allclose(found.float(), expected.float(), rtol=1e-3, atol=1e-4):
        apart = float((found.float() - expected.float()).abs().max()) if found.shape == expected.shape else math.inf
        raise BrokenPromiseError(f"{what}: they differ by {apart:.3g}, expected the same to rounding")


def row_alone(what: str, call: Callable[[Tensor], Tensor], rows: Tensor) -> None:
    """Raise ``BrokenPromiseError`` unless a row by itself gives what it gives in a batch."""
    same_numbers(f"{what} of a row alone and in a batch", call(rows[:1]), call(rows)[:1])
