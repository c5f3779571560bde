"""The MNIST MLP of the CurveBall paper."""

from __future__ import annotations

from quadric.problems.classification import classification
from quadric.problems.data import mnist
from quadric.problems.networks import mlp
from quadric.problems.problem import Target

MLP = classification(
    name="mnist-mlp",
    summary="MNIST digits, MLP 784-128-64-32-10 with tanh (the paper's)",
    rows=("S2.6", "S2.7", "S4.3", "S4.5"),
    load=mnist.load,
    network=lambda: mlp(784, 128, 64, 32, 10),
    shape=(784,),
    batch_size=64,
    epochs=5,
    evaluate_every=100,
    target=Target(
        "train_loss",
        0.1,
        "a round number that the best tuned first-order method reached in the two epochs of its search",
    ),
    facts=mnist.FACTS,
    train_examples=10_000,
)
