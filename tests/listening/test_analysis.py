"""What is concluded, on simulated raters whose preferences are known, and how the paper's Table 3 counts ties."""

from __future__ import annotations

import math
import tomllib
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from melody.errors import MelodyError
from melody.listening.analysis import analyse, bradley_terry, preferences
from melody.listening.bradley_terry import implied_rates, strengths, why_undefined
from melody.listening.ratings import QUESTIONS
from melody.listening.tally import Tally

from .conftest import Write, simulated

TABLE3 = Path(__file__).resolve().parents[2] / "eval" / "suites" / "table3.toml"
THREE = {"melody": 0.8, "musiclm": 0.0, "noise2music": -0.5}


def tally_of(points: list[list[float]], raters: int = 4) -> Tally:
    """Every rater with the same points: whole ones as wins, halves as ties."""
    wins = np.floor(np.array(points)).astype(np.int64)
    ties = np.rint(2 * (np.array(points) - wins)).astype(np.int64)
    names = tuple("abcdef"[: len(points)])
    return Tally(tuple(map(str, range(raters))), names, np.stack([wins] * raters), np.stack([ties] * raters))


# ties, as the paper counts them


def table3_rates() -> dict[str, tuple[float, float]]:
    """Printed rates of the baseline and of MeLoDy by column."""
    printed: dict[str, dict[str, float]] = {}
    for cell in tomllib.loads(TABLE3.read_text())["paper"]:
        if cell["column"].startswith(("musicality", "quality", "text")):
            printed.setdefault(cell["column"], {})[cell["row"]["system"]] = cell["value"]
    return {
        column: (next(value for name, value in rates.items() if name != "melody"), rates["melody"])
        for column, rates in printed.items()
    }


def counted(points: float, n: int) -> Tally:
    """One rater; ``points`` of ``n`` judgements go to the first system, as few ties as can be."""
    ties = round(2 * points) % 2
    wins = np.zeros((1, 2, 2), dtype=np.int64)
    wins[0, 0, 1], wins[0, 1, 0] = math.floor(points), n - ties - math.floor(points)
    return Tally(("all",), ("baseline", "melody"), wins, ties * (1 - np.eye(2, dtype=np.int64))[None])


@pytest.mark.parametrize("column", sorted(table3_rates()))
def test_half_a_point_for_similar_gives_the_rates_that_table_3_prints(column: str) -> None:
    """Of 777 comparisons, 259 with MusicLM and 518 with Noise2Music: 37 and 74 for each of seven producers."""
    baseline, melody = table3_rates()[column]
    assert baseline + melody == pytest.approx(1.0)
    n = 259 if "musiclm" in column else 518
    points = round(2 * baseline * n) / 2
    (found,) = preferences("musicality", counted(points, n))
    assert found.rate is not None
    assert (f"{found.rate.value:.3f}", f"{1 - found.rate.value:.3f}") == (f"{baseline:.3f}", f"{melody:.3f}")


def test_whole_points_need_a_test_without_a_single_tie() -> None:
    """With ties in the denominator alone rates sum to one if nobody says similar: one split of 777 allows that."""

    printed = table3_rates()

    def fits(n: int, baseline: str, steps: int) -> bool:
        rates = [rate for column, (rate, _) in printed.items() if baseline in column]
        return all(abs(round(rate * n * steps) / (n * steps) - rate) <= 0.0005 + 1e-12 for rate in rates)

    splits = {
        steps: [n for n in range(1, 777) if fits(n, "musiclm", steps) and fits(777 - n, "noise2music", steps)]
        for steps in (1, 2)
    }
    assert splits[1] == [314]
    assert len(splits[2]) == 70
    assert 259 in splits[2]


def test_similar_is_half_a_point_for_each_and_the_rate_without_it_stands_beside(write: Write) -> None:
    answers = ["first"] * 5 + ["second"] * 2 + ["similar"] * 3
    rows = [[f"r{k % 2}", f"i{k}", "musicality", "a", "b", answer] for k, answer in enumerate(answers)]
    (found,) = analyse(write(rows)).preferences
    assert found.rate is not None
    assert (found.wins_a, found.similar, found.wins_b, found.raters) == (5, 3, 2, 2)
    assert found.rate.value == pytest.approx(0.65)
    assert found.rate_without_similar == pytest.approx(5 / 7)


# intervals


def test_intervals_over_raters_cover_the_populations_rate() -> None:
    """Raters differ in taste (a standard deviation of 0.8 in log odds), and 10 of them judge 20 items each.

    400 repetitions: a Monte-Carlo error of 1.1 points at 95 %.
    """
    rng = np.random.default_rng(3)
    taste = 0.4 + 0.8 * np.random.default_rng(4).normal(size=200_000)
    truth = float(np.mean(1 / (1 + np.exp(-taste)))) * 0.8 + 0.1  # one in five answers is similar
    held, naive = 0, 0
    for _ in range(400):
        chance = 1 / (1 + np.exp(-(0.4 + 0.8 * rng.normal(size=10))))
        similar = rng.binomial(20, 0.2, size=10)
        wins = rng.binomial(20 - similar, chance)
        counts = np.zeros((3, 10, 2, 2), dtype=np.int64)
        counts[0, :, 0, 1], counts[0, :, 1, 0] = wins, 20 - similar - wins
        counts[1, :, 0, 1] = counts[1, :, 1, 0] = similar
        (found,) = preferences("musicality", Tally(tuple(map(str, range(10))), ("a", "b"), counts[0], counts[1]))
        assert found.rate is not None
        assert found.rate.low is not None
        assert found.rate.high is not None
        held += found.rate.low <= truth <= found.rate.high
        naive += abs(found.rate.value - truth) <= 1.96 * math.sqrt(found.rate.value * (1 - found.rate.value) / 200)
    assert 0.91 <= held / 400 <= 0.98
    assert naive / 400 < 0.85  # answers as if they were independent


def test_unanimous_raters_get_an_interval_that_is_not_empty() -> None:
    (found,) = preferences("musicality", tally_of([[0, 3], [0, 0]], raters=6))
    assert found.rate is not None
    assert (found.rate.value, found.rate.high) == (1.0, 1.0)
    assert found.rate.low == pytest.approx(0.61, abs=0.01)  # Wilson's of 6 of 6, not of 18 of 18
    assert "Wilson" in str(found.rate.interval)


def test_p_values_are_of_raters_and_corrected_over_the_table(write: Write) -> None:
    result = analyse(write(simulated(THREE, raters=8, items=15)))
    for one in result.preferences:
        assert one.rate is not None
        assert one.rate.p_value is not None
        assert one.rate.p_value >= 2 / 2**8
        assert one.p_holm is not None
        assert one.p_holm >= one.rate.p_value
    assert any("below 0.0078, nor below 0.07 after Holm's correction over 9" in line for line in result.warnings)


def test_a_pair_that_nobody_judged_and_one_of_one_rater_say_so(write: Write) -> None:
    rows = [[f"r{k}", "x", "musicality", "a", "b", "first"] for k in range(4)]
    rows += [["r0", "x", "musicality", "b", "c", "similar"]]
    found = {(one.system_a, one.system_b): one for one in analyse(write(rows)).preferences}
    assert found["a", "c"].reason == "no judgement of this pair"
    assert found["a", "c"].rate is None
    assert found["b", "c"].reason == "no interval: one rater only"
    assert found["b", "c"].rate is not None
    assert found["b", "c"].rate.low is None


# Bradley and Terry


def test_two_systems_get_their_preference_rate_back() -> None:
    theta = strengths(np.array([[0, 17.5], [6.5, 0]]))
    assert implied_rates(theta)[0, 1] == pytest.approx(17.5 / 24)
    assert theta.sum() == pytest.approx(0)


def test_strengths_solve_the_equations_of_the_likelihood() -> None:
    """At its maximum every system has as many points as its strength implies (Bradley and Terry 1952)."""
    rng = np.random.default_rng(5)
    points = rng.integers(1, 40, size=(6, 6)) / 2
    points[2, 4] = points[4, 2] = 0  # not every pair need be judged
    np.fill_diagonal(points, 0)
    theta = strengths(points)
    assert ((points + points.T) * implied_rates(theta)).sum(axis=1) == pytest.approx(points.sum(axis=1), abs=1e-8)


def test_strengths_of_very_unequal_systems_are_found() -> None:
    truth = np.array([6.0, 0.0, -6.0])
    points = 1e6 * implied_rates(truth)
    np.fill_diagonal(points, 0)
    assert strengths(points) == pytest.approx(truth, abs=1e-6)


def test_simulated_raters_give_their_strengths_back(write: Write) -> None:
    four = {"a": 0.9, "b": 0.3, "c": -0.2, "d": -1.0}
    result = analyse(write(simulated(four, raters=20, items=40, questions=["musicality"], seed=6)))
    (fit,) = result.bradley_terry
    assert [one.system for one in fit.strengths] == list(four)
    for one in fit.strengths:
        assert one.strength.value == pytest.approx(four[one.system], abs=0.15)
        assert one.strength.low is not None
        assert one.strength.high is not None
        assert one.strength.high - one.strength.low < 0.4
    assert fit.largest_misfit is not None
    assert fit.largest_misfit < 0.05


def test_strengths_intervals_cover() -> None:
    """12 raters × 8 items × 3 pairs, no ties: 150 repetitions of 3 systems, a Monte-Carlo error of about 1.2 points."""
    rng = np.random.default_rng(7)
    truth = np.array([0.7, 0.0, -0.7])
    held = []
    for _ in range(150):
        wins = np.zeros((12, 3, 3), dtype=np.int64)
        for a, b in combinations(range(3), 2):
            wins[:, a, b] = rng.binomial(8, implied_rates(truth)[a, b], size=12)
            wins[:, b, a] = 8 - wins[:, a, b]
        fit = bradley_terry("musicality", Tally(tuple(map(str, range(12))), ("a", "b", "c"), wins, 0 * wins))
        found = {one.system: one.strength for one in fit.strengths}
        for name, value in zip("abc", truth, strict=True):
            low, high = found[name].low, found[name].high
            assert low is not None
            assert high is not None
            held.append(low <= value <= high)
    assert 0.91 <= np.mean(held) <= 0.98


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]], "no judgement links a and b with c and d"),
        ([[0, 3, 2], [0, 0, 1], [0, 1, 0]], "a got every point of its judgements"),
        ([[0, 3, 2], [1, 0, 4], [0, 0, 0]], "c got no point"),
        ([[0, 1, 2, 2], [1, 0, 2, 2], [0, 0, 0, 1], [0, 0, 1, 0]], "some of the systems got every point against all"),
    ],
)
def test_undefined_strengths_say_why_and_the_rates_stand(points: list[list[float]], message: str) -> None:
    found = bradley_terry("musicality", tally_of(points))
    assert found.reason.startswith("undefined: ")
    assert message in found.reason
    assert found.strengths == []
    assert all(one.rate is None or 0 <= one.rate.value <= 1 for one in preferences("musicality", tally_of(points)))


def test_a_tie_bounds_a_strength() -> None:
    assert why_undefined(np.array([[0, 3, 2], [0, 0, 1], [0.5, 1, 0]]), "abc") is None


def test_strengths_that_hang_on_one_rater_have_no_interval(write: Write) -> None:
    rows = [[f"r{k}", "x", "musicality", a, b, "first"] for k in range(4) for a, b in ("ab", "bc", "ac")]
    rows += [["r0", "y", "musicality", "c", "a", "first"]]
    (fit,) = analyse(write(rows)).bradley_terry
    assert len(fit.strengths) == 3
    assert fit.reason == "no interval: without rater 'r0' the strengths are undefined"
    assert all(one.strength.low is None for one in fit.strengths)


# raters


def with_checks(failed: dict[str, int], raters: int = 6) -> list[list[object]]:
    rows = simulated({"a": 0.5, "b": 0.0}, raters=raters, items=6)
    for rater in range(raters):
        for number in range(4):
            answer = "second" if number < failed.get(f"r{rater}", 0) else "first"
            rows.append([f"r{rater}", f"check {number}", QUESTIONS[0], "a", "noise", answer, "a", "first"])
    return rows


def test_who_fails_more_than_a_quarter_of_the_checks_is_excluded_listed_and_counted(write: Write) -> None:
    result = analyse(write(with_checks({"r1": 1, "r2": 2, "r5": 4})))
    assert [one.rater for one in result.raters if one.excluded] == ["r2", "r5"]
    assert [(one.checks, one.checks_failed) for one in result.raters][1:3] == [(4, 1), (4, 2)]
    assert result.judgements == 4 * 6 * 3
    assert result.rows == 6 * 6 * 3 + 6 * 4
    assert "more than 25 %" in result.exclusion
    assert result.systems == ["a", "b"]  # the check's noise is no system


def test_exclusion_is_as_if_the_rater_had_not_been_there(write: Write) -> None:
    rows = with_checks({"r2": 4})
    whole = analyse(write(rows))
    without = analyse(write([row for row in rows if row[0] != "r2"], name="without.csv"))
    assert whole.preferences == without.preferences
    assert whole.agreement == without.agreement


def test_another_rule_may_be_given(write: Write) -> None:
    path = write(with_checks({"r1": 1, "r2": 2}))
    assert [one.rater for one in analyse(path, max_failed=0).raters if one.excluded] == ["r1", "r2"]
    assert not any(one.excluded for one in analyse(path, max_failed=1).raters)
    with pytest.raises(MelodyError, match=r"is 1.5: expected 0 to 1"):
        analyse(path, max_failed=1.5)


def test_one_rater_is_not_enough(write: Write) -> None:
    with pytest.raises(MelodyError, match=r"ratings.csv: only rater 'r0' is left: intervals over raters"):
        analyse(write(simulated(THREE, raters=1)))
    with pytest.raises(MelodyError, match="only rater 'r0' is left of 3, after 2 failed the attention checks"):
        analyse(write(with_checks({"r1": 4, "r2": 4}, raters=3)))


def test_consistency_of_a_rater(write: Write) -> None:
    rows: list[list[object]] = [
        ["r0", "x", "musicality", "a", "b", "first"],
        ["r0", "x", "musicality", "b", "c", "first"],
        ["r0", "x", "musicality", "c", "a", "first"],  # in a circle
        ["r0", "y", "musicality", "a", "b", "first"],
        ["r0", "y", "musicality", "b", "c", "first"],
        ["r0", "y", "musicality", "a", "c", "first"],
        ["r0", "x", "musicality", "b", "a", "second", "", "", 1],  # the same again, the other way round
        ["r0", "x", "musicality", "b", "c", "similar", "", "", 1],
        ["r1", "x", "musicality", "b", "a", "second"],
        ["r1", "x", "musicality", "b", "c", "second"],
    ]
    first, second = analyse(write(rows)).raters
    assert (first.triads, first.triads_circular) == (2, 1)
    assert (first.repeats, first.repeats_same) == (2, 1)
    assert (first.comparisons, first.comparisons_same) == (2, 1)
    assert (first.judgements, second.judgements) == (6, 2)
    assert (first.heard_first, second.heard_first, second.similar) == (6, 0, 0)


def test_raters_who_answer_by_chance_go_in_circles_one_time_in_four(write: Write) -> None:
    result = analyse(write(simulated(dict.fromkeys("abc", 0.0), raters=10, items=40, seed=8)))
    circular = sum(one.triads_circular for one in result.raters) / sum(one.triads for one in result.raters)
    assert circular == pytest.approx(0.25, abs=0.05)
    assert all(one.alpha is not None and abs(one.alpha.value) < 0.06 for one in result.agreement)


def test_liking_what_comes_first_shows_and_does_not_move_a_balanced_test(write: Write) -> None:
    biased = analyse(write(simulated({"a": 0.0, "b": 0.0}, raters=12, items=40, first_bonus=1.0, seed=9)))
    assert biased.heard_first is not None
    assert biased.heard_first.low is not None
    assert biased.heard_first.low > 0.6
    assert all(one.rate is not None and abs(one.rate.value - 0.5) < 0.06 for one in biased.preferences)


def test_a_system_that_always_came_first_is_reported(write: Write) -> None:
    rows = [[*row[:6], "a"] for row in simulated({"a": 0.5, "b": 0.0})]
    assert any("a was heard before b in all their 240 judgements" in line for line in analyse(write(rows)).warnings)


def test_questions_that_nobody_was_asked_are_named(write: Write) -> None:
    result = analyse(write(simulated(THREE, questions=["audio quality"])))
    assert result.questions == ["audio quality"]
    assert "nobody was asked about musicality, text correlation" in result.warnings


def test_the_order_of_rows_and_sides_does_not_matter(write: Write) -> None:
    rows = simulated(THREE, ties=0.2, seed=10)
    swap = {"a": "b", "b": "a"}
    turned = [[*row[:3], row[4], row[3], row[5], swap[str(row[6])]] for row in rows]
    first, second = analyse(write(rows)), analyse(write(turned, name="turned.csv"))
    rates = [{(one.question, one.system_a, one.system_b): one.rate for one in r.preferences} for r in (first, second)]
    for (question, a, b), rate in rates[0].items():
        other = rates[1].get((question, a, b))
        opposite = rates[1].get((question, b, a))
        assert rate is not None
        if other is not None:
            assert other.value == pytest.approx(rate.value)
        else:
            assert opposite is not None
            assert 1 - opposite.value == pytest.approx(rate.value)
    alphas = [[one.alpha.value for one in r.agreement if one.alpha] for r in (first, second)]
    assert alphas[0] == pytest.approx(alphas[1])


def test_the_largest_misfit_is_of_two_systems_even_where_all_fits() -> None:
    found = bradley_terry("musicality", tally_of([[0, 5, 5], [5, 0, 0], [5, 0, 0]]))  # b and c never compared
    assert found.largest_misfit == pytest.approx(0, abs=1e-9)
    assert found.misfit_pair[0] != found.misfit_pair[1]
    assert "a" in found.misfit_pair
