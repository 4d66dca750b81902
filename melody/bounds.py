"""What the numbers of presets, components and calls may be: types whose bounds are checked wherever one is built.

The upper bounds are ours: some ten times what anyone has published, and low enough that a slip of the keyboard is told
as such and no machine is asked to build it.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import Field
from pydantic_core import ErrorDetails

T = TypeVar("T")
LONGEST_SHOWN = 60
"""Characters of a value in a message."""

SampleRate = Annotated[int, Field(ge=1, le=768_000)]
"""In Hz."""
Width = Annotated[int, Field(ge=1, le=65_536)]
"""Channels, dimensions, kernels."""
Layers = Annotated[int, Field(ge=1, le=128)]
"""Layers, blocks or units of one stack."""
LayersOrNone = Annotated[int, Field(ge=0, le=128)]
Heads = Annotated[int, Field(ge=1, le=1_024)]
Entries = Annotated[int, Field(ge=1, le=1_048_576)]
"""Of a codebook or a vocabulary."""
Levels = Annotated[int, Field(ge=1, le=256)]
"""Of a quantiser, or tokens of a prefix."""
Samples = Annotated[int, Field(ge=1, le=32_768)]
"""Lengths of windows and hops, in samples or frames."""
Bands = Annotated[int, Field(ge=1, le=1_024)]
"""Of a mel filter bank, or groups of a norm."""
Tokens = Annotated[int, Field(ge=1, le=1_048_576)]
"""In a sequence."""
Factor = Annotated[int, Field(ge=1, le=64)]
"""By how much a block changes the rate, or how often something is repeated in it."""
PerSecond = Annotated[float, Field(ge=1e-3, le=768_000.0)]
"""Frames or tokens a second."""
Times = Annotated[float, Field(gt=0, le=64.0)]
"""A width as a multiple of another."""
Seconds = Annotated[float, Field(ge=1e-3, le=86_400.0)]
"""A length of audio: a millisecond to a day."""
Neighbours = Annotated[int, Field(ge=1, le=65_536)]
Draws = Annotated[int, Field(ge=1, le=10_000)]
Share = Annotated[float, Field(ge=0, le=1)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""What a generator of torch takes."""
MAX_STEPS = 10_000
MAX_GUIDANCE = 1_000.0
MAX_SEED = 2**63 - 1
MAX_RUN_SEED = 2**32 - 1
"""Of runs and evaluations, which other libraries draw from too."""
RunSeed = Annotated[int, Field(ge=0, le=MAX_RUN_SEED)]
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS)]
"""Of a sampler; twenty times what the paper's baselines take."""
TrainingSteps = Annotated[int, Field(ge=1, le=1_000_000_000)]
StepsOrNone = Annotated[int, Field(ge=0, le=1_000_000_000)]
Batch = Annotated[int, Field(ge=1, le=1_048_576)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
"""Of a term of a loss."""
GuidanceScale = Annotated[float, Field(ge=0, le=MAX_GUIDANCE)]
Temperature = Annotated[float, Field(ge=1e-3, le=1_000.0)]
Blocks = Annotated[tuple[T, ...], Field(min_length=1, max_length=12)]
"""One value for each block or level of a network."""
Stack = Annotated[tuple[T, ...], Field(min_length=1, max_length=128)]
"""One value for each layer of a stack."""


def problem(details: ErrorDetails) -> str:
    """What pydantic says of a value, and the value.

    >>> problem({"type": "less_than", "loc": ("eta",), "msg": "Input should be less than 1", "input": 2})
    'Input should be less than 1, got 2'
    """
    if details["type"] in ("missing", "value_error", "extra_forbidden"):  # these have no value, or tell it
        return details["msg"]
    return f"{details['msg']}, got {shown(details['input'])}"


def shown(value: object) -> str:
    """A value for a message, however long it is (Python prints no more than 4,300 digits).

    >>> shown(-3), shown(10**5000), shown([1, 2])
    ('-3', 'a whole number of 16610 bits', 'a list of 2')
    >>> shown("9" * 5000).replace("9", "")
    "'…' (5,000 characters)"
    """
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a whole number of {value.bit_length()} bits"
    if isinstance(value, list | tuple | dict | set | frozenset):
        return f"a {'table' if isinstance(value, dict) else type(value).__name__} of {len(value)}"
    if isinstance(value, str) and len(value) > LONGEST_SHOWN:
        return f"{value[:50] + '…'!r} ({len(value):,} characters)"
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN or isinstance(value, str) else f"{text[:50]}…"
