"""Agreement with curvlinops on what both have, where it is installed."""

import pytest
import torch
from torch import nn

import quadric
from oracles import assert_close

curvlinops = pytest.importorskip("curvlinops")
F64 = torch.float64


def network(conv):
    torch.manual_seed(0)
    if conv:
        head = nn.Sequential(nn.Conv2d(2, 3, 2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3))
        return head.double(), (2, 3, 3)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double(), (4,)


def data(shape, loss_fn, *sizes):
    def targets(n):
        if isinstance(loss_fn, nn.CrossEntropyLoss):
            return torch.randint(3, (n,))
        if isinstance(loss_fn, nn.BCEWithLogitsLoss):
            return torch.randint(2, (n, 3)).double()
        return torch.rand(n, 3, dtype=F64)

    return [(torch.randn(n, *shape, dtype=F64), targets(n)) for n in sizes]


LOSSES = pytest.mark.parametrize(
    "loss_fn", [nn.CrossEntropyLoss(), nn.MSELoss(), nn.BCEWithLogitsLoss()], ids=lambda loss: type(loss).__name__
)


@LOSSES
@pytest.mark.parametrize("conv", [False, True])
@pytest.mark.parametrize("kind", ["Hessian", "GGN", "EmpiricalFisher"])
def test_products(kind, conv, loss_fn):
    net, shape = network(conv)
    batches = data(shape, loss_fn, 4, 3)
    names = {"Hessian": "HessianLinearOperator", "GGN": "GGNLinearOperator", "EmpiricalFisher": "EFLinearOperator"}
    theirs = getattr(curvlinops, names[kind])(net, loss_fn, list(net.parameters()), batches)
    ours = getattr(quadric, kind)(quadric.Objective(net, loss_fn), batches)
    v = torch.randn(ours.shape[0], 3, dtype=F64)
    # Losses averaged over the 3 outputs of an example: for curvlinops an empirical Fisher is a mean over outputs too,
    # so that it is 3 times the second moment of the examples' gradients.
    factor = 3 if kind == "EmpiricalFisher" and not isinstance(loss_fn, nn.CrossEntropyLoss) else 1
    assert_close(factor * (ours @ v), theirs @ v, 1e-6)


@LOSSES
@pytest.mark.parametrize("conv", [False, True])
@pytest.mark.parametrize("sharing", ["expand", "reduce"])
@pytest.mark.parametrize(("kind", "fisher"), [("KFAC", "exact"), ("KFAC", "empirical"), ("EKFAC", "exact")])
def test_kronecker_factors(kind, fisher, sharing, conv, loss_fn):
    if kind == "EKFAC" and sharing == "reduce" and conv:
        pytest.skip("curvlinops corrects with the product of mean input and summed gradient, quadric with the gradient")
    net, shape = network(conv)
    batches = data(shape, loss_fn, 5, 5)
    theirs = getattr(curvlinops, f"{kind}LinearOperator")(
        net,
        loss_fn,
        list(net.parameters()),
        batches,
        fisher_type={"exact": "type-2", "empirical": "empirical"}[fisher],
        kfac_approx=sharing,
        separate_weight_and_bias=False,
    )
    ours = getattr(quadric, kind)(quadric.Objective(net, loss_fn), batches, fisher=fisher, sharing=sharing)
    v = torch.randn(ours.shape[0], 3, dtype=F64)
    factor = 3 if fisher == "empirical" and not isinstance(loss_fn, nn.CrossEntropyLoss) else 1  # as above
    assert_close(factor * (ours @ v), theirs @ v, 1e-6)


def test_damped_inverse_of_kronecker_factors():
    loss_fn = nn.CrossEntropyLoss()
    net, shape = network(True)
    (batch,) = data(shape, loss_fn, 6)
    kfac = curvlinops.KFACLinearOperator(
        net, loss_fn, list(net.parameters()), [batch], fisher_type="type-2", separate_weight_and_bias=False
    )
    theirs = curvlinops.KFACInverseLinearOperator(kfac, damping=0.1, use_exact_damping=True)
    ours = quadric.inverse(quadric.KFAC(quadric.Objective(net, loss_fn), batch), damping=0.1)
    v = torch.randn(ours.shape[0], dtype=F64)
    assert_close(ours @ v, theirs @ v, 1e-6)
