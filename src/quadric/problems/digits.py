"""Scikit-learn's handwritten digits with an MLP and with a small CNN: seconds per run, no download."""

from __future__ import annotations

from quadric.problems.classification import classification
from quadric.problems.data import digits
from quadric.problems.networks import cnn, mlp
from quadric.problems.problem import Target

MLP = classification(
    name="digits-mlp",
    summary="8×8 handwritten digits, MLP 64-32-10 with tanh",
    rows=("S2.6", "S2.7", "S4.3", "S4.5"),
    load=digits.load,
    network=lambda: mlp(64, 32, 10),
    shape=(64,),
    batch_size=128,
    epochs=20,
    evaluate_every=3,
    target=Target(
        "train_loss", 0.1, "a round number that every tuned first-order method reaches within the default epochs"
    ),
    facts=digits.FACTS,
)

CNN = classification(
    name="digits-cnn",
    summary="8×8 handwritten digits, CNN (2 convolutions, 2 dense layers) with ReLU",
    rows=("S2.6", "S2.7", "S4.3", "S4.5"),
    load=digits.load,
    network=lambda: cnn(8, (8, 16), 32),
    shape=(1, 8, 8),
    batch_size=128,
    epochs=20,
    evaluate_every=3,
    target=Target(
        "train_loss", 0.1, "a round number that every tuned first-order method reaches within the default epochs"
    ),
    facts=digits.FACTS,
)
