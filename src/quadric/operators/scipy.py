"""Operators for SciPy's solvers and eigensolvers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator as ScipyOperator

from quadric.operators.operator import LinearOperator


def to_scipy(operator: LinearOperator) -> ScipyOperator:
    """`scipy.sparse.linalg.LinearOperator` of an operator: values go to its device and dtype, and come back."""

    def through(op: LinearOperator, x: NDArray[Any]) -> NDArray[Any]:
        moved = torch.as_tensor(np.ascontiguousarray(x)).to(op.device, op.dtype)
        return (op @ moved).cpu().numpy()

    dtype = torch.empty((), dtype=operator.dtype).numpy().dtype
    return ScipyOperator(
        dtype=dtype,
        shape=operator.shape,
        matvec=lambda x: through(operator, x.reshape(-1)),
        matmat=lambda x: through(operator, x),
        rmatvec=lambda x: through(operator.T, x.reshape(-1)),
        rmatmat=lambda x: through(operator.T, x),
    )
