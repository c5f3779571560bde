"""Newton's method with the whole Hessian."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from quadric.optim.minimize.function import Point
from quadric.optim.minimize.line_step import failed, wolfe_step
from quadric.optim.minimize.run import Iterate

FLOOR = 1e-8
"""Of the largest |eigenvalue|: the least that the shift leaves the smallest eigenvalue at."""


def newton_exact(start: Point, *, c1: float = 1e-4, c2: float = 0.9) -> Iterator[Iterate]:
    """(H + τI) p = −g by Cholesky, with τ = 0 where H is positive definite, and a strong Wolfe line search.

    Else the shift makes the smallest eigenvalue |λ_min|, at least 10⁻⁸ max |λ|, so that p descends (Nocedal and Wright
    2006, section 3.4). Cost an iteration: the Hessian, O(n³), n² numbers.
    """
    point = start
    yield Iterate(point, spectrum=True)
    while True:
        direction = newton_direction(point)
        new, search = wolfe_step(point, direction, c1=c1, c2=c2)
        if new is None:
            raise failed(search, point, direction)
        point = new
        yield Iterate(point, spectrum=True)


def newton_direction(point: Point) -> Tensor:
    """−(H + τI)⁻¹ g."""
    hessian = point.hessian_matrix
    factor, info = torch.linalg.cholesky_ex(hessian)
    diagonal = factor.diagonal()
    if int(info) or float(diagonal.min()) ** 2 <= 8 * torch.finfo(hessian.dtype).eps * float(diagonal.max()) ** 2:
        values = torch.linalg.eigvalsh(hessian)
        lowest, largest = float(values[0]), float(values.abs().max())
        shifted = hessian.clone()
        shifted.diagonal().add_(max(abs(lowest), FLOOR * largest) - lowest if largest > 0 else 1.0)
        factor = torch.linalg.cholesky(shifted)
    return -torch.cholesky_solve(point.gradient.unsqueeze(1), factor).squeeze(1)
