"""Solvers refuse data that changes between passes, and take data that comes in another order."""

import random

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

import quadric
from quadric.linalg import cg, lsmr, minres

F64 = torch.float64


def problem(**options):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    data = TensorDataset(torch.randn(12, 4, dtype=F64), torch.randint(3, (12,)))
    options.setdefault("generator", torch.Generator().manual_seed(1))  # its own: other random numbers at each pass
    return quadric.Objective(net, nn.CrossEntropyLoss()), DataLoader(data, batch_size=5, **options)


class Augmented:
    """A data set with noise from Python's generator, as augmentations have."""

    def __len__(self):
        return 6

    def __getitem__(self, i):
        return torch.full((4,), i + random.gauss(0, 1), dtype=F64), i % 3


USES = {
    "inverse": lambda op, v: quadric.inverse(op, damping=0.1, solver="cg") @ v,
    "sum": lambda op, v: cg(2 * op + quadric.identity_like(op), v),
    "minres": lambda op, v: minres(op + quadric.identity_like(op), v),
    "lsmr": lambda op, v: lsmr(op + quadric.identity_like(op), v),
    "low rank": lambda op, v: quadric.low_rank(op, 3),
    "nystrom": lambda op, v: quadric.low_rank(op, 3, "nystrom"),
    "preconditioner": lambda op, v: quadric.nystrom_preconditioner(op, 0.1, 3),
    "block": lambda op, v: quadric.low_rank(quadric.sub_matrix(op, ["0.weight"]), 2),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("sampling", ["replacement", "drop_last", "augmentation"])
def test_other_examples_at_each_pass_are_refused(use, sampling):
    if sampling == "augmentation":
        objective, _ = problem()
        loader = DataLoader(Augmented(), batch_size=3)
    elif sampling == "drop_last":
        objective, loader = problem(shuffle=True, drop_last=True)
    else:
        generator = torch.Generator().manual_seed(2)
        objective, loader = problem(sampler=RandomSampler(range(12), replacement=True, generator=generator))
    operator = quadric.GGN(objective, loader)
    with pytest.raises(ValueError, match=r"The data differ from one reading to the next: .* give a list of batches"):
        USES[use](operator, torch.ones(operator.shape[0], dtype=F64))


@pytest.mark.parametrize("use", USES)
def test_the_same_examples_in_another_order_are_taken(use):
    objective, loader = problem(shuffle=True)
    operator = quadric.GGN(objective, loader)
    USES[use](operator, torch.ones(operator.shape[0], dtype=F64))


def test_draws_that_go_by_the_order_are_refused_when_it_changes():
    objective, loader = problem(shuffle=True)
    with pytest.raises(ValueError, match=r"products of this Fisher .*shuffle=False"):
        quadric.low_rank(quadric.Fisher(objective, loader), 2)
    _, loader = problem(shuffle=False)
    quadric.low_rank(quadric.Fisher(objective, loader), 2)


def test_is_asked_once_and_not_of_lists():
    objective, loader = problem()
    passes = []

    class Counted:
        def __iter__(self):
            passes.append(None)
            return iter(loader)

    operator = quadric.GGN(objective, Counted())
    v = torch.ones(operator.shape[0], dtype=F64)
    iterations = [cg(operator + quadric.identity_like(operator), v).products for _ in range(2)]
    assert len(passes) == sum(iterations) + 2
    listed = quadric.GGN(objective, list(loader))
    cg(listed + quadric.identity_like(listed), v)
    assert listed.regular


def test_float32_and_lower_precision_are_not_mistaken_for_change():
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 5)).to(dtype)
        data = TensorDataset(torch.randn(300, 20).to(dtype), torch.randint(5, (300,)))
        loader = DataLoader(data, batch_size=32, shuffle=True, generator=torch.Generator().manual_seed(1))
        for kind in (quadric.GGN, quadric.Hessian, quadric.EmpiricalFisher):
            quadric.low_rank(kind(quadric.Objective(net, nn.CrossEntropyLoss()), loader), 2, "randomized")
