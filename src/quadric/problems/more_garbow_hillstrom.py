"""Test functions for unconstrained minimisation: Moré, Garbow and Hillstrom (1981), Testing unconstrained optimization
software, ACM Transactions on Mathematical Software 7, 17–41. Numbers are the paper's.

Each is a vector of residuals fᵢ(x) with f = Σ fᵢ² (the paper's; `minimize` takes residuals as half of that).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Residuals = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class TestFunction:
    """One function of the set: its residuals, the standard start, and the known values of Σ fᵢ² at local minima.

    The first of `minima` is the global one.
    """

    name: str
    number: int
    residuals: Residuals
    start: tuple[float, ...]
    minima: tuple[float, ...]

    __test__ = False  # pytest takes classes of this name for tests

    @property
    def x0(self) -> Tensor:
        """The standard start, float64."""
        return torch.tensor(self.start, dtype=torch.float64)

    def value(self, x: Tensor) -> Tensor:
        """Σ fᵢ²."""
        return self.residuals(x).square().sum()


def _data(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _count(m: int, first: int = 1) -> Tensor:
    return torch.arange(first, first + m, dtype=torch.float64)


def rosenbrock(x: Tensor) -> Tensor:
    """(1), and (21) for more than two variables."""
    odd, even = x[0::2], x[1::2]
    return torch.cat([10 * (even - odd**2), 1 - odd])


def freudenstein_roth(x: Tensor) -> Tensor:
    """(2)."""
    a, b = x
    return torch.stack([-13 + a + ((5 - b) * b - 2) * b, -29 + a + ((b + 1) * b - 14) * b])


def powell_badly_scaled(x: Tensor) -> Tensor:
    """(3)."""
    a, b = x
    return torch.stack([1e4 * a * b - 1, torch.exp(-a) + torch.exp(-b) - 1.0001])


def brown_badly_scaled(x: Tensor) -> Tensor:
    """(4)."""
    a, b = x
    return torch.stack([a - 1e6, b - 2e-6, a * b - 2])


def beale(x: Tensor) -> Tensor:
    """(5)."""
    return _data(1.5, 2.25, 2.625) - x[0] * (1 - x[1] ** _count(3))


def jennrich_sampson(x: Tensor) -> Tensor:
    """(6), m = 10."""
    i = _count(10)
    return 2 + 2 * i - (torch.exp(i * x[0]) + torch.exp(i * x[1]))


def helical_valley(x: Tensor) -> Tensor:
    """(7)."""
    a, b, c = x
    turn = torch.atan(b / a) / (2 * math.pi) + (0.5 if a < 0 else 0.0)
    return torch.stack([10 * (c - 10 * turn), 10 * (torch.sqrt(a**2 + b**2) - 1), c])


_BARD = _data(0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39)


def bard(x: Tensor) -> Tensor:
    """(8)."""
    u = _count(15)
    v = 16 - u
    return _BARD - (x[0] + u / (v * x[1] + torch.minimum(u, v) * x[2]))


_GAUSSIAN = _data(
    0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521, 0.3989, 0.3521, 0.2420, 0.1295, 0.0540, 0.0175, 0.0044,
    0.0009,
)  # fmt: skip


def gaussian(x: Tensor) -> Tensor:
    """(9)."""
    t = (8 - _count(15)) / 2
    return x[0] * torch.exp(-x[1] * (t - x[2]) ** 2 / 2) - _GAUSSIAN


_MEYER = _data(
    34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872
)  # fmt: skip


def meyer(x: Tensor) -> Tensor:
    """(10)."""
    return x[0] * torch.exp(x[1] / (45 + 5 * _count(16) + x[2])) - _MEYER


def box_three_dimensional(x: Tensor) -> Tensor:
    """(12), m = 10."""
    t = 0.1 * _count(10)
    return torch.exp(-t * x[0]) - torch.exp(-t * x[1]) - x[2] * (torch.exp(-t) - torch.exp(-10 * t))


def powell_singular(x: Tensor) -> Tensor:
    """(13), and (22) for more than four variables."""
    a, b, c, d = x[0::4], x[1::4], x[2::4], x[3::4]
    return torch.cat([a + 10 * b, 5**0.5 * (c - d), (b - 2 * c) ** 2, 10**0.5 * (a - d) ** 2])


def wood(x: Tensor) -> Tensor:
    """(14)."""
    a, b, c, d = x
    return torch.stack([
        10 * (b - a**2), 1 - a, 90**0.5 * (d - c**2), 1 - c, 10**0.5 * (b + d - 2), 10**-0.5 * (b - d),
    ])  # fmt: skip


_KOWALIK = _data(0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246)
_KOWALIK_U = _data(4.0, 2.0, 1.0, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625)


def kowalik_osborne(x: Tensor) -> Tensor:
    """(15)."""
    u = _KOWALIK_U
    return _KOWALIK - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])


def brown_dennis(x: Tensor) -> Tensor:
    """(16), m = 20."""
    t = _count(20) / 5
    return (x[0] + t * x[1] - torch.exp(t)) ** 2 + (x[2] + x[3] * torch.sin(t) - torch.cos(t)) ** 2


_OSBORNE_1 = _data(
    0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.850, 0.818, 0.784, 0.751, 0.718, 0.685, 0.658, 0.628, 0.603,
    0.580, 0.558, 0.538, 0.522, 0.506, 0.490, 0.478, 0.467, 0.457, 0.448, 0.438, 0.431, 0.424, 0.420, 0.414, 0.411,
    0.406,
)  # fmt: skip


def osborne_1(x: Tensor) -> Tensor:
    """(17)."""
    t = 10 * (_count(33) - 1)
    return _OSBORNE_1 - (x[0] + x[1] * torch.exp(-t * x[3]) + x[2] * torch.exp(-t * x[4]))


def biggs_exp6(x: Tensor) -> Tensor:
    """(18), m = 13."""
    t = 0.1 * _count(13)
    y = torch.exp(-t) - 5 * torch.exp(-10 * t) + 3 * torch.exp(-4 * t)
    return x[2] * torch.exp(-t * x[0]) - x[3] * torch.exp(-t * x[1]) + x[5] * torch.exp(-t * x[4]) - y


def watson(x: Tensor) -> Tensor:
    """(20)."""
    t, j = (_count(29) / 29).unsqueeze(1), _count(len(x)) - 1
    slope = (j * t ** (j - 1).clamp_min(0) * x).sum(1)
    value = (t**j * x).sum(1)
    return torch.cat([slope - value**2 - 1, x[:1], (x[1] - x[0] ** 2 - 1).reshape(1)])


def penalty_1(x: Tensor) -> Tensor:
    """(23)."""
    return torch.cat([1e-5**0.5 * (x - 1), (x.square().sum() - 0.25).reshape(1)])


def penalty_2(x: Tensor) -> Tensor:
    """(24)."""
    n, root = len(x), 1e-5**0.5
    e = torch.exp(_count(n) / 10)
    growth = torch.exp(x / 10)
    first = x[:1] - 0.2
    pairs = root * (growth[1:] + growth[:-1] - (e[1:] + e[:-1]))
    singles = root * (growth[1:] - math.exp(-0.1))
    last = ((n - _count(n) + 1) * x.square()).sum().reshape(1) - 1
    return torch.cat([first, pairs, singles, last])


def variably_dimensioned(x: Tensor) -> Tensor:
    """(25)."""
    total = (_count(len(x)) * (x - 1)).sum().reshape(1)
    return torch.cat([x - 1, total, total**2])


def trigonometric(x: Tensor) -> Tensor:
    """(26)."""
    n = len(x)
    return n - torch.cos(x).sum() + _count(n) * (1 - torch.cos(x)) - torch.sin(x)


def _neighbours(x: Tensor) -> tuple[Tensor, Tensor]:
    zero = torch.zeros_like(x[:1])
    return torch.cat([zero, x[:-1]]), torch.cat([x[1:], zero])


def discrete_boundary_value(x: Tensor) -> Tensor:
    """(28)."""
    h = 1 / (len(x) + 1)
    left, right = _neighbours(x)
    return 2 * x - left - right + h**2 * (x + h * _count(len(x)) + 1) ** 3 / 2


def broyden_tridiagonal(x: Tensor) -> Tensor:
    """(30)."""
    left, right = _neighbours(x)
    return (3 - 2 * x) * x - left - 2 * right + 1


def linear_full_rank(x: Tensor) -> Tensor:
    """(32), m = 2 n."""
    m = 2 * len(x)
    mean = 2 * x.sum() / m + 1
    return torch.cat([x - mean, -mean * torch.ones(m - len(x), dtype=x.dtype)])


def chebyquad(x: Tensor) -> Tensor:
    """(35), m = n: the mean of the shifted Chebyshev polynomials Tᵢ over x, less its integral."""
    t = 2 * x - 1
    before, now, out = torch.ones_like(t), t, []
    for i in range(1, len(x) + 1):
        out.append(now.mean() - (-1 / (i**2 - 1) if i % 2 == 0 else 0.0))
        before, now = now, 2 * t * now - before
    return torch.stack(out)


_TENTHS = tuple(i / 10 for i in range(1, 11))
_PARABOLA = tuple(i / 11 * (i / 11 - 1) for i in range(1, 11))

FUNCTIONS: tuple[TestFunction, ...] = (
    TestFunction("Rosenbrock", 1, rosenbrock, (-1.2, 1.0), (0.0,)),
    TestFunction("Freudenstein and Roth", 2, freudenstein_roth, (0.5, -2.0), (0.0, 48.9842)),
    TestFunction("Powell badly scaled", 3, powell_badly_scaled, (0.0, 1.0), (0.0,)),
    TestFunction("Brown badly scaled", 4, brown_badly_scaled, (1.0, 1.0), (0.0,)),
    TestFunction("Beale", 5, beale, (1.0, 1.0), (0.0,)),
    TestFunction("Jennrich and Sampson", 6, jennrich_sampson, (0.3, 0.4), (124.362,)),
    TestFunction("Helical valley", 7, helical_valley, (-1.0, 0.0, 0.0), (0.0,)),
    TestFunction("Bard", 8, bard, (1.0, 1.0, 1.0), (8.21487e-3, 17.4286)),
    TestFunction("Gaussian", 9, gaussian, (0.4, 1.0, 0.0), (1.12793e-8,)),
    TestFunction("Meyer", 10, meyer, (0.02, 4000.0, 250.0), (87.9458,)),
    TestFunction("Box three-dimensional", 12, box_three_dimensional, (0.0, 10.0, 20.0), (0.0,)),
    TestFunction("Powell singular", 13, powell_singular, (3.0, -1.0, 0.0, 1.0), (0.0,)),
    TestFunction("Wood", 14, wood, (-3.0, -1.0, -3.0, -1.0), (0.0,)),
    TestFunction("Kowalik and Osborne", 15, kowalik_osborne, (0.25, 0.39, 0.415, 0.39), (3.07505e-4, 1.02734e-3)),
    TestFunction("Brown and Dennis", 16, brown_dennis, (25.0, 5.0, -5.0, -1.0), (85822.2,)),
    TestFunction("Osborne 1", 17, osborne_1, (0.5, 1.5, -1.0, 0.01, 0.02), (5.46489e-5,)),
    TestFunction("Biggs EXP6", 18, biggs_exp6, (1.0, 2.0, 1.0, 1.0, 1.0, 1.0), (0.0, 5.65565e-3)),
    TestFunction("Watson, n = 6", 20, watson, (0.0,) * 6, (2.28767e-3,)),
    TestFunction("Extended Rosenbrock, n = 10", 21, rosenbrock, (-1.2, 1.0) * 5, (0.0,)),
    TestFunction("Extended Powell singular, n = 12", 22, powell_singular, (3.0, -1.0, 0.0, 1.0) * 3, (0.0,)),
    TestFunction("Penalty I, n = 10", 23, penalty_1, tuple(float(i) for i in range(1, 11)), (7.08765e-5,)),
    TestFunction("Penalty II, n = 4", 24, penalty_2, (0.5,) * 4, (9.37629e-6,)),
    TestFunction("Variably dimensioned, n = 10", 25, variably_dimensioned, tuple(1 - t for t in _TENTHS), (0.0,)),
    TestFunction("Trigonometric, n = 10", 26, trigonometric, (0.1,) * 10, (0.0, 2.79506e-5)),
    TestFunction("Discrete boundary value, n = 10", 28, discrete_boundary_value, _PARABOLA, (0.0,)),
    TestFunction("Broyden tridiagonal, n = 10", 30, broyden_tridiagonal, (-1.0,) * 10, (0.0,)),
    TestFunction("Linear, full rank, n = 5", 32, linear_full_rank, (1.0,) * 5, (5.0,)),
    TestFunction("Chebyquad, n = 8", 35, chebyquad, tuple(i / 9 for i in range(1, 9)), (3.51687e-3,)),
)  # fmt: skip
"""Those whose data are short enough to be checked by eye: 28 of the paper's 35, with the paper's standard starts."""
