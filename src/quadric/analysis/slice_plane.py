"""The loss on a plane through the present parameters, beside its quadratic model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from quadric.analysis.slices import LossSlice, loss_slice
from quadric.core.progress import Progress
from quadric.core.saved import Saved
from quadric.curvature.curvature import Curvature
from quadric.curvature.regularity import read


@dataclass(frozen=True)
class SlicePlane(Saved):
    """The loss at w + a u (+ b v) as `slice`, and what the quadratic model makes of it along each direction alone:
    m(a) = `loss` + a `slopes[i]` + ½ a² `curvatures[i]`, with slopes gᵀu and curvatures uᵀC u, [1 or 2] each.
    """

    slice: LossSlice
    loss: float
    slopes: Tensor
    curvatures: Tensor

    def line(self, i: int) -> tuple[Tensor, Tensor, Tensor]:
        """Along direction i alone: distances ‖Δw‖ with their sign, losses, and what the model says, [points] each."""
        a, losses = self.slice.coordinates, self.slice.losses
        middle = len(a) // 2
        along = losses if losses.dim() == 1 else (losses[:, middle], losses[middle])[i]
        model = self.loss + a * self.slopes[i] + 0.5 * a.square() * self.curvatures[i]
        return a * float(self.slice.directions[:, i].double().norm()), along, model


def slice_plane(
    operator: Curvature[Any],
    directions: Tensor,
    *,
    radius: float = 1.0,
    points: int = 21,
    progress: Progress | None = None,
) -> SlicePlane:
    """The loss on `points` (odd) per direction from −radius to radius, over the data and with the model of a curvature.

    `directions` [n, 1 or 2] are used as they are. Cost: points or points² evaluations, one gradient, one product per
    direction. Raises ValueError for an even number of points, and where `loss_slice` does.
    """
    if points % 2 == 0:
        raise ValueError(f"Expected an odd number of points, so that the middle one is w itself, got {points!r}.")
    reading = read(operator)
    taken = loss_slice(
        operator.objective,
        operator.data,
        directions,
        radius=radius,
        points=points,
        seed=operator.seed if isinstance(operator.seed, int) else 0,
        progress=progress,
    )
    u = taken.directions
    slopes = u.double().T @ reading.gradient.double()
    curvatures = (u.double() * (operator @ u).double()).sum(0)
    return SlicePlane(taken, reading.loss, slopes.cpu(), curvatures.cpu())


def eigenvector_steps(operator: Curvature[Any], eigenvalues: Tensor, eigenvectors: Tensor) -> Tensor:
    """Eigenvectors [n, k] times the length at which λ alone doubles the loss f: ½ λ s² = |f|.

    At most max(‖w‖, 1), which also stands in where λ is 0.
    """
    objective = operator.objective
    length = max(1.0, math.sqrt(sum(float(p.detach().double().square().sum()) for p in objective.parameters)))
    loss = abs(read(operator).loss)
    steps = [min(length, math.sqrt(2 * loss / abs(v)) if v else length) or length for v in eigenvalues.tolist()]
    return eigenvectors * torch.tensor(steps).to(eigenvectors)
