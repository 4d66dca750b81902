"""Orderings: decided by prompts and seeds together, corrected for all that a table claims."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from melody.evaluation.result import Measurement, Sample
from melody.reproduce.differences import difference
from melody.reproduce.orderings import ordering_notes, orderings
from melody.reproduce.results import Cell, Reference
from melody.reproduce.suite import OrderingClaim, Suite, load_suite

Scores = NDArray[np.float64]
CLAIMS = 19
"""As many as the paper's tables show."""


def _mean(scores: Scores, seeds: bool = True) -> Measurement:
    by_seed = {str(seed): float(row.mean()) for seed, row in enumerate(scores)} if seeds else {}
    sample = Sample(of="mean", rows=scores.tolist())
    return Measurement(value=float(scores.mean()), by_seed=by_seed, expected=1, scored=1, sample=sample)


def _timing(*values: float) -> Measurement:
    by_seed = {str(number): value for number, value in enumerate(values)}
    sample = Sample(of="repeats")
    return Measurement(value=float(np.mean(values)), by_seed=by_seed, expected=1, scored=1, sample=sample)


def _cell(name: str, measured: Measurement | None, paper: float | None = None, **row: str) -> Cell:
    return Cell(
        row={"name": name, **row},
        column="fad",
        label="FAD",
        metric="fad",
        metric_version="1",
        direction="lower",
        verdict="not comparable" if measured else "not attempted",
        reason="it failed",
        measured=measured,
        paper=None if paper is None else Reference(value=paper, place="Table 2"),
    )


TABLE = load_suite("table2")


def _suite(*claims: OrderingClaim, **settings: float) -> Suite:
    suite = TABLE
    changed = suite.settings.model_copy(update=settings)
    return suite.model_copy(update={"orderings": claims, "settings": changed})


def _claim(lower: str | float = "a", higher: str | float = "b", **fields: str) -> OrderingClaim:
    sides = {
        side: value if isinstance(value, float) else {"name": value}
        for side, value in (("lower", lower), ("higher", higher))
    }
    return OrderingClaim.model_validate({"claim": "A is below B", "column": "fad", **sides, **fields})


def _many(pairs: Sequence[tuple[Scores, Scores]]) -> list[str]:
    """Verdicts of one suite with a claim for each pair."""
    claims = [_claim(f"a{n}", f"b{n}") for n in range(len(pairs))]
    cells = [
        _cell(f"{side}{n}", _mean(scores))
        for n, pair in enumerate(pairs)
        for side, scores in zip("ab", pair, strict=True)
    ]
    return [tested.verdict for tested in orderings(_suite(*claims), cells)]


@pytest.mark.parametrize("of_seeds", [0.0, 0.3])
def test_where_nothing_differs_a_suite_decides_something_in_at_most_one_run_of_twenty(of_seeds: float) -> None:
    """Of 19 null differences, with seeds that matter or not; a t interval over three seeds decides some in 60 %."""
    rng, runs = np.random.default_rng(0), 60
    noise = (runs, CLAIMS, 2, 3, 16)
    scores = rng.standard_normal(noise) + of_seeds * rng.standard_normal((*noise[:-1], 1))
    decided = sum(set(_many([(a, b) for a, b in run])) != {"undecided"} for run in scores)
    assert decided <= 6, "5 % and two standard errors of 60 runs"


def test_what_differs_is_decided() -> None:
    rng = np.random.default_rng(0)
    prompts = rng.standard_normal((CLAIMS, 1, 1, 32))
    scores = prompts + 0.2 * rng.standard_normal((CLAIMS, 2, 5, 32)) + 0.02 * rng.standard_normal((CLAIMS, 2, 5, 1))
    scores[:, 1] += 0.3
    assert _many([(a, b) for a, b in scores]) == ["holds"] * CLAIMS
    assert _many([(b, a) for a, b in scores]) == ["contradicted"] * CLAIMS


def test_seeds_that_agree_decide_nothing_where_prompts_do_not() -> None:
    """Three seeds on the same two prompts that gain and fourteen that lose: what a seed's mean hides."""
    gains = np.array([4.0, 3.0] + [-0.3] * 14)
    scores = np.tile(gains, (3, 1)) + 0.001 * np.arange(3)[:, None]
    (tested,) = orderings(_suite(_claim()), [_cell("a", _mean(0 * scores)), _cell("b", _mean(scores))])
    assert tested.verdict == "undecided"
    assert tested.difference is not None
    assert tested.difference.low is not None
    assert tested.difference.low < 0
    assert "by seeds alone, at these very prompts, from +" in tested.reason, "the seeds agree, and that is a remark"


def test_an_ordering_says_p_corrected_p_and_interval() -> None:
    rng = np.random.default_rng(0)
    base = rng.standard_normal((5, 32))
    near, far = base + 0.05 * rng.standard_normal((5, 32)), base + 3 + 0.05 * rng.standard_normal((5, 32))
    cells = [_cell("a", _mean(base), 7.0), _cell("b", _mean(far), 8.5), _cell("c", _mean(near))]
    first, second = orderings(_suite(_claim(), _claim("a", "c")), cells)
    assert (first.verdict, second.verdict) == ("holds", "undecided")
    for tested in (first, second):
        assert tested.difference is not None
        assert tested.p_holm is not None
        assert tested.difference.p_value is not None
        assert tested.difference.p_value <= tested.p_holm <= 2 * tested.difference.p_value
        assert "by Holm over 2 orderings" in tested.reason
        assert "95 % t interval over 5 seeds and 32 prompts" in tested.reason
    assert first.paper_difference == 1.5
    assert second.paper_difference is None


def test_a_difference_is_of_paired_prompts() -> None:
    """Prompts differ by ten, the two sides by a tenth: told from each other only where prompts pair."""
    rng = np.random.default_rng(0)
    prompts = 10 * rng.standard_normal((1, 24))
    lower = prompts + 0.01 * rng.standard_normal((5, 24))
    cells = [_cell("a", _mean(lower)), _cell("b", _mean(lower + 0.1 + 0.01 * rng.standard_normal((5, 24))))]
    assert orderings(_suite(_claim()), cells)[0].verdict == "holds"


def _named(scores: Scores, names: Sequence[str], kind: Literal["mean", "set"] = "mean") -> Measurement:
    measured = _mean(scores)
    return measured.model_copy(update={"sample": Sample(of=kind, rows=scores.tolist(), items=list(names))})


def test_prompts_pair_by_name_and_not_by_place() -> None:
    """Two sides that each lose a clip, another one, have rows of one length whose places say nothing."""
    rng = np.random.default_rng(0)
    names = [f"prompt {place}" for place in range(24)]
    lower = 10 * rng.standard_normal((1, 24)) + 0.01 * rng.standard_normal((5, 24))
    higher = lower + 0.1 + 0.01 * rng.standard_normal((5, 24))
    whole = difference(_named(lower, names), _named(higher, names)).measured
    order = rng.permutation(24)
    shuffled = _named(higher[:, order], [names[place] for place in order])
    assert difference(_named(lower, names), shuffled).measured.value == pytest.approx(whole.value)
    assert difference(_named(lower, names), shuffled).measured.p_value == pytest.approx(whole.p_value)
    first, last = _named(lower[:, 1:], names[1:]), _named(higher[:, :-1], names[:-1])
    found = difference(first, last).measured
    assert found.value == pytest.approx((higher - lower)[:, 1:-1].mean())
    assert "22 prompts" in str(found.interval)
    (tested,) = orderings(_suite(_claim()), [_cell("a", first), _cell("b", last)])
    assert tested.verdict == "holds"
    (tested,) = orderings(
        _suite(_claim()), [_cell("a", first), _cell("b", _named(higher, [str(n) for n in range(24)]))]
    )
    assert tested.verdict == "undecided"
    assert "the two lost different clips, so that prompts do not pair" in tested.reason


def test_sets_of_other_prompts_do_not_pair() -> None:
    """A group of the one is no group of the other."""
    names = [f"prompt {place}" for place in range(16)]
    without = np.random.default_rng(0).standard_normal((2, 5, 16)) * 0.1
    cells = [_cell("a", _named(without[0], names, "set")), _cell("b", _named(without[1] + 1, names[::-1], "set"))]
    (tested,) = orderings(_suite(_claim()), cells)
    assert "so that prompts do not pair" in tested.reason


def test_a_side_without_seeds_is_not_paired() -> None:
    rng = np.random.default_rng(0)
    real, generated = rng.standard_normal((1, 256)), rng.standard_normal((5, 32))
    cells = [_cell("a", _mean(real, seeds=False)), _cell("b", _mean(generated + 3))]
    (tested,) = orderings(_suite(_claim()), cells)
    assert tested.verdict == "holds"
    assert "not paired" in tested.reason
    cells = [_cell("a", _mean(real, seeds=False)), _cell("b", _mean(generated))]
    assert orderings(_suite(_claim()), cells)[0].verdict == "undecided"


def test_a_number_of_a_set_is_tested_by_its_jackknife() -> None:
    scores = np.random.default_rng(0).standard_normal((2, 5, 16)) * 0.1
    scores[1] += 1

    def of_set(one: Scores) -> Measurement:
        without = (one.sum(axis=1, keepdims=True) - one) / 15
        return _mean(one).model_copy(update={"sample": Sample(of="set", rows=without.tolist())})

    (tested,) = orderings(_suite(_claim()), [_cell("a", of_set(scores[0])), _cell("b", of_set(scores[1]))])
    (as_mean,) = orderings(_suite(_claim()), [_cell("a", _mean(scores[0])), _cell("b", _mean(scores[1]))])
    assert tested.verdict == "holds"
    assert tested.difference is not None
    assert as_mean.difference is not None
    assert tested.difference.p_value == pytest.approx(as_mean.difference.p_value, rel=1e-6)


def test_speeds_vary_over_repeats_and_counts_not_at_all() -> None:
    cells = [_cell("a", _timing(1.0, 1.01, 0.99)), _cell("b", _timing(2.0, 2.01, 2.0))]
    (tested,) = orderings(_suite(_claim()), cells)
    assert tested.verdict == "holds"
    assert "repeats on this machine only" in tested.reason
    counts = [Measurement(value=v, expected=1, scored=1, sample=Sample(of="count")) for v in (270.0, 2600.0)]
    (tested,) = orderings(_suite(_claim()), [_cell("a", counts[0]), _cell("b", counts[1])])
    assert (tested.verdict, tested.p_holm) == ("holds", None)
    (tested,) = orderings(_suite(_claim()), [_cell("a", counts[1]), _cell("b", counts[1])])
    assert tested.verdict == "contradicted", "equal is not below"


@pytest.mark.parametrize(("p_value", "verdict"), [(0.001, "holds"), (0.2, "undecided")])
def test_a_rate_is_held_against_one_half_by_its_own_p_value(p_value: float, verdict: str) -> None:
    rate = Measurement(
        value=0.7, low=0.6, high=0.8, interval="jackknife over raters", expected=9, scored=9, p_value=p_value
    )
    (tested,) = orderings(_suite(_claim(0.5, "a")), [_cell("a", rate, 0.541)])
    assert tested.verdict == verdict
    assert tested.paper_difference is not None
    assert math.isclose(tested.paper_difference, 0.041)
    (turned,) = orderings(_suite(_claim("a", 0.5)), [_cell("a", rate, 0.541)])
    assert turned.verdict == ("contradicted" if verdict == "holds" else verdict)
    assert turned.difference is not None
    assert (turned.difference.low, turned.difference.high) == pytest.approx((-0.3, -0.1))


@pytest.mark.parametrize("seeds", [1, 0])
def test_too_few_seeds_decide_nothing(seeds: int) -> None:
    one = np.random.default_rng(0).standard_normal((max(1, seeds), 16))
    cells = [_cell("a", _mean(one)), _cell("b", _mean(one + 5))]
    if not seeds:
        cells = [
            cell.model_copy(update={"measured": Measurement(value=n, expected=1, scored=1)})
            for n, cell in enumerate(cells)
        ]
    (tested,) = orderings(_suite(_claim()), cells)
    assert tested.verdict == "undecided"
    assert tested.difference is not None


def test_an_ordering_without_a_number_is_not_attempted_with_the_cells_reason() -> None:
    scores = np.zeros((3, 4))
    (tested,) = orderings(_suite(_claim()), [_cell("a", _mean(scores)), _cell("b", None)])
    assert (tested.verdict, tested.reason) == ("not attempted", "it failed")
    assert orderings(_suite(_claim()), [_cell("a", _mean(scores))])[0].verdict == "not attempted"


def test_each_value_of_an_axis_is_tested_by_itself_and_counts_where_the_paper_prints_it() -> None:
    low = np.random.default_rng(0).standard_normal((5, 16)) * 0.01
    cells = [
        _cell("a", _mean(low), 1.0, sampler="ddim"),
        _cell("b", _mean(low + 1), 2.0, sampler="ddim"),
        _cell("a", _mean(low + 1), sampler="heun"),
        _cell("b", _mean(low), sampler="heun"),
        _cell("real", _mean(low - 1), 0.5),
    ]
    claims = _claim(each="sampler", statement="more-steps"), _claim("real", "b", each="sampler", statement="above-real")
    tested = orderings(_suite(*claims), cells)
    assert [o.verdict for o in tested] == ["holds", "contradicted", "holds", "holds"]
    assert tested[1].claim.endswith("(sampler = heun)")
    assert [o.statement is not None for o in tested] == [True, False, True, False]
    notes = ordering_notes(tested)
    assert notes[0].startswith("Does not hold: A is below B (sampler = heun)"), "the paper says nothing of heun"
    assert "Holds (3 of 4" in notes[-1]
    elsewhere = orderings(_suite(*claims, duration_s=5.0), cells)
    assert all(o.statement is None for o in elsewhere), "nor of clips of 5 s"
