"""Saddle-free Newton: Newton's step with |H| in place of H."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from quadric.linalg.lanczos import lanczos
from quadric.linalg.limits import EXACT_BELOW
from quadric.optim.line_search import armijo
from quadric.optim.minimize.function import Point, Ray
from quadric.optim.minimize.line_step import failed, wolfe_step
from quadric.optim.minimize.run import Iterate

FLOOR = 1e-8
"""Of the largest |eigenvalue|: eigenvalues nearer to zero count as this much."""


def saddle_free(
    start: Point, *, krylov: int = 50, c1: float = 1e-4, c2: float = 0.9, dense: bool | None = None
) -> Iterator[Iterate]:
    """p = −|H|⁻¹ g, and a strong Wolfe line search; |H| has H's eigenvectors and the magnitudes of its eigenvalues.

    Up to n = 2,000 by all eigenvectors (`dense=None`): then a stationary point with a negative eigenvalue is left along
    its eigenvector. Beyond, in the Krylov space of `krylov` products from g. Reference: Dauphin et al. (2014).
    """
    dense = start.function.n <= EXACT_BELOW if dense is None else dense
    point = start
    yield Iterate(point, spectrum=dense, leaves_saddles=dense)
    while True:
        direction = _by_eigenvectors(point) if dense else _in_krylov_space(point, krylov)
        new, search = wolfe_step(point, direction, c1=c1, c2=c2)
        if new is None and dense and float(point.eigen[0][0]) < 0:
            new = _escape(point)
        if new is None:
            raise failed(search, point, direction if dense else None)
        point = new
        yield Iterate(point, spectrum=dense, leaves_saddles=dense)


def _by_eigenvectors(point: Point) -> Tensor:
    values, vectors = point.eigen
    return -(vectors @ ((vectors.T @ point.gradient) / _magnitudes(values)))


def _in_krylov_space(point: Point, steps: int) -> Tensor:
    krylov = lanczos(point.hessian, point.gradient, steps)
    values, vectors = krylov.eigh()
    basis = krylov.basis @ vectors.to(krylov.basis.dtype)
    return -(basis @ ((basis.T @ point.gradient) / _magnitudes(values.to(basis.dtype))))


def _magnitudes(values: Tensor) -> Tensor:
    size = values.abs()
    return size.clamp_min(max(FLOOR * float(size.max()), torch.finfo(values.dtype).tiny))


def _escape(point: Point) -> Point | None:
    """Along the lowest eigenvector, either way, by backtracking on f(x + t v) − f(x) ≤ ¼ λ t² (here φ(t²))."""
    values, vectors = point.eigen
    for sign in (1.0, -1.0):
        ray = Ray(point, sign * vectors[:, 0])
        search = armijo(
            lambda square, ray=ray: ray.value(square**0.5),  # type: ignore[misc]
            point.value,
            0.5 * float(values[0]),
            c1=0.5,
            noise=point.noise,
        )
        if search.alpha > 0:
            return ray.at(search.alpha**0.5)
    return None
