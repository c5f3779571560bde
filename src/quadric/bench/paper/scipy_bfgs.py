"""SciPy's BFGS, begun anew from where it stops until the problem is solved."""

from __future__ import annotations

from typing import Any

import torch
from scipy.optimize import OptimizeResult, minimize

from quadric.bench.paper.evaluation import Evaluation
from quadric.bench.watch import Watch
from quadric.problems import Instance


def scipy_bfgs(instance: Instance, watch: Watch) -> None:
    """Iterations of `scipy.optimize.minimize(method="BFGS")`; each start counts as one, its first evaluation a look.

    Each evaluation, those of the line search included, draws the noise anew. It stops where the line search fails, as
    it often does under noise, and then begins anew with the identity for its inverse Hessian.
    """
    evaluation = Evaluation(instance)
    weights = evaluation.weights

    def seen(intermediate_result: OptimizeResult) -> None:
        if not watch.see(float(intermediate_result.fun), torch.from_numpy(intermediate_result.x)):
            raise StopIteration

    while not watch.over:
        first: list[float] = []

        def looked(at: Any, first: list[float] = first) -> Any:
            loss, gradient = evaluation.loss_and_gradient(at)
            first.append(loss)
            return loss, gradient

        loss, _ = evaluation.loss_and_gradient(weights)
        if not watch.see(loss, torch.from_numpy(weights)):
            return
        weights = minimize(looked, weights, method="BFGS", jac=True, callback=seen).x
