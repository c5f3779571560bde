"""LOBPCG: the smallest eigenpairs of a symmetric operator, with a preconditioner."""

from __future__ import annotations

import torch
from torch import Tensor

from quadric.core.progress import Progress, Reporter
from quadric.linalg.eigenpairs import Eigenpairs
from quadric.linalg.probes import gaussian, seeded
from quadric.operators.operator import LinearOperator

GUARDS = 3
"""Vectors beyond the k asked for: they speed up the last of those."""
PATIENCE = 100
"""Iterations without halving the residual after which it gives up: rounding errors, or a poor preconditioner."""


def lobpcg(
    operator: LinearOperator,
    k: int,
    preconditioner: LinearOperator,
    *,
    tol: float = 1e-6,
    seed: int = 0,
    max_products: int = 5_000,
    progress: Progress | None = None,
) -> Eigenpairs:
    """The k smallest eigenpairs of A by Rayleigh–Ritz on span{X, P R, D}, ascending.

    To residuals of at most `tol` times the largest magnitude; else it warns (NotConverged). `progress` is called with a
    line at each iteration.

    X are the present vectors [n, k + 3], R = A X − X Θ their residuals (of those not yet converged), P the
    preconditioner, D the last step. The basis is orthonormalised at each iteration, A X measured anew at the end.

    Cost: one product for each unconverged vector an iteration; 6 (k + 3) vectors. What a block has missed has a copy
    beyond k + 3, so multiplicities up to 3 at the k-th eigenvalue are right, higher ones up to what was asked for.
    References: Knyazev (2001); Hetmaniuk and Lehoucq (2006), Basis selection in LOBPCG.
    """
    with Reporter(progress, f"lobpcg, {k} of {operator.shape[0]} eigenvalues") as reporter:
        return _iterated(operator, k, preconditioner, tol, seed, max_products, reporter).warn("lobpcg")


def _iterated(
    operator: LinearOperator,
    k: int,
    preconditioner: LinearOperator,
    tol: float,
    seed: int,
    max_products: int,
    reporter: Reporter,
) -> Eigenpairs:
    n, eps = operator.shape[0], torch.finfo(operator.dtype).eps
    size = min(n, k + GUARDS)
    x, _ = torch.linalg.qr(gaussian(operator.space, size, seeded(seed)))
    ax = operator @ x
    products = size
    scale, best, idle = float(ax.double().norm(dim=0).max()), float("inf"), 0  # scale: A of unit vectors
    x, ax, theta, _ = _rayleigh_ritz(x, ax, size)
    step, a_step = x[:, :0], ax[:, :0]
    while True:
        residual = ax - x * theta.to(x)
        norms = residual.double().norm(dim=0)
        open_ = norms > 0.5 * tol * scale
        worst = float(norms[:k].max())
        reporter.report(f"{products} products, residual {worst / (scale or 1.0):.1e} of {tol:.1e}")
        best, idle = (worst, 0) if worst < 0.5 * best else (best, idle + 1)
        spent = int(open_.sum()) > max_products - products - k
        if not bool(open_[:k].any()) or spent or size == n or idle > PATIENCE:
            break
        w = _outside(preconditioner @ residual[:, open_], torch.cat([x, step], dim=1), eps)
        if w.shape[1] == 0:
            break
        aw = operator @ w
        products += w.shape[1]
        scale = max(scale, float(aw.double().norm(dim=0).max()))
        basis, images = torch.cat([x, step, w], dim=1), torch.cat([ax, a_step, aw], dim=1)
        x, ax, theta, rotation = _rayleigh_ritz(basis, images, size)
        step, a_step = _step(basis, images, rotation, size, eps)
    ax = operator @ x[:, :k]
    values = theta[:k]
    residuals = (ax.double() - x[:, :k].double() * values.to(x.device)).norm(dim=0).cpu()
    converged = bool((residuals <= tol * scale).all())
    reason = "the tolerance was met"
    if not converged:
        stuck = "it made no more progress: rounding errors, or a poor preconditioner"
        reason = "products ran out (max_products)" if spent else stuck
    return Eigenpairs(values, x[:, :k], residuals, residuals, converged, products + k, tol, scale, reason=reason)


def _rayleigh_ritz(basis: Tensor, images: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The `size` smallest Ritz pairs on an orthonormal basis: X, A X, Θ and the rotation."""
    small = (basis.T @ images).double().cpu()
    theta, vectors = torch.linalg.eigh((small + small.T) / 2)
    rotation = vectors[:, :size]
    return basis @ rotation.to(basis), images @ rotation.to(basis), theta[:size], rotation


def _step(basis: Tensor, images: Tensor, rotation: Tensor, size: int, eps: float) -> tuple[Tensor, Tensor]:
    """An orthonormal basis of what the new X has outside the old one, orthogonal to the new X, with its images."""
    inner = rotation.clone()
    inner[:size] = 0
    inner = inner - rotation @ (rotation.T @ inner)
    left, sizes, _ = torch.linalg.svd(inner, full_matrices=False)
    kept = left[:, sizes > 1e3 * eps]
    kept = kept - rotation @ (rotation.T @ kept)
    return basis @ kept.to(basis), images @ kept.to(basis)


def _outside(w: Tensor, basis: Tensor, eps: float) -> Tensor:
    """An orthonormal basis of the columns of w outside an orthonormal basis."""
    w = w / w.norm(dim=0).clamp_min(torch.finfo(w.dtype).tiny)
    for _ in range(2):
        w = w - basis @ (basis.T @ w)
        w, sizes, _ = torch.linalg.svd(w, full_matrices=False)
        w = w[:, sizes > 1e3 * eps]
    return w
