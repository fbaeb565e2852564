"""A claim holds when the mean is as large as it says and the interval lies above 0, and the page keeps what fails."""

import json

import pytest

from vitascope.evaluation.claims import Claim, interval, judge, report, write

SCORES = {
    "ours": {"probe": [0.5, 0.52, 0.51], "tuned": [0.9, 0.1, 0.5]},
    "theirs": {"probe": [0.4, 0.43, 0.41], "tuned": [0.2, 0.2, 0.2]},
}
BETTER = Claim("ours is better", ((1, "ours", "probe"), (-1, "theirs", "probe")))


def test_interval_is_that_of_student():
    mean, low, high = interval([4.0, 6.0])
    assert mean == 5.0
    assert high - mean == mean - low == pytest.approx(12.706 * 2**0.5 / 2**0.5, rel=1e-6)
    assert interval([1.0] * 11) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("count", [0, 1, 12])
def test_too_few_or_too_many_seeds_are_refused(count):
    with pytest.raises(ValueError, match=rf"values \({count}\) must be 2 to 11, one a seed"):
        interval([0.5] * count)


def test_difference_is_taken_seed_by_seed():
    points = judge(BETTER, SCORES).points
    assert points.mean == pytest.approx((10 + 9 + 10) / 3)
    assert points.low == pytest.approx(points.mean - 4.303 * (1 / 3) ** 0.5 / 3**0.5, rel=1e-3)


@pytest.mark.parametrize("least, is_held", [(0.0, True), (9.5, True), (10.0, False)])
def test_mean_must_be_as_large_as_the_claim_says(least, is_held):
    assert judge(BETTER._replace(least=least), SCORES).is_held is is_held


def test_interval_must_lie_above_zero():
    verdict = judge(Claim("tuned", ((1, "ours", "tuned"), (-1, "theirs", "tuned"))), SCORES)
    assert verdict.points.mean == pytest.approx(30) and verdict.points.low < 0
    assert not verdict.is_held


def test_gap_of_gaps_adds_its_terms():
    claim = Claim("gap", (*BETTER.terms, (-1, "ours", "tuned"), (1, "theirs", "tuned")))
    assert judge(claim, SCORES).points.mean == pytest.approx(29 / 3 - 30)


def test_a_failing_claim_stays_on_the_page(tmp_path):
    worse = Claim("theirs is better", ((1, "theirs", "probe"), (-1, "ours", "probe")))
    verdicts = [judge(claim, SCORES) for claim in (BETTER, worse)]
    page = write(report("Ours", "How.", SCORES, verdicts, {"seed": 0}), SCORES, verdicts, tmp_path / "new", "ours")
    lines = page.read_text().splitlines()
    (held,) = [line for line in lines if "ours is better" in line]
    (failed,) = [line for line in lines if "theirs is better" in line]
    assert "| **held** | +9.7 |" in held and "| **not held** | -9.7 |" in failed
    assert "| ours | 51.0 | 48.5 to 53.5 | 50.0, 52.0, 51.0 |" in lines
    kept = json.loads((tmp_path / "new" / "ours.json").read_text())
    assert [claim["held"] for claim in kept["claims"]] == [True, False] and kept["scores"] == SCORES
