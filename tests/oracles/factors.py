"""Kronecker factors and eigenvalue corrections by giving every place at which weights act weights of its own.

Route: the layer is written out as patches times weights, [N, T, d] by [N, T, out, d], so that plain reverse mode gives
g_nt a_ntᵀ for every example, place and vector r of H_ℓ = Σ r rᵀ; the vectors are eigenvectors of the dense H_ℓ of each
example. No hooks, no closed forms of losses, no moments of activations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class PlaceGradients:
    """G [R, N, T, out, d]: for vector r, example n and place t; `gates` [N, T, d] the inputs with their 1."""

    outer: Tensor
    gates: Tensor

    def factors(self, shares: Tensor) -> tuple[Tensor, Tensor]:
        """(B, A): Σ g gᵀ with g read off the bias's column (the last), and the mean of a aᵀ."""
        g = self.outer[..., -1]
        b = torch.einsum("n,rnto,rntp->op", shares, g, g).contiguous()  # torch.kron refuses some strides
        rows = self.gates.flatten(0, 1)
        return b, rows.T @ rows / rows.shape[0]

    def corrected(self, shares: Tensor) -> Tensor:
        """The dense EKFAC block on [W | b] row by row: Q diag(s) Qᵀ, s = Σ (Q_Bᵀ (Σ_t G) Q_A)²."""
        b, a = self.factors(shares)
        (_, q_b), (_, q_a) = torch.linalg.eigh(b), torch.linalg.eigh(a)
        whole = self.outer.sum(2)
        s = torch.einsum("n,rnij->ij", shares, (q_b.T @ whole @ q_a).square())
        q = torch.kron(q_b, q_a)
        return q @ torch.diag(s.reshape(-1)) @ q.T


def place_gradients(
    a: Tensor, layer: nn.Module, after: Callable[[Tensor], Tensor], loss: Callable[[Tensor, int], Tensor]
) -> PlaceGradients:
    """Of a layer with weight and bias whose patches are a [N, T, d]; `after` maps its outputs [1, T, out] of an example
    to the network's, and `loss(y, n)` is the loss of example n alone."""
    weight = layer.weight.detach().flatten(1)
    a = torch.cat([a.detach(), torch.ones_like(a[..., :1])], 2)
    rows = []
    for n in range(a.shape[0]):
        own = (
            torch.cat([weight, layer.bias.detach().unsqueeze(1)], 1).expand(a.shape[1], -1, -1).clone().requires_grad_()
        )
        y = after(torch.einsum("tod,td->to", own, a[n]).unsqueeze(0))
        hessian = torch.autograd.functional.hessian(lambda y, n=n: loss(y, n), y.detach()).reshape(y.numel(), y.numel())
        values, vectors = torch.linalg.eigh(hessian)
        roots = vectors * values.clamp_min(0).sqrt()
        rows.append(
            torch.stack([torch.autograd.grad(y, own, r.reshape(y.shape), retain_graph=True)[0] for r in roots.T])
        )
    return PlaceGradients(torch.stack(rows, 1), a)


def row_by_row(weight_then_bias: Tensor, out: int) -> Tensor:
    """A block in the order of the parameters, all of W and then b, put into the order of [W | b] row by row."""
    d = weight_then_bias.shape[0] // out - 1
    order = torch.cat(
        [torch.arange(out * d).view(out, d), torch.arange(out * d, out * (d + 1)).view(out, 1)], 1
    ).reshape(-1)
    return weight_then_bias[order][:, order]
