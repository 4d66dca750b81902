"""Seconds of a generation on a machine that is not at hand: a roofline, with efficiencies fitted on printed speeds.

- A call is bound by arithmetic or by memory, whichever of FLOPs / peak and bytes of weights / bandwidth is longer
  (Williams, Waterman and Patterson, DOI 10.1145/1498765.1498785). Activations and caches are not among the bytes, and
  what it costs to begin a call is not in the model: of many small calls the projection is too fast.
- ``fit`` finds the share of each peak that a set of printed seconds implies, by least squares on relative errors. A
  share above 1 means that the printed speed is beyond the peak: the model's precision, or its work, is not the
  printed run's.
- A projection is never a measurement, and the fit's residuals stand beside it.

Unit: seconds. Version 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from melody.errors import MelodyError
from melody.metrics.flops import BYTES


@dataclass(frozen=True)
class Machine:
    """Peaks of a machine in a precision."""

    name: str
    flops_a_second: float
    bytes_a_second: float
    precision: str
    """``fp32`` or ``half``."""


V100 = {
    "fp32": Machine("V100", 15.7e12, 900e9, "fp32"),
    "half": Machine("V100", 125e12, 900e9, "half"),
}
"""Tesla V100 SXM2, half precision by its tensor cores: as recalled of NVIDIA's whitepaper WP-08608-001, Table 1."""
TABLE2_V100_S = {5: 240_000 / 181_100, 10: 240_000 / 104_800, 20: 240_000 / 56_900}
"""Seconds for 10 s by number of steps: Table 2's Hz, of 24 kHz, on its V100. On a line: 0.193 a step and 0.37."""


@dataclass(frozen=True)
class Load:
    """Calls of one kind."""

    calls: int
    flops: int
    """Of a call."""
    weights: int
    """Values of parameters that a call reads."""


@dataclass(frozen=True)
class Efficiency:
    """Shares of the peaks that are reached, and what the fit leaves over."""

    arithmetic: float
    memory: float
    residuals: tuple[float, ...]
    """Relative, of each printed number: fitted / printed − 1."""

    @property
    def possible(self) -> bool:
        """Whether no peak is exceeded."""
        return 0 < self.arithmetic <= 1 and 0 < self.memory <= 1


def bounds(loads: Iterable[Load], machine: Machine) -> tuple[float, float]:
    """Seconds at the peaks: of calls that arithmetic bounds, and of those that memory bounds.

    >>> bounds([Load(2, 30, 1), Load(1, 1, 5)], Machine("toy", 10.0, 4.0, "fp32"))
    (6.0, 5.0)
    """
    arithmetic = memory = 0.0
    for load in loads:
        computing = load.flops / machine.flops_a_second
        reading = load.weights * BYTES[machine.precision] / machine.bytes_a_second
        if computing >= reading:
            arithmetic += load.calls * computing
        else:
            memory += load.calls * reading
    return arithmetic, memory


def fit(runs: Sequence[tuple[Sequence[Load], float]], machine: Machine) -> Efficiency:
    """Efficiencies that printed seconds imply: two unknowns, by least squares on relative errors.

    Args:
        runs: the calls of each run, and its printed seconds.
    Raises:
        MelodyError: fewer than three runs, or runs that do not tell arithmetic from memory.
    """
    if len(runs) < 3:
        raise MelodyError(f"roofline: {len(runs)} runs; expected 3 or more, so that a residual is left")
    printed = np.array([seconds for _, seconds in runs])
    shares = np.array([bounds(loads, machine) for loads, _ in runs]) / printed[:, None]
    inverse, _, rank, _ = np.linalg.lstsq(shares, np.ones(len(runs)), rcond=None)
    if rank < 2:
        raise MelodyError("roofline: the runs do not tell arithmetic from memory")
    arithmetic, memory = (float(1 / value) for value in inverse)
    return Efficiency(arithmetic, memory, tuple(float(value) for value in shares @ inverse - 1))


def projected_seconds(loads: Iterable[Load], machine: Machine, efficiency: Efficiency) -> float:
    """Seconds of so many calls."""
    arithmetic, memory = bounds(loads, machine)
    return arithmetic / efficiency.arithmetic + memory / efficiency.memory
