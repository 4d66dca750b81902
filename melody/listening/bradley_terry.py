"""Bradley-Terry strengths: one number a system, such that P(i over j) = 1 / (1 + exp(θ_j − θ_i)), with Σ θ = 0.

A *similar* answer is half a win for each, as in the rates: so the strengths of two systems alone give their preference
rate back, which a model with a parameter for ties (Davidson 1970) would not. The strengths maximise the likelihood of
the points, which is concave; Newton's method with halved steps finds them. They are finite where every split of the
systems in two has points in both directions (Ford 1957), and undefined elsewhere.

Sources: Bradley and Terry (1952), doi:10.2307/2334029; Ford (1957), doi:10.2307/2308513; Davidson (1970),
doi:10.1080/01621459.1970.10481082; Hunter (2004), doi:10.1214/aos/1079120141.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from scipy.special import expit, log_expit

Floats = NDArray[np.float64]

TOLERANCE = 1e-10
MAX_STEPS = 200
MAX_HALVINGS = 60


def why_undefined(points: Floats, systems: Sequence[str]) -> str | None:
    """One line if ``(S, S)`` points (of the row's system against the column's) define no strengths, else ``None``."""
    judged = points + points.T
    parts, part_of = connected_components(judged, directed=False)
    if parts > 1:
        groups = [[name for name, part in zip(systems, part_of, strict=True) if part == p] for p in range(parts)]
        return f"undefined: no judgement links {_joined(groups[0])} with {_joined(groups[1])}"
    strong, _ = connected_components(points, directed=True, connection="strong")
    if strong == 1:
        return None
    for number, name in enumerate(systems):
        if points[:, number].sum() == 0:
            return f"undefined: {name} got every point of its judgements, so that its strength has no bound"
        if points[number].sum() == 0:
            return f"undefined: {name} got no point, so that its strength has no bound"
    return "undefined: some of the systems got every point against all others, so that strengths have no bound"


def strengths(points: Floats) -> Floats:
    """``(S,)`` log-strengths θ of ``(S, S)`` points, which ``why_undefined`` has nothing against.

    >>> strengths(np.array([[0.0, 3.0], [1.0, 0.0]])).round(4)  # ±log(3) / 2
    array([ 0.5493, -0.5493])
    """
    theta = np.zeros(len(points))
    for _ in range(MAX_STEPS):
        step = _newton_step(points, theta)
        for _ in range(MAX_HALVINGS):
            if _log_likelihood(points, theta + step) >= _log_likelihood(points, theta):
                break
            step = step / 2
        theta = theta + step
        if np.abs(step).max() < TOLERANCE:
            break
    return theta


def implied_rates(theta: Floats) -> Floats:
    """``(S, S)``: the rate at which the row's system is preferred to the column's, by the strengths."""
    rates: Floats = expit(theta[:, None] - theta[None, :])
    return rates


def _newton_step(points: Floats, theta: Floats) -> Floats:
    judged, rates = points + points.T, implied_rates(theta)
    gradient = (points - judged * rates).sum(axis=1)
    weights = judged * rates * (1 - rates)
    laplacian = np.diag(weights.sum(axis=1)) - weights
    # Strengths are known up to a constant: the matrix of ones makes the system regular and leaves Σ θ = 0.
    step: Floats = np.linalg.solve(laplacian + np.ones_like(laplacian) * weights.max(), gradient)
    return step


def _log_likelihood(points: Floats, theta: Floats) -> float:
    return float((points * log_expit(theta[:, None] - theta[None, :])).sum())


def _joined(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
