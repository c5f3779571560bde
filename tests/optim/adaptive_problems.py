"""Small problems and comparisons for the tests of the adaptive methods."""

from __future__ import annotations

import torch
from torch import nn

F64 = torch.float64


def mlp():
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def cnn():
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.Tanh(), nn.Conv2d(3, 2, 2), nn.Flatten(), nn.Linear(8, 3)
    )


def noisy():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))


NETWORKS = {"mlp": (mlp, (4,)), "cnn-batch-norm": (cnn, (2, 5, 5))}


def seeded(make, dtype=F64):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return make().to(dtype)


def stream(shape, count, n=8, k=3, seed=20):
    """`count` different batches with something to learn in them."""
    generator = torch.Generator().manual_seed(seed)
    out = []
    for _ in range(count):
        x = torch.randn(n, *shape, dtype=F64, generator=generator)
        out.append((x, x.reshape(n, -1)[:, :k].argmax(1)))
    return out


def flat(model):
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def everything(model, optimizer):
    """Copies of the model's and the optimiser's tensors and counts."""
    state = optimizer.state_dict()["state"]
    kept = {f"{k}/{n}": v.clone() if isinstance(v, torch.Tensor) else v for k, e in state.items() for n, v in e.items()}
    return {**{k: v.clone() for k, v in model.state_dict().items()}, **kept}


def assert_same(before, after):
    assert before.keys() == after.keys()
    for name, value in before.items():
        same = torch.equal(value, after[name]) if isinstance(value, torch.Tensor) else value == after[name]
        assert same, f"{name} changed"
