"""Fashion-MNIST with an MLP and with a small CNN."""

from __future__ import annotations

from quadric.problems.classification import classification
from quadric.problems.data import fashion_mnist
from quadric.problems.networks import cnn, mlp
from quadric.problems.problem import Target

MLP = classification(
    name="fashion-mnist-mlp",
    summary="Fashion-MNIST, MLP 784-256-128-10 with tanh",
    rows=("S2.6", "S2.7", "S4.3", "S4.5"),
    load=fashion_mnist.load,
    network=lambda: mlp(784, 256, 128, 10),
    shape=(784,),
    batch_size=128,
    epochs=5,
    evaluate_every=60,
    target=Target("train_loss", 0.3, "a round number that most tuned first-order methods reach in two to three epochs"),
    facts=fashion_mnist.FACTS,
    train_examples=10_000,
)

CNN = classification(
    name="fashion-mnist-cnn",
    summary="Fashion-MNIST, CNN (2 convolutions, 2 dense layers) with ReLU",
    rows=("S2.6", "S2.7", "S4.3", "S4.5"),
    load=fashion_mnist.load,
    network=lambda: cnn(28, (16, 32), 64),
    shape=(1, 28, 28),
    batch_size=128,
    epochs=3,
    evaluate_every=60,
    target=Target("train_loss", 0.35, "a round number; the search is too short to reach it and goes by the train loss"),
    facts=fashion_mnist.FACTS,
    train_examples=5_000,
)
