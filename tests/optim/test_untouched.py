"""Every curvature method by its name alone lowers the loss of ordinary networks."""

import warnings

import pytest
import torch
from torch import nn

import quadric

NAMES = [
    "newton",
    "levenberg-marquardt",
    "newton-cg",
    "saddle-free-newton",
    "trust-region",
    "bfgs",
    "dfp",
    "sr1",
    "lbfgs",
    "kfac",
    "ekfac",
]
NETWORKS = {
    "mlp": lambda: nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10)),
    "dropout": lambda: nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 10)),
    "cnn-batch-norm": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 10),
    ),
}
EXAMPLES = 512


def check(name, network, size, dtype, steps):
    datasets = pytest.importorskip("sklearn.datasets")
    digits = datasets.load_digits()
    x = torch.tensor(digits.data[:EXAMPLES] / 16, dtype=dtype)
    t = torch.tensor(digits.target[:EXAMPLES])
    torch.manual_seed(0)
    model = NETWORKS[network]().to(dtype)
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    optimizer = quadric.optim.create(name, objective)
    first = objective.evaluate((x, t))
    generator = torch.Generator().manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", quadric.StepRejected)
        for _ in range(steps):
            rows = torch.randperm(EXAMPLES, generator=generator)[:size] if size < EXAMPLES else torch.arange(EXAMPLES)
            optimizer.step(objective.on((x[rows], t[rows])))
    assert objective.evaluate((x, t)) < 0.8 * first


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("network", "size", "steps"),
    [("mlp", 8, 40), ("mlp", 128, 15), ("mlp", EXAMPLES, 10), ("cnn-batch-norm", 128, 12), ("dropout", 128, 20)],
)
def test_it_trains(name, network, size, steps):
    check(name, network, size, torch.float32, steps)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("size", "steps"), [(8, 120), (128, 40), (EXAMPLES, 20)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_it_trains_everywhere(name, network, size, steps, dtype):
    check(name, network, size, dtype, steps)
