"""Watching curvature while a network trains: largest eigenvalue, trace, gradient noise, within a tenth of the time.

A plain torch loop with Adam, and the same with CurveBall, whose damping λ and momentum ρ are then recorded too. In a
long training 2 % of the time, the default, is enough.
"""

import tempfile
from pathlib import Path

import torch
from torch import nn

import quadric


def spirals(examples=1000):
    """Points on two spirals, and which of them."""
    generator = torch.Generator().manual_seed(0)
    t = 3 * torch.pi * torch.rand(examples, generator=generator).sqrt()
    which = torch.arange(examples) % 2
    points = torch.stack([t.cos(), t.sin()], dim=1) * (t * (1 - 2 * which) / 5).unsqueeze(1)
    return points + 0.05 * torch.randn(points.shape, generator=generator), which


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))


def batches(steps, size=100):
    """Random batches of the spirals."""
    points, which = spirals()
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        rows = torch.randint(len(which), (size,), generator=generator)
        yield points[rows], which[rows]


def by_adam(path):
    """A plain loop: the monitor needs the objective, and one line."""
    model, loss_fn = network(), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    monitor = quadric.Monitor(quadric.Objective(model, loss_fn), budget="10%", path=path)
    for inputs, targets in batches(1500):
        monitor.step((inputs, targets), optimizer)
        optimizer.zero_grad()
        loss_fn(model(inputs), targets).backward()
        optimizer.step()
    return monitor


def by_curveball(path):
    """quadric's loop."""
    objective = quadric.Objective(network(), nn.CrossEntropyLoss())
    optimizer = quadric.optim.CurveBall(objective)
    monitor = quadric.Monitor(objective, budget="10%", path=path)
    for batch in batches(600):
        monitor.step(batch, optimizer)
        optimizer.step(objective.on(batch))
    return monitor


def main():
    """Train both, and print what was seen; the files are for plots."""
    with tempfile.TemporaryDirectory() as directory:
        for train in (by_adam, by_curveball):
            path = Path(directory) / f"{train.__name__}.jsonl"
            monitor = train(path)
            print(f"\n{train.__name__}\n  step     loss    λ_max  residual    trace       ±  ‖gradient‖")
            for m in quadric.Monitor.read(path):
                print(
                    f"{m.step:6d} {m.loss:8.4f} {m.largest:8.3f} {m.residual:9.1e} {m.trace:8.2f} {m.trace_error:7.2f}"
                    f" {m.gradient_norm:11.3f}"
                )
            print(monitor.summary())


if __name__ == "__main__":
    main()
