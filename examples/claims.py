"""Claims about curvature that are often read, and what is the case, each with figures: docs/claims.md explains them.

    python examples/claims.py

prints, for every claim, the figures on that page.
"""

from __future__ import annotations

import math

import torch
from torch import nn

import quadric
from quadric import Objective
from quadric.core.passes import PASSES
from quadric.problems import get, linear_regression, planes
from quadric.problems.networks import mlp
from random_matrices import EXACT, experiment

F64 = torch.float64
ALPHA = 0.1


def small_network():
    """An MLP 5-8-3 with cross-entropy, float64, 75 parameters, and 40 examples."""
    generator = torch.Generator().manual_seed(0)
    net = mlp(5, 8, 3).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(std=0.5, generator=generator)
    inputs = torch.randn(40, 5, generator=generator, dtype=F64)
    targets = torch.randint(3, (40,), generator=generator)
    return Objective(net, nn.CrossEntropyLoss()), (inputs, targets)


def gradient(objective, data):
    """The gradient as one vector, float64."""
    objective.on(data)()
    return torch.cat([p.grad.reshape(-1) for p in objective.parameters])


def line(w):
    """The source's regression without intercept at slope `w`: its objective and data."""
    net = nn.Linear(1, 1, bias=False, dtype=F64)
    nn.init.constant_(net.weight, w)
    return Objective(net, nn.MSELoss()), linear_regression.points()


def the_hessian_is_symmetric():
    """Its two triangles come from different products, and agree. Where second derivatives jump, they need not."""
    objective, data = small_network()
    h = quadric.Hessian(objective, data).to_dense()
    asymmetry = float((h - h.T).abs().max() / h.abs().max())

    def slope(x, y, of):
        point = torch.tensor([x, y], dtype=F64, requires_grad=True)
        u, v = point.unbind()
        (u * v * (u * u - v * v) / (u * u + v * v)).backward()
        return float(point.grad[of])

    tiny = 1e-6
    return {
        "largest |H − Hᵀ| / largest |H|": asymmetry,
        "share of entries of H that are zero": float((h == 0).double().mean()),
        "xy(x² − y²)/(x² + y²) at 0: ∂²f/∂y∂x": slope(0.0, tiny, 0) / tiny,
        "xy(x² − y²)/(x² + y²) at 0: ∂²f/∂x∂y": slope(tiny, 0.0, 1) / tiny,
    }


def a_number_is_no_low_rank_hessian():
    """gᵀg is one number, and ggᵀ is one matrix of rank one; neither is H's best approximation of low rank."""
    objective, data = small_network()
    hessian, g = quadric.Hessian(objective, data), gradient(objective, data)
    h = hessian.to_dense()

    def error(matrix):
        return float((matrix - h).norm() / h.norm())

    return {
        "shape of gᵀg": list((g @ g).shape),
        "shape of H": list(h.shape),
        "‖ggᵀ − H‖ / ‖H‖": error(torch.outer(g, g)),
        **{
            f"‖low_rank(H, rank={rank}) − H‖ / ‖H‖": error(quadric.low_rank(hessian, rank=rank).to_dense())
            for rank in (1, 5, 20)
        },
    }


def one_outer_product_is_not_block_diagonal():
    """ggᵀ is full; the block-diagonal part of H is zero between layers and equal to H within them."""
    objective, data = small_network()
    hessian, g = quadric.Hessian(objective, data), gradient(objective, data)
    h, outer = hessian.to_dense(), torch.outer(g, g)
    blocks = quadric.block_diagonal(hessian, by="layer").to_dense()
    first = sum(p.numel() for p in objective.parameters[:2])
    within = torch.zeros_like(h, dtype=torch.bool)
    within[:first, :first] = within[first:, first:] = True
    return {
        "share of ‖ggᵀ‖² between layers": float(outer[~within].square().sum() / outer.square().sum()),
        "share of ‖blocks‖² between layers": float(blocks[~within].square().sum() / blocks.square().sum()),
        "largest |blocks − H| within layers": float((blocks - h)[within].abs().max()),
    }


def a_loss_is_not_its_gradient():
    """At the minimum the gradient is zero and the loss is not; and what lowers the gradient raises the loss."""
    best = float(linear_regression.closed_form(intercept=False)[0])
    found = {"slope at the minimum": best}
    for name, w in (("at the minimum", best), ("one to the left", best - 1)):
        objective, data = line(w)
        found[f"loss {name}"] = float(objective.on(data)())
        found[f"gradient {name}"] = float(gradient(objective, data))
    return found


def the_corrected_inverse_has_a_hessian_in_it():
    """H⁻¹ + αI against (I + αI)⁻¹, with the right gradient and with one that lacks its input and its sign."""
    found = {}
    for scale in (1, 10):
        objective, (x, y) = line(0.0)
        hessian = quadric.Hessian(objective, (scale * x, y))
        found[f"H⁻¹ + αI, inputs times {scale}"] = float(quadric.inverse(hessian, correction=ALPHA).to_dense())
        found[f"(I + αI)⁻¹, inputs times {scale}"] = 1 / (1 + ALPHA)
    x, y = linear_regression.points()
    w = torch.zeros(1, dtype=F64)
    for _ in range(20):
        w = w - 2 * (y - x * w).mean() / (1 + ALPHA)
    found["slope after 20 steps of the code"] = float(w)
    objective, data = line(0.0)
    for _ in range(20):
        step = quadric.inverse(quadric.Hessian(objective, data), correction=ALPHA) @ gradient(objective, data)
        with torch.no_grad():
            objective.parameters[0].sub_(step.view(1, 1))
    found["slope after 20 steps of H⁻¹ + αI"] = float(objective.parameters[0].detach())
    found["slope at the minimum"] = float(linear_regression.closed_form(intercept=False)[0])
    return found


def trained(method, **settings):
    """Train loss of `vanishing-sigmoid` after half of its epochs, 120 steps, in float64."""
    instance = get("vanishing-sigmoid").open(None, torch.device("cpu"))(0)
    objective = Objective(instance.model.double(), instance.loss_fn)
    optimizer = quadric.optim.create(method, objective, **settings)
    for epoch in range(10):
        for inputs, targets in instance.epoch(epoch):
            optimizer.step(objective.on((inputs.double(), targets)))
    inputs, targets = instance.train[0]
    return float(objective.on((inputs.double(), targets))())


def curvature_rescales_vanishing_gradients():
    """Where the gradient is small, so is the curvature, and a Newton step undoes both."""
    instance = get("vanishing-sigmoid").open(None, torch.device("cpu"))(0)
    objective = Objective(instance.model.double(), instance.loss_fn)
    inputs, targets = instance.train[0]
    data = inputs.double(), targets
    g = gradient(objective, data)
    step = quadric.inverse(quadric.GGN(objective, data), damping=1e-4) @ g
    first, last = (slice(None, 64 * 32), slice(-330, -10))  # their weights, without biases
    return {
        "‖g‖, first layer": float(g[first].norm()),
        "‖g‖, last layer": float(g[last].norm()),
        "‖(G + 1e-4 I)⁻¹ g‖, first layer": float(step[first].norm()),
        "‖(G + 1e-4 I)⁻¹ g‖, last layer": float(step[last].norm()),
        "loss of a constant answer, ln 10": math.log(10),
        "loss after 120 steps of gradient descent, rate 0.1": trained("sgd", lr=0.1),
        "loss after 120 steps of Newton-CG": trained("newton-cg"),
        "loss after 120 steps of CurveBall": trained("curveball"),
    }


def no_inverse_brings_back_a_gradient_of_zero():
    """In float64 the slope of tanh is exactly zero from 20 on: no gradient, no curvature, no step."""
    net = mlp(5, 8, 8, 3).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(0.1)
        for layer in net[:-1:2]:
            layer.bias.fill_(20.0)
    _, data = small_network()
    objective = Objective(net, nn.CrossEntropyLoss())
    g = gradient(objective, data)
    ggn = quadric.GGN(objective, data)
    hidden = sum(p.numel() for p in objective.parameters[:-2])
    step = quadric.inverse(ggn, damping=1e-6) @ g
    return {
        "‖g‖, last layer": float(g[hidden:].norm()),
        "‖g‖, hidden layers": float(g[:hidden].norm()),
        "‖rows of the Gauss–Newton matrix‖, hidden layers": float(ggn.to_dense()[:hidden].norm()),
        "‖(G + 1e-6 I)⁻¹ g‖, hidden layers": float(step[:hidden].norm()),
    }


def positive_definite_is_local():
    """Himmelblau's function has a positive definite Hessian at four points, all of them minima."""
    plane = planes.get("himmelblau")
    found = {}
    for minimum in plane.minima:
        start = torch.tensor(minimum, dtype=F64)
        x = quadric.minimize(plane.value, start, method="newton-exact").x
        point = quadric.classify(Objective.of(plane.value, x))
        found[f"({float(x[0]):.2f}, {float(x[1]):.2f})"] = (
            f"{point.kind}, smallest eigenvalue {float(point.eigenvalues[0]):.2f}"
        )
    return found


def a_zero_eigenvalue_is_not_flatness():
    """Gradient and Hessian vanish at 0 for all of these: a minimum, a maximum, neither, and a flat line."""
    functions = {
        "x⁴": lambda x: x**4,
        "1 − x⁴": lambda x: 1 - x**4,
        "x³": lambda x: x**3,
        "1 + 0·x": lambda x: 1 + 0 * x,
    }
    found = {}
    for name, fun in functions.items():
        kind = quadric.classify(Objective.of(lambda x, fun=fun: fun(x).sum(), torch.zeros(1, dtype=F64))).kind
        found[name] = f"{kind}; f(−1) = {fun(-1.0):g}, f(0) = {fun(0.0):g}, f(1) = {fun(1.0):g}"
    return found


def signs_of_eigenvalues_are_not_independent():
    """Shares of random symmetric k×k matrices that are positive definite, beside 2⁻ᵏ."""
    found = {}
    for k, share, *_ in experiment(range(1, 6), 100_000):
        exact = f", closed form {EXACT[k]:.4f}" if k in EXACT else ""
        found[f"k = {k}"] = f"{share:.4f}, 2⁻ᵏ = {2.0**-k:.4f}{exact}"
    return found


def what_the_hessian_costs():
    """Forming it takes n products and n² numbers; inverting it some n³/3 operations; a product takes one."""
    found = {}
    for width in (8, 32, 128):
        net = mlp(5, width, 3).double()
        _, data = small_network()
        hessian = quadric.Hessian(Objective(net, nn.CrossEntropyLoss()), data)
        n = hessian.shape[0]
        before = PASSES.now()
        dense = hessian.to_dense()
        products = PASSES.curvature - before.curvature
        found[f"n = {n}"] = f"{products} products, {dense.numel():,} numbers, inverse {n**3 // 3:,} operations"
    return found


CLAIMS = (
    the_hessian_is_symmetric,
    a_number_is_no_low_rank_hessian,
    one_outer_product_is_not_block_diagonal,
    a_loss_is_not_its_gradient,
    the_corrected_inverse_has_a_hessian_in_it,
    curvature_rescales_vanishing_gradients,
    no_inverse_brings_back_a_gradient_of_zero,
    positive_definite_is_local,
    a_zero_eigenvalue_is_not_flatness,
    signs_of_eigenvalues_are_not_independent,
    what_the_hessian_costs,
)


def written(value):
    """A figure as it is printed: what only rounding errors make is said to be below 1e-12."""
    if not isinstance(value, float):
        return str(value)
    return "0" if value == 0 else "below 1e-12" if abs(value) < 1e-12 else f"{value:.3g}"


def printed(name, figures):
    """The lines of one claim, under its name."""
    width = max(map(len, figures))
    return "\n".join([name, *(f"  {figure:{width}}  {written(value)}" for figure, value in figures.items())])


if __name__ == "__main__":
    for claim in CLAIMS:
        print(printed(claim.__name__, claim()), end="\n\n", flush=True)
