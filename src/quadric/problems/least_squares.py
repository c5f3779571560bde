"""The loss of the least-squares problems: the squared norm of the residuals."""

from __future__ import annotations

from torch import Tensor


def squared_norm(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over examples of ‖outputs − targets‖²; both have shape [examples, residuals].

    `torch.nn.MSELoss` is this divided by the number of residuals, which changes λ, learning rates and thresholds.
    """
    return (outputs - targets).square().sum(dim=1).mean()
