"""Which eigenvalues are wanted first, and in what order they are handed out."""

from __future__ import annotations

import torch
from torch import Tensor

WHICH = ("LA", "SA", "LM", "BE")
"""Largest, smallest, largest in magnitude, from both ends."""


def wanted_first(theta: Tensor, which: str) -> Tensor:
    """The order of ascending values [m] by how much they are wanted."""
    m = theta.numel()
    if which == "LM":
        return theta.abs().argsort(descending=True, stable=True)
    ascending = torch.arange(m)
    if which == "SA":
        return ascending
    if which == "LA":
        return ascending.flip(0)
    return torch.stack([ascending.flip(0), ascending], dim=1).flatten()[:m]  # top, bottom, top, …


def listed(values: Tensor, which: str) -> Tensor:
    """The order in which wanted values, in any order, are handed out."""
    if which == "BE":
        return values.argsort(descending=True)
    order = values.argsort()
    return order[wanted_first(values[order], which)]
