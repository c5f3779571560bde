"""What the inverses of operators share: they remember what they are the inverse of."""

from __future__ import annotations

from collections.abc import Callable

from quadric.operators import queries
from quadric.operators.identity import identity_like
from quadric.operators.operator import LinearOperator


class InverseOf(LinearOperator):
    """A⁻¹ of the `operator` A, damping included."""

    def __init__(self, operator: LinearOperator) -> None:
        operator.space  # noqa: B018 - raises where the operator is rectangular
        super().__init__(operator.codomain, operator.domain)
        self.operator = operator


@queries.inverse.register(InverseOf)
def _inverse(
    inverse: InverseOf, shift: float, recurse: Callable[[LinearOperator, float], LinearOperator]
) -> LinearOperator | None:
    """(A⁻¹)⁻¹ = A, and (A⁻¹ + σI)⁻¹ = (I − (A/σ⁻¹ + I)⁻¹)/σ = I/σ − (A + I/σ)⁻¹/σ² for a positive definite A."""
    if shift == 0:
        return inverse.operator
    if shift < 0 or not inverse.positive_semidefinite:
        return None
    result = identity_like(inverse) / shift - recurse(inverse.operator, 1 / shift) / shift**2
    result.positive_semidefinite = True
    return result
