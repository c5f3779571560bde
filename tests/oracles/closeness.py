"""The one comparison that the tests use: the relative error of a whole tensor in the Euclidean norm."""

from __future__ import annotations

import torch


def assert_close(got: torch.Tensor, want: torch.Tensor, rtol: float = 1e-10, what: str = "the result") -> None:
    """Fail unless ‖got − want‖ ≤ rtol·‖want‖ (absolutely ≤ rtol where `want` is zero); shapes must agree."""
    assert tuple(got.shape) == tuple(want.shape), f"{what} has shape {tuple(got.shape)}, expected {tuple(want.shape)}"
    assert torch.isfinite(got).all(), f"{what} is not finite"
    scale = want.double().norm().item() or 1.0
    error = (got.detach().double() - want.detach().double()).norm().item() / scale
    assert error <= rtol, f"{what} has a relative error of {error:.1e}, more than {rtol:.0e}"
