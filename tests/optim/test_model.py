"""The local model of a step against dense matrices."""

import copy

import pytest
import torch
from torch import nn

import quadric
from oracles import assert_close, ggn, gradient, jacobian
from quadric.optim.model import LocalModel
from quadric.optim.optimizer import Weights

F64 = torch.float64
DECAY = 0.1


@pytest.mark.parametrize("parts", [1, 2], ids=["one-batch", "micro-batches"])
@pytest.mark.parametrize("temper", [None, 0.4, 1e6])
def test_start_tempers_the_curvature_along_z(parts, temper):
    """u = g + c (G + ωI) z, c = min(1, temper ‖∇ℓ‖ / ‖H_ℓ J z‖), the same whether the batch comes whole or in parts."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    x, t = torch.randn(9, 4, dtype=F64), torch.randint(3, (9,))
    z = torch.randn(sum(p.numel() for p in model.parameters()), dtype=F64)
    loss_fn = nn.CrossEntropyLoss()
    y = copy.deepcopy(model)(x).detach().requires_grad_()
    (slope,) = torch.autograd.grad(loss_fn(y, t), y)
    bend = torch.autograd.functional.hessian(lambda o: loss_fn(o, t), y.detach()).reshape(27, 27)
    bent = bend @ (jacobian(model, x) @ z)
    share = 1.0 if temper is None else min(1.0, float(temper * slope.norm() / bent.norm()))
    w = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    want = gradient(model, loss_fn, (x, t)) + DECAY * w + share * (ggn(model, loss_fn, (x, t)) @ z + DECAY * z)
    assert temper != 0.4 or share < 1  # else the test would not see the difference

    objective = quadric.Objective(model, loss_fn)
    batches = [(x, t)] if parts == 1 else [(x[:5], t[:5]), (x[5:], t[5:])]
    count = len(objective.parameters)
    weights = Weights(list(objective.parameters), [1.0] * count, [DECAY] * count, list(range(count)))
    u, _ = LocalModel(objective.on(*batches), weights).start(objective.space.unflatten(z), temper=temper)
    assert_close(objective.space.flatten(u), want, rtol=1e-10)
