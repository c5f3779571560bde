"""Curvature on a share of the batch: the same step as with dense matrices, by either of its two routes."""

import numpy as np
import pytest
import torch
from torch import nn

import quadric
from oracles.derivatives import ggn, gradient
from quadric.optim import CurveBall

F64 = torch.float64
MODELS = {
    "separable": lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)),
    "batch norm": lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)),
}
LOSSES = {
    "cross-entropy": lambda: (nn.CrossEntropyLoss(), torch.randint(0, 3, (12,))),
    "ignored": lambda: (nn.CrossEntropyLoss(ignore_index=0), torch.tensor([0, 1, 2, 0, 0, 2, 1, 1, 0, 2, 1, 2])),
    "squared": lambda: (nn.MSELoss(), torch.randn(12, 3, dtype=F64)),
}


def dense_step(model, loss_fn, batch, z, damping, decay):
    """z ← ρ z − β Δz with the gradient of the whole batch and the Gauss–Newton matrix of its first third."""
    x, t = batch
    w = nn.utils.parameters_to_vector(model.parameters()).detach()
    g = gradient(model, loss_fn, batch) + decay * w
    n = len(w)
    c = ggn(model, loss_fn, (x[:4], t[:4])) + (damping + decay) * torch.eye(n, dtype=F64)
    delta = c @ z + g
    v = torch.stack([delta, z], dim=1)
    solution = np.linalg.lstsq((v.T @ c @ v).numpy(), (v.T @ g).numpy(), rcond=1e-14)[0]
    return v @ torch.from_numpy(-solution)


@pytest.mark.parametrize("decay", [0.0, 0.01])
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("loss", LOSSES)
def test_step_equals_the_dense_one(kind, loss, decay):
    model = MODELS[kind]().double()
    loss_fn, t = LOSSES[loss]()
    batch = torch.randn(12, 4, dtype=F64), t
    objective = quadric.Objective(model, loss_fn)
    optimizer = CurveBall(objective, damping=0.3, adapt_damping=False, curvature_fraction=1 / 3, weight_decay=decay)
    z = torch.zeros(objective.space.numel, dtype=F64)
    for _ in range(6):
        before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
        z = dense_step(model, loss_fn, batch, z, 0.3, decay)
        optimizer.step(objective.on(batch))
        after = nn.utils.parameters_to_vector(model.parameters()).detach()
        assert torch.allclose(after, before + z, rtol=0, atol=1e-10 * z.norm().item())
    assert optimizer._separable is (kind == "separable")


@pytest.mark.parametrize("kind", MODELS)
def test_the_gradient_left_is_the_whole_batch_s(kind):
    model = MODELS[kind]().double()
    loss_fn, t = LOSSES["cross-entropy"]()
    batch = torch.randn(12, 4, dtype=F64), t
    objective = quadric.Objective(model, loss_fn)
    optimizer = CurveBall(objective, curvature_fraction=1 / 3, keep_gradient=True, weight_decay=0.1)
    for _ in range(2):
        expected = gradient(model, loss_fn, batch)
        optimizer.step(objective.on(batch))
        assert torch.allclose(objective.space.flatten([p.grad for p in model.parameters()]), expected, atol=1e-12)
