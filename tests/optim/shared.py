"""Small problems and comparisons that the tests of optimisers share."""

import torch
from torch import nn

F64 = torch.float64


def flat(model) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


class Residuals(nn.Module):
    """Rosenbrock's residuals (1 − u, 10 √ε (v − u²)), one row per ε in the batch."""

    def __init__(self, u=-0.3, v=-0.2):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([u, v], dtype=F64))

    def forward(self, noise):
        u, v = self.w
        return torch.stack([(1 - u).expand_as(noise), 10 * noise.sqrt() * (v - u * u)], 1)


def sum_of_squares(y, _targets):
    return (y * y).sum(1).mean()


def mlp():
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, bias=False),
        nn.BatchNorm2d(3),
        nn.ReLU(inplace=True),
        nn.Conv2d(3, 2, 2),
        nn.BatchNorm2d(2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


def seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return make().double()


def stream(shape, count, n=8, k=3, seed=20):
    """`count` different batches with something to learn in them."""
    generator = torch.Generator().manual_seed(seed)
    out = []
    for _ in range(count):
        x = torch.randn(n, *shape, dtype=F64, generator=generator)
        out.append((x, x.reshape(n, -1)[:, :k].argmax(1)))
    return out


PROBLEMS = {
    "mlp": lambda: (seeded(mlp), nn.CrossEntropyLoss(), stream((4,), 14)),
    "mlp-squared-error": lambda: (
        seeded(mlp),
        nn.MSELoss(),
        [(x, nn.functional.one_hot(t, 3).double()) for x, t in stream((4,), 14)],
    ),
    "cnn-batch-norm": lambda: (seeded(cnn), nn.CrossEntropyLoss(), stream((1, 5, 5), 14)),
    "rosenbrock": lambda: (
        Residuals(),
        sum_of_squares,
        [(torch.ones(1, dtype=F64), torch.zeros(1, 2, dtype=F64))] * 12,
    ),
    "rosenbrock-noise": lambda: (
        Residuals(),
        sum_of_squares,
        [
            (
                3 * torch.rand(1, dtype=F64, generator=torch.Generator().manual_seed(i)) + 0.1,
                torch.zeros(1, 2, dtype=F64),
            )
            for i in range(12)
        ],
    ),
}


def dropout_net():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))


def assert_same_run(run, continued):
    assert continued[0] == run[0]
    for name, value in run[1].items():
        assert torch.equal(value, continued[1][name]), f"{name} differs"


class Fragile(nn.Module):
    """Mean-squared error times a factor that a test can spoil."""

    def __init__(self):
        super().__init__()
        self.factor = 1.0

    def forward(self, y, t):
        return self.factor * nn.functional.mse_loss(y, t)


def everything(model, optimizer):
    state = optimizer.state_dict()["state"]
    return (
        {k: v.clone() for k, v in model.state_dict().items()},
        {
            (k, n): v.clone()
            for k, e in state.items()
            for n, v in e.items()
            if isinstance(v, torch.Tensor) and v.numel() > 1
        },
    )


def assert_everything_as(before, model, optimizer):
    weights, buffers = everything(model, optimizer)
    for name, value in weights.items():
        assert torch.equal(value, before[0][name]), f"{name} changed"
    for name, value in before[1].items():
        if value.dtype != torch.uint8:  # a stored random state may move
            assert torch.equal(buffers[name], value), f"state {name} changed"
