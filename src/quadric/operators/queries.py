"""The open questions one may ask an operator. The functions that users call, with their fallbacks, are in `linalg`.

In `inverse`, `logdet` and `square_root` the operator asked about is A + σI: most structures keep theirs under a shift.
The last argument is the whole function, for forms that pass the question on to their parts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from quadric.operators.query import Query

if TYPE_CHECKING:
    from quadric.operators.diagonal import Diagonal
    from quadric.operators.estimate import Estimate
    from quadric.operators.operator import LinearOperator
    from quadric.operators.selection import Selection

diagonal: Query[[Callable[[LinearOperator], Diagonal]], Diagonal] = Query("diagonal")
"""The diagonal of A."""

trace: Query[[Callable[[LinearOperator], Estimate]], Estimate] = Query("trace")
"""tr A."""

inverse: Query[[float, Callable[[LinearOperator, float], LinearOperator]], LinearOperator] = Query("inverse")
"""(A + σI)⁻¹; raises NotPositiveDefinite where a symmetric A + σI is not positive definite."""

logdet: Query[[float, Callable[[LinearOperator, float], Estimate]], Estimate] = Query("logdet")
"""log det(A + σI); raises NotPositiveDefinite likewise."""

square_root: Query[[float, Callable[[LinearOperator, float], LinearOperator]], LinearOperator] = Query("square_root")
"""S with S Sᵀ = A + σI; raises NotPositiveDefinite likewise."""

settle: Query[[], None] = Query("settle")
"""Nothing; raises ValueError where A is not the same operator at every product."""

restrict: Query[[Selection], LinearOperator] = Query("restrict")
"""The principal sub-matrix of A on a selection of coordinates."""
