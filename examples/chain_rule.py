"""The chain rule, layer by layer, with Jacobians as operators: the gradient of a loss without calling backward.

For a network y₀ = x, yₖ = fₖ(yₖ₋₁; wₖ) and a loss ℓ(y_K) = ½‖y_K − t‖²,

    ∂ℓ/∂yₖ₋₁ = (∂yₖ/∂yₖ₋₁)ᵀ ∂ℓ/∂yₖ      and      ∂ℓ/∂wₖ = (∂yₖ/∂wₖ)ᵀ ∂ℓ/∂yₖ,

that is, gradient = Jᵀ ∂L/∂y for each layer in turn, from the last to the first: back-propagation.
"""

import torch
from torch import nn

import quadric


def gradient_by_chain_rule(layers, x, target):
    """∂ℓ/∂wₖ of every layer that has parameters, from the last to the first."""
    inputs = [x]
    for layer in layers:
        inputs.append(layer(inputs[-1]).detach())
    slope = (inputs[-1] - target).reshape(-1)  # ∂ℓ/∂y of the last layer
    gradients = []
    for layer, y in zip(reversed(layers), reversed(inputs[:-1]), strict=True):
        if any(True for _ in layer.parameters()):
            in_weights = quadric.Jacobian(quadric.Objective(layer, nn.MSELoss()), y)  # ∂yₖ/∂wₖ
            gradients.append(in_weights.T @ slope)
        in_input = quadric.Jacobian(quadric.Objective.of(layer, y))  # ∂yₖ/∂yₖ₋₁
        slope = in_input.T @ slope
    return gradients


def main():
    """Print each layer's gradient norm by the chain rule and the difference to torch's backward pass."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    x, target = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)

    gradients = gradient_by_chain_rule(list(net), x, target)

    (0.5 * (net(x) - target).square().sum()).backward()
    by_torch = [torch.cat([p.grad.reshape(-1) for p in net[i].parameters()]) for i in (2, 0)]
    for i, ours, theirs in zip((2, 0), gradients, by_torch, strict=True):
        difference = float((ours - theirs).norm() / theirs.norm())
        print(f"layer {i}: ‖∂ℓ/∂w‖ = {float(ours.norm()):.6f}, relative difference to backward() {difference:.1e}")


if __name__ == "__main__":
    main()
