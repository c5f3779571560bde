"""Secant approximations against the textbook formulas written out with matrices."""

import pytest
import torch

from operators.suite import F64, OperatorSuite, quadric_space, random, spd
from oracles import assert_close
from quadric.core.space import Space
from quadric.operators import BFGS, DFP, SR1

KINDS = {"bfgs": BFGS, "dfp": DFP, "sr1": SR1}
each = pytest.mark.parametrize("name", KINDS)


def textbook(name, h, s, y):
    """Nocedal and Wright (2006): equations 6.17, 6.15 and 6.25."""
    s, y = s.unsqueeze(1), y.unsqueeze(1)
    eye = torch.eye(len(h), dtype=F64)
    if name == "bfgs":
        rho = 1 / (y.T @ s)
        return (eye - rho * s @ y.T) @ h @ (eye - rho * y @ s.T) + rho * s @ s.T
    if name == "dfp":
        return h - h @ y @ y.T @ h / (y.T @ h @ y) + s @ s.T / (y.T @ s)
    v = s - h @ y
    return h + v @ v.T / (v.T @ y)


def pairs(n, count, seed=1):
    """Steps on a quadratic, so that every pair has positive curvature."""
    hessian = spd(n, seed=seed)
    return [(s, hessian @ s) for s in random(count, n, seed=seed + 1)]


def scaled(name, s, y):
    return 1.0 if name == "sr1" else float(s @ y / (y @ y))


def replayed(name, kept, scale, n):
    h = scale * torch.eye(n, dtype=F64)
    for s, y in kept:
        h = textbook(name, h, s, y)
    return h


@each
def test_dense_updates_are_the_textbooks(name):
    n, steps = 6, pairs(6, 5)
    operator = KINDS[name](quadric_space(n))
    assert_close(operator.to_dense(), torch.eye(n, dtype=F64))
    scale = scaled(name, *steps[0])
    for k, (s, y) in enumerate(steps, 1):
        assert operator.update(s, y).accepted
        assert_close(operator.to_dense(), replayed(name, steps[:k], scale, n), 1e-9)
        assert_close(operator @ y, s, 1e-9)


@each
@pytest.mark.parametrize("initial", [None, 0.3])
def test_limited_memory_replays_the_last_pairs(name, initial):
    n, steps, memory = 6, pairs(6, 5), 3
    operator = KINDS[name](quadric_space(n), memory=memory, initial=initial)
    for k, (s, y) in enumerate(steps, 1):
        assert operator.update(s, y).accepted
        scale = scaled(name, s, y) if initial is None else initial
        want = replayed(name, steps[max(0, k - memory) : k], scale, n)
        assert_close(operator.to_dense(), want, 1e-9)
        assert_close(operator @ random(n, 2), want @ random(n, 2), 1e-9)
        assert_close(operator @ y, s, 1e-9)
    assert len(operator.pairs) == memory


@each
def test_n_steps_on_a_quadratic_find_its_inverse(name):
    """With exact line searches along conjugate directions all three end at the inverse of the Hessian."""
    n, hessian = 5, spd(5)
    operator, w = KINDS[name](quadric_space(n), initial=1.0), random(n)
    for _ in range(n):
        gradient = hessian @ w
        direction = -(operator @ gradient)
        s = -(gradient @ direction) / (direction @ hessian @ direction) * direction
        assert operator.update(s, hessian @ s).accepted
        w = w + s
    assert_close(operator.to_dense(), torch.linalg.inv(hessian), 1e-6)


@pytest.mark.parametrize("kinds", [(BFGS, DFP), (DFP, BFGS), (SR1, SR1)])
def test_the_dual_update_approximates_the_hessian(kinds):
    n = 5
    inverse, direct = (kind(quadric_space(n), initial=1.0) for kind in kinds)
    for s, y in pairs(n, 4):
        inverse.update(s, y)
        direct.update(y, s)
    assert_close(inverse.to_dense() @ direct.to_dense(), torch.eye(n, dtype=F64), 1e-8)


@pytest.mark.parametrize("memory", [None, 4])
@pytest.mark.parametrize("kind", [BFGS, DFP])
def test_negative_curvature_is_skipped(kind, memory):
    operator = kind(quadric_space(4), memory=memory)
    (s, y), (t, z) = pairs(4, 2)
    operator.update(s, y)
    before = operator.to_dense()
    verdict = operator.update(t, -z)
    assert (verdict.accepted, verdict.damped) == (False, False)
    assert "curvature condition" in verdict.reason
    assert torch.equal(operator.to_dense(), before)
    orthogonal = torch.tensor([1.0, 0, 0, 0], dtype=F64), torch.tensor([0.0, 1, 0, 0], dtype=F64)
    assert not operator.update(*orthogonal).accepted
    assert operator.accepted == 1


@pytest.mark.parametrize("memory", [None, 4])
@pytest.mark.parametrize("kind", [BFGS, DFP])
def test_powells_damping(kind, memory):
    operator = kind(quadric_space(4), memory=memory, safeguard="damp", initial=0.5)
    (s, y), (t, z) = pairs(4, 2)
    assert operator.update(s, y).damped is (float(s @ y) < 0.1 * float(y @ y))
    h, z = operator.to_dense(), -z
    image = h @ z
    theta = 0.8 * float(z @ image) / float(z @ image - t @ z)
    moved = theta * t + (1 - theta) * image
    verdict = operator.update(t, z)
    assert verdict.accepted
    assert verdict.damped
    assert float(moved @ z) == pytest.approx(0.2 * float(z @ image))
    assert_close(operator @ z, moved, 1e-9)
    assert torch.linalg.eigvalsh(operator.to_dense())[0] > 0


@pytest.mark.parametrize("memory", [None, 4])
def test_sr1_leaves_out_small_denominators(memory):
    operator = SR1(quadric_space(3), memory=memory)
    e = torch.eye(3, dtype=F64)
    verdict = operator.update(e[0] + e[1], e[0])  # v = e₁ is orthogonal to y = e₀
    assert not verdict.accepted
    assert verdict.reason == "the denominator (s − H y)ᵀy is too small"
    assert operator.update(2 * e[0], e[0]).accepted
    assert operator.update(4 * e[0], 2 * e[0]).reason == "H satisfies the secant equation already"


def test_sr1_follows_an_indefinite_hessian():
    hessian = torch.diag(torch.tensor([2.0, -1.0, 0.5], dtype=F64))
    operator = SR1(quadric_space(3))
    for s in random(3, 3):
        operator.update(s, hessian @ s)
    assert_close(operator.to_dense(), torch.linalg.inv(hessian), 1e-9)


def test_bfgs_stays_positive_definite_on_hard_pairs():
    operator = BFGS(quadric_space(5), safeguard="damp")
    for seed in range(60):
        operator.update(random(5, seed=seed), 10.0 ** (seed % 5 - 2) * random(5, seed=seed + 100))
        assert torch.linalg.eigvalsh(operator.to_dense())[0] > 0


@each
@pytest.mark.parametrize("memory", [None, 3])
def test_the_pairs_given_are_copied_and_forgotten(name, memory):
    operator = KINDS[name](quadric_space(4), memory=memory)
    (s, y) = pairs(4, 1)[0]
    operator.update(s, y)
    before = operator.to_dense()
    s.zero_(), y.zero_()
    assert torch.equal(operator.to_dense(), before)
    operator.reset()
    assert_close(operator.to_dense(), torch.eye(4, dtype=F64))


ONE = torch.ones(3, dtype=F64)
REFUSED = [
    (lambda: BFGS(quadric_space(3), memory=0), "Expected memory=None or a number of pairs of at least 1, got 0"),
    (lambda: DFP(quadric_space(3), memory=2.0), "Expected memory=None or a number of pairs of at least 1, got 2.0"),
    (lambda: SR1(quadric_space(3), initial=0.0), "Expected a finite initial > 0, got 0.0"),
    (lambda: BFGS(quadric_space(3), safeguard="none"), "Expected safeguard='skip' or 'damp', got 'none'"),
    (
        lambda: BFGS(quadric_space(3)).update(torch.ones(4, dtype=F64), ONE),
        "with n = 3, got shape",
    ),
    (lambda: BFGS(quadric_space(3)).update(ONE, ONE.float()), "Expected dtype torch.float64"),
    (
        lambda: SR1(quadric_space(3)).update(ONE, torch.nan * ONE),
        "Expected a finite y, got one with NaN",
    ),
]


@pytest.mark.parametrize(("build", "message"), REFUSED)
def test_refusals(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@each
def test_a_zero_step_changes_nothing(name):
    operator = KINDS[name](quadric_space(3))
    for tiny in (0.0, 1e-200):  # whose square is zero
        assert operator.update(torch.full((3,), tiny, dtype=F64), torch.ones(3, dtype=F64)).reason.endswith("is zero")
    assert operator.accepted == 0


class SecantSuite(OperatorSuite):
    kind = BFGS
    memory = None
    name = "bfgs"

    def make(self, dtype=F64):
        operator = self.kind(Space.euclidean(5, dtype), memory=self.memory, initial=0.5)
        steps = pairs(5, 3)
        for s, y in steps:
            operator.update(s.to(dtype), y.to(dtype))
        return operator, replayed(self.name, steps, 0.5, 5)


class TestDenseBFGS(SecantSuite):
    pass


class TestLimitedBFGS(SecantSuite):
    memory = 3


class TestDenseDFP(SecantSuite):
    kind, name = DFP, "dfp"


class TestLimitedDFP(SecantSuite):
    kind, name, memory = DFP, "dfp", 3


class TestDenseSR1(SecantSuite):
    kind, name = SR1, "sr1"


class TestLimitedSR1(SecantSuite):
    kind, name, memory = SR1, "sr1", 3
