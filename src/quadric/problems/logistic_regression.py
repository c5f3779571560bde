"""Logistic regression on scikit-learn's breast cancer data: convex, with a reference optimum but no closed form.

Of the 30 features only the first ten, the means, are used: on all of them the classes can be all but separated, and the
optimum runs off to infinity. All 569 examples, full batch, float64. Source: W. Wolberg, O. Mangasarian, N. Street and
W. Street (1993), Breast Cancer Wisconsin (Diagnostic), UCI Machine Learning Repository.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from quadric.problems.problem import Batch, Draw, Instance, Problem, Target
from quadric.problems.randomness import initialised

EXAMPLES = 569
FEATURES = 10
MINIMUM = 0.128409858026
TOLERANCE = 1e-4
"""How far above the minimum counts as solved."""


def examples() -> Batch:
    """Standardised features, shape [569, 10], and targets 0 or 1, shape [569, 1], both float64."""
    from sklearn.datasets import load_breast_cancer

    features, labels = load_breast_cancer(return_X_y=True)
    x = torch.from_numpy(features[:, :FEATURES])
    return (x - x.mean(0)) / x.std(0, correction=0), torch.from_numpy(labels).double()[:, None]


def open_logistic_regression(data_dir: Path | None, device: torch.device) -> Draw:
    """Weights with torch's default initialisation; scikit-learn ships the data."""
    x, y = (values.to(device) for values in examples())

    def draw(seed: int) -> Instance:
        def epoch(index: int) -> Iterator[Batch]:
            yield x, y

        model = initialised(lambda: nn.Linear(FEATURES, 1, dtype=torch.float64), seed)
        return Instance(model.to(device), nn.BCEWithLogitsLoss(), epoch, 1, train=[(x, y)])

    return draw


PROBLEM = Problem(
    name="logistic-regression",
    summary="breast cancer, logistic regression on ten features, full batch",
    rows=(),
    target=Target(
        "train_loss",
        MINIMUM + TOLERANCE,
        f"the minimum that Newton's method finds to 12 digits, {MINIMUM:.6f}, plus {TOLERANCE:g}",
    ),
    batch_size=EXAMPLES,
    epochs=500,
    evaluate_every=1,
    open=open_logistic_regression,
    facts={
        "data": "scikit-learn's breast cancer, all 569 examples, the ten mean features, standardised, float64",
        "loss": f"binary cross-entropy, not regularised; the minimum is {MINIMUM:.9f}",
    },
)
