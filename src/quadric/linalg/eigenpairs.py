"""What an eigensolver hands back."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace

from torch import Tensor

from quadric.core.errors import NotConverged
from quadric.core.saved import Saved


@dataclass(frozen=True)
class Eigenpairs(Saved):
    """Eigenvalues θ_i with orthonormal vectors v_i, and how far to trust them.

    `eigenvalues` [k] float64, the most wanted first: descending for "LA" and "BE", ascending for "SA", by descending
    magnitude for "LM". `eigenvectors` [n, k] in the operator's dtype, or [n, 0] where they were not wanted. `residuals`
    [k] bound ‖A v_i − θ_i v_i‖, rounding errors included as a product measured them: an eigenvalue of A lies within
    residuals[i] of θ_i. `errors` [k] bound |λ_i − θ_i| for the i-th wanted eigenvalue, given that none is missed by
    more than half of `tol`; far from the rest of the spectrum they are quadratic in the residuals. `converged`: the
    errors are within `tol` of the largest magnitude (`scale`), and where eigenvectors were wanted, so is what the
    iteration left of the residuals; and products did not run out before the look for missed copies had ended.

    `upper` and `lower` are about what is not listed: with probability at least 0.99 no further eigenvalue, nor a
    further copy of one listed, lies above `upper` (infinity where nobody looked, as for "SA"); and likewise none below
    `lower` (−infinity where nobody looked, as for "LA"). `reason` says in words why the iteration ended.
    """

    eigenvalues: Tensor
    eigenvectors: Tensor
    residuals: Tensor
    errors: Tensor
    converged: bool
    products: int
    tol: float
    scale: float
    upper: float = math.inf
    lower: float = -math.inf
    reason: str = "the tolerance was met"

    def alone(self) -> Eigenpairs:
        """The same without eigenvectors."""
        return replace(self, eigenvectors=self.eigenvectors.new_empty(self.eigenvectors.shape[0], 0))

    def warn(self, name: str) -> Eigenpairs:
        """The same, after a NotConverged warning where it did not converge."""
        if not self.converged:
            what, sizes = ("residuals", self.residuals) if self.eigenvectors.shape[1] else ("errors", self.errors)
            worst = float(sizes.max()) / (self.scale or 1.0)
            warnings.warn(
                f"{name} stopped after {self.products} products with {what} up to {worst:.2g} of the largest "
                f"eigenvalue; {self.tol:.2g} was asked for: {self.reason}.",
                NotConverged,
                stacklevel=3,
            )
        return self
