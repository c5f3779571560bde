"""λ for Kronecker factors: its share of the mean eigenvalue, and its floor."""

import pytest

from quadric.optim.factor_damping import NOISE, FactorDamping


def test_the_floor_counts_the_examples_of_the_running_average():
    damping = FactorDamping()
    damping.see(2.0)
    damping.side = 10
    weights = []
    for step, examples in enumerate((4, 8, 8, 16)):
        decay = min(0.5, 1 - 1 / (1 + step))
        damping.sample(examples, decay)
        weights = [(decay * w, n) for w, n in weights] + [(1 - decay, examples)]
    assert sum(w for w, _ in weights) == pytest.approx(1)
    thinness = sum(w**2 / n for w, n in weights)
    assert damping.least == pytest.approx((NOISE * 10 * thinness) ** 2)
    damping.scale = 0.1
    assert damping.value == pytest.approx(2 * (NOISE * 10 * thinness) ** 2)
    damping.scale = 100.0
    assert damping.value == 200


def test_the_share_has_a_smallest_value_and_a_given_damping_has_none():
    automatic, given = FactorDamping(), FactorDamping(1e-3)
    for damping in (automatic, given):
        damping.side, damping.thinness = 1000, 1.0
        for _ in range(10):
            damping.learn(1.0)
    assert automatic.scale == 0.03
    assert given.value == pytest.approx(1e-3 / 2**10)


def test_a_refused_step_raises_a_damping_that_rests_on_its_floor():
    damping = FactorDamping()
    damping.see(1.0)
    damping.side, damping.thinness = 25_088, 1 / 32  # a floor above the greatest share
    for _ in range(3):
        before = damping.value
        damping.increase()
        assert damping.value == pytest.approx(4 * before)
