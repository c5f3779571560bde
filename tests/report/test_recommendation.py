"""The report of a search over methods."""

from dataclasses import replace

import pytest
from scipy.stats import ttest_1samp

from bench.search.test_halving import race
from quadric.report.recommendation import draw, table

SURE = race(slow=[2.0, 2.1, 1.9, 2.2, 2.0], fast=[1.0, 1.2, 0.9, 1.1, 1.0])
TIE = race(one=[1.0, 2.0, 3.0, 4.0, 5.0], two=[1.5, 1.9, 3.2, 3.7, 5.0])


def test_the_sure_one_first_with_its_line_of_code():
    result = table(SURE)
    assert [row[0].main for row in result.rows] == ["fast", "slow"]
    assert result.rows[0][4].below == "± 0.0510"
    assert "Recommended: fast. It is the best of the finalists with a probability of 99" in result.verdict
    assert 'Use it: quadric.optim.create("fast", objective, lr=0.1)' in result.verdict


def test_how_sure_it_is_is_one_less_the_chances_of_the_others():
    gaps = [2.0 - 1.0, 2.1 - 1.2, 1.9 - 0.9, 2.2 - 1.1, 2.0 - 1.0]
    chance = ttest_1samp(gaps, 0.0, alternative="greater").pvalue
    found = SURE.recommendation
    assert (found.method, found.ties) == ("fast", {})
    assert found.sure == pytest.approx(1 - chance)
    three = race(slow=[2.0, 2.1, 1.9, 2.2, 2.0], fast=[1.0, 1.2, 0.9, 1.1, 1.0], even=[1.1, 1.2, 1.0, 1.0, 1.1])
    second = ttest_1samp([0.1, 0.0, 0.1, -0.1, 0.1], 0.0, alternative="greater").pvalue
    assert three.recommendation.sure == pytest.approx(1 - chance - second)
    assert three.recommendation.ties == {"even": pytest.approx(second)}


def test_a_tie_is_called_one():
    text = table(TIE).verdict
    assert "it is a tie: it has the lowest mean, and 5 seeds do not tell it from" in text
    assert "More --seeds may decide." in text


def test_alone_diverged_and_not_run_yet():
    assert "the only one with a setting that works" in table(race(one=[1.0, 1.1])).verdict
    lost = table(race(one=[1.0, None, 1.0, 1.0, 1.0]))
    assert "every finalist diverged with some seed" in lost.verdict
    assert lost.rows[0][4].below == "with 1 of 5 seeds"
    begun = replace(SURE, attempts=SURE.attempts[:2])
    assert "no finalist has been run again" in table(begun).verdict
    assert table(begun).rows[0][4].main == "not in the finals"


def test_figure():
    assert draw(SURE).startswith(b"\x89PNG")
    assert draw(SURE) == draw(SURE)
    assert draw(replace(SURE, attempts=[])) is None
