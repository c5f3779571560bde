"""The trace from a Lanczos basis and random probes of what that leaves out."""

from __future__ import annotations

import torch

from quadric.linalg.lanczos import Tridiagonal
from quadric.linalg.probes import signs
from quadric.operators.estimate import Estimate
from quadric.operators.operator import LinearOperator


def deflated_trace(operator: LinearOperator, known: Tridiagonal, probes: int, generator: torch.Generator) -> Estimate:
    """tr A = tr T + E ω̃ᵀ A ω̃ with T = QᵀAQ known from `lanczos`, ω random signs and ω̃ = (I − Q Qᵀ) ω.

    Unbiased where Q does not depend on ω. What is left to estimate is without the extremal eigenvalues, which is where
    most of the variance comes from. Exact, and free, where Q spans the whole space.

    Cost: a product for each of at least 2 probes. Reference: Gambhir, Stathopoulos and Orginos (2017), Deflation as a
    method of variance reduction for estimating the trace of a matrix inverse.
    """
    inside = float(known.diagonal.sum())
    if known.basis.shape[1] == operator.shape[0]:
        return Estimate(inside)
    omega = signs(operator.space, probes, generator)
    outer = omega - known.basis @ (known.basis.T @ omega)
    forms = (outer.double() * (operator @ outer).double()).sum(0)
    return Estimate(inside + float(forms.mean()), float(forms.std() / probes**0.5), probes)
