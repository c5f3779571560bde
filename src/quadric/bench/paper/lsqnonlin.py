"""Levenberg–Marquardt by the rule that MATLAB documents for its `lsqnonlin`, which the paper ran."""

from __future__ import annotations

import numpy as np
import torch

from quadric.bench.paper.evaluation import Evaluation, Vector
from quadric.bench.watch import Watch
from quadric.problems import Instance

FIRST, FACTOR = 0.01, 10.0
SHORTEST = 1e-6
"""A step shorter than this, relative to the weights, ends lsqnonlin; the authors then start it anew."""


def lsqnonlin(instance: Instance, watch: Watch, jacobian_factor: float = 1.0) -> None:
    """(JᵀJ + λI) s = −Jᵀr; λ, 0.01 at first, falls tenfold with a step that lowers ‖r‖² and rises tenfold with another.

    Only steps that are taken count, and starts, whose first evaluation is a look. `jacobian_factor` multiplies J: the
    authors' program hands over twice the Jacobian. Every evaluation draws the noise anew, r and J together.
    """
    evaluation = Evaluation(instance)
    weights = evaluation.weights
    while not watch.over:
        weights = until_short(evaluation, weights, watch, jacobian_factor)


def until_short(evaluation: Evaluation, weights: Vector, watch: Watch, jacobian_factor: float) -> Vector:
    """One start: the weights where no step of some length lowers the loss, or where the watch has seen enough."""
    damping = FIRST
    r, j = evaluation.residuals_and_jacobian(weights)
    while watch.see(float(r @ r), torch.from_numpy(weights)):
        j = jacobian_factor * j
        normal, slope = j.T @ j, j.T @ r
        while True:
            step = np.linalg.solve(normal + damping * np.eye(len(weights)), -slope)
            if np.linalg.norm(step) < SHORTEST * (1 + np.linalg.norm(weights)):
                return weights
            trial_r, trial_j = evaluation.residuals_and_jacobian(weights + step)
            if trial_r @ trial_r < r @ r:
                break
            damping *= FACTOR
        weights, r, j, damping = weights + step, trial_r, trial_j, damping / FACTOR
    return weights
