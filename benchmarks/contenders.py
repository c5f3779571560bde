"""One curvature product, by everyone who offers it.

A contender is a function of a problem that does its set-up and returns a product, a function from a flat vector [n]
to a flat vector [n] (parameters in the model's order). What is set up outside the product is what that library lets
one keep from one vector to the next; "one-shot" contenders keep nothing and pay for everything each time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from models import Problem

Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Contender:
    """A way to compute one product; `key` names it in the table of targets."""

    key: str
    name: str
    kind: Literal["ggn", "hessian"]
    make: Callable[[Problem], Product]
    peer: bool = False


def _quadric(curvature: str, keep: bool) -> Callable[[Problem], Product]:
    """quadric's operator over one batch: kept, it retains its linearisation; else it is built for each product."""

    def make(problem: Problem) -> Product:
        import quadric

        objective = quadric.Objective(problem.model, problem.loss_fn)
        operator = getattr(quadric, curvature)
        if not keep:
            return lambda v: operator(objective, problem.batch) @ v
        kept = operator(objective, problem.batch)
        return lambda v: kept @ v

    return make


def quadric_engine(problem: Problem) -> Product:
    """quadric's engine without the operator around it: lists of tensors, and nobody looks whether weights changed."""
    import quadric

    objective = quadric.Objective(problem.model, problem.loss_fn)
    near = objective.linearize(problem.batch)
    return lambda v: flatten(tuple(near.ggn(unflatten(v, problem.parameters()))))


def double_backward(problem: Problem) -> Product:
    """PyTorch's own Hessian product, forward and gradient included."""
    parameters = problem.parameters()

    def product(v: Tensor) -> Tensor:
        gradient = torch.autograd.grad(problem.loss(), parameters, create_graph=True)
        return flatten(torch.autograd.grad(gradient, parameters, grad_outputs=unflatten(v, parameters)))

    return product


def retained_double_backward(problem: Problem) -> Product:
    """PyTorch's own Hessian product, the gradient's graph kept from vector to vector."""
    parameters = problem.parameters()
    gradient = torch.autograd.grad(problem.loss(), parameters, create_graph=True)

    def product(v: Tensor) -> Tensor:
        parts = torch.autograd.grad(gradient, parameters, grad_outputs=unflatten(v, parameters), retain_graph=True)
        return flatten(parts)

    return product


def _curvlinops(operator: str) -> Callable[[Problem], Product]:
    """curvlinops over a one-batch data set, its probe for determinism off; it keeps nothing between products."""

    def make(problem: Problem) -> Product:
        import curvlinops

        linear = getattr(curvlinops, operator)(
            problem.model,
            problem.loss_fn,
            problem.parameters(),
            [problem.batch],
            check_deterministic=False,
            num_data=len(problem.batch[0]),
        )
        return lambda v: linear @ v

    return make


def eigenthings_hessian(problem: Problem) -> Product:
    """hessian-eigenthings' Hessian (its default method, double backward) over a one-batch data set."""
    from hessian_eigenthings.loss_fns import supervised_loss
    from hessian_eigenthings.operators import HessianOperator

    return HessianOperator(problem.model, [problem.batch], supervised_loss(problem.loss_fn)).matvec


def eigenthings_ggn(problem: Problem) -> Product:
    """hessian-eigenthings' GGN over a one-batch data set.

    The parameters are frozen once the operator exists: it then builds no autograd graph around its forward-mode
    product, which is as exact, faster, and takes two to four times less memory.
    """
    from hessian_eigenthings.loss_fns import supervised_forward, supervised_loss_of_output
    from hessian_eigenthings.operators import GGNOperator

    loss_of_output = supervised_loss_of_output(problem.loss_fn)
    problem.model.requires_grad_(True)
    operator = GGNOperator(problem.model, [problem.batch], supervised_forward, loss_of_output)
    problem.model.requires_grad_(False)
    return operator.matvec


def reference_ggn(problem: Problem) -> Product:
    """JᵀH_ℓJ v by reverse passes alone: J v is the derivative of Jᵀu with respect to u, along v. Slow, and plain."""
    parameters = problem.parameters()
    inputs, targets = problem.batch

    def product(v: Tensor) -> Tensor:
        outputs = problem.model(inputs)
        u = torch.zeros_like(outputs, requires_grad=True)
        pulled = torch.autograd.grad(outputs, parameters, grad_outputs=u, create_graph=True)
        (tangent,) = torch.autograd.grad(pulled, u, grad_outputs=unflatten(v, parameters), retain_graph=True)
        leaf = outputs.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(problem.loss_fn(leaf, targets), leaf, create_graph=True)
        (cotangent,) = torch.autograd.grad(gradient, leaf, grad_outputs=tangent)
        return flatten(torch.autograd.grad(outputs, parameters, grad_outputs=cotangent))

    return product


REFERENCES: dict[str, Callable[[Problem], Product]] = {"ggn": reference_ggn, "hessian": double_backward}

CONTENDERS = (
    Contender("ggn-one-shot", "quadric GGN, one-shot", "ggn", _quadric("GGN", keep=False)),
    Contender("ggn-many", "quadric GGN, many vectors", "ggn", _quadric("GGN", keep=True)),
    Contender("ggn-engine", "quadric GGN, many vectors, engine alone", "ggn", quadric_engine),
    Contender("hessian-one-shot", "quadric Hessian, one-shot", "hessian", _quadric("Hessian", keep=False)),
    Contender("hessian-many", "quadric Hessian, many vectors", "hessian", _quadric("Hessian", keep=True)),
    Contender("torch-one-shot", "torch double backward, one-shot", "hessian", double_backward),
    Contender("torch-many", "torch double backward, retained", "hessian", retained_double_backward),
    Contender("curvlinops-ggn", "curvlinops GGN", "ggn", _curvlinops("GGNLinearOperator"), peer=True),
    Contender("curvlinops-hessian", "curvlinops Hessian", "hessian", _curvlinops("HessianLinearOperator"), peer=True),
    Contender("eigenthings-ggn", "hessian-eigenthings GGN", "ggn", eigenthings_ggn, peer=True),
    Contender("eigenthings-hessian", "hessian-eigenthings Hessian", "hessian", eigenthings_hessian, peer=True),
)


def flatten(tensors: tuple[Tensor, ...]) -> Tensor:
    """One flat vector from tensors shaped like the parameters."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def unflatten(vector: Tensor, like: list[torch.nn.Parameter]) -> list[Tensor]:
    """Views of a flat vector, shaped like the parameters."""
    pieces = vector.split([p.numel() for p in like])
    return [piece.view_as(p) for piece, p in zip(pieces, like, strict=True)]
