"""Newton's method with the whole Hessian."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from quadric.optim.minimize.function import Point
from quadric.optim.minimize.line_step import failed, wolfe_step
from quadric.optim.minimize.run import Iterate

SHARE = 1e-3
"""Of the largest |eigenvalue|: what the shift leaves the smallest eigenvalue at."""


def newton_exact(start: Point, *, c1: float = 1e-4, c2: float = 0.9) -> Iterator[Iterate]:
    """(H + τI) p = −g by Cholesky, with τ = 0 where H is positive definite, and a strong Wolfe line search.

    Else τ = 10⁻³ max |λ| − λ_min, so that p descends and the method converges from anywhere (Nocedal and Wright 2006,
    section 3.4). Cost an iteration: the Hessian, O(n³), n² numbers.
    """
    point = start
    yield Iterate(point, spectrum=True)
    while True:
        new, search = wolfe_step(point, newton_direction(point), c1=c1, c2=c2)
        if new is None:
            raise failed(search)
        point = new
        yield Iterate(point, spectrum=True)


def newton_direction(point: Point) -> Tensor:
    """−(H + τI)⁻¹ g."""
    hessian = point.hessian_matrix
    factor, info = torch.linalg.cholesky_ex(hessian)
    diagonal = factor.diagonal()
    if int(info) or float(diagonal.min()) ** 2 <= 8 * torch.finfo(hessian.dtype).eps * float(diagonal.max()) ** 2:
        values = torch.linalg.eigvalsh(hessian)
        shift = SHARE * float(values.abs().max()) - float(values[0])
        shifted = hessian.clone()
        shifted.diagonal().add_(shift if shift > 0 else 1.0)
        factor = torch.linalg.cholesky(shifted)
    return -torch.cholesky_solve(point.gradient.unsqueeze(1), factor).squeeze(1)
