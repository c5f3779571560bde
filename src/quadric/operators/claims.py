"""How the claims `symmetric` and `positive_semidefinite` pass from parts to a whole: one table; unknown is no.

| whole                                   | symmetric if      | positive semi-definite if   |
|-----------------------------------------|-------------------|-----------------------------|
| sum A + B, blocks diag(A, B, …), A ⊗ B  | all parts are     | all parts are               |
| multiple c A                            | A is              | A is and c ≥ 0              |
| transpose Aᵀ, principal sub-matrix      | A is              | A is                        |
| inverse (A + σI)⁻¹                      | A is              | as its factorisation proves |
| product A B, sub-matrix A[I, J]         | unknown           | unknown                     |
"""

from __future__ import annotations

from quadric.operators.operator import LinearOperator


def inherit(whole: LinearOperator, *parts: LinearOperator, sign: float = 1.0) -> None:
    """Give `whole` the claims that all `parts` make; a negative `sign` takes definiteness away."""
    whole.symmetric = all(part.symmetric for part in parts)
    whole.positive_semidefinite = sign >= 0 and all(part.positive_semidefinite for part in parts)
