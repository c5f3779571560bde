"""Deep saturating networks on scikit-learn's digits, in which plain gradient descent stalls.

A layer multiplies the gradient that passes through it by its weights and by the slope of its activation. Where units
saturate, slopes are small, and the gradient shrinks geometrically on its way to the first layer. Two ways to get there:

- `vanishing-sigmoid`: four hidden layers of 32 sigmoids and torch's default weights. A sigmoid's slope is at most ¼.
- `vanishing-tanh`: ten hidden layers of 32 tanh, weights of deviation 1/√inputs, biases of deviation 2. The biases
  push units to where tanh is flat.

At first the loss is that of a constant answer, ln 10 ≈ 2.303, and gradient descent stays there: what it learns is how
often each class occurs. No rate helps: one that is large enough for the first layers is far too large for the last.

References: Hochreiter (1991); Bengio, Simard and Frasconi (1994); Glorot and Bengio (2010), Understanding the
difficulty of training deep feedforward neural networks; Schoenholz et al. (2017), Deep information propagation, for the
biases.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from quadric.problems.classification import classification
from quadric.problems.data import digits
from quadric.problems.networks import mlp
from quadric.problems.problem import Problem, Target

WIDTH = 32
BIAS_DEVIATION = 2.0


def sigmoid_network() -> nn.Sequential:
    """64-32-32-32-32-10 with sigmoids and torch's default initialisation."""
    return mlp(64, *[WIDTH] * 4, 10, activation=nn.Sigmoid)


def tanh_network() -> nn.Sequential:
    """64-32-…-32-10 with ten hidden layers of tanh, whose biases saturate them."""
    network = mlp(64, *[WIDTH] * 10, 10)
    for layer in list(network)[:-1]:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.normal_(layer.bias, std=BIAS_DEVIATION)
    return network


def vanishing(name: str, summary: str, network: Callable[[], nn.Module], weights: str) -> Problem:
    """The problem of training `network` on the digits."""
    return classification(
        name=name,
        summary=summary,
        rows=("S1.5",),
        load=digits.load,
        network=network,
        shape=(64,),
        batch_size=128,
        epochs=20,
        evaluate_every=12,
        target=Target(
            "train_loss", 1.0, "a round number far below ln 10, until a search of first-order methods sets it"
        ),
        facts={**digits.FACTS, "weights": weights, "loss of a constant answer": "ln 10 = 2.3026"},
    )


SIGMOID = vanishing(
    "vanishing-sigmoid",
    "8×8 digits, four layers of 32 sigmoids: plain gradient descent stalls",
    sigmoid_network,
    "torch's default",
)
TANH = vanishing(
    "vanishing-tanh",
    "8×8 digits, ten layers of 32 saturated tanh: plain gradient descent stalls",
    tanh_network,
    f"hidden layers N(0, 1/inputs), their biases N(0, {BIAS_DEVIATION:g}²); the last layer torch's default",
)
