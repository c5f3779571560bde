"""Named problems: a model, a loss, data in a fixed order, and a target. `get(name)` and `names()`."""

from __future__ import annotations

from quadric.core.errors import unknown_name
from quadric.problems import (
    autoencoder,
    cifar10,
    deep_linear,
    digits,
    fashion_mnist,
    imagenet100,
    linear_regression,
    logistic_regression,
    mnist,
    quadratic,
    rahimi_recht,
    rosenbrock,
    saddles,
    shakespeare_transformer,
    vanishing,
    width_depth,
)
from quadric.problems.problem import Batch, Instance, Problem, Target

__all__ = ["Batch", "Instance", "Problem", "Target", "get", "labelled", "names"]

PROBLEMS = {
    problem.name: problem
    for problem in (
        digits.MLP,
        digits.CNN,
        mnist.MLP,
        autoencoder.AUTOENCODER,
        fashion_mnist.MLP,
        fashion_mnist.CNN,
        linear_regression.WITH_INTERCEPT,
        linear_regression.WITHOUT_INTERCEPT,
        logistic_regression.PROBLEM,
        quadratic.PROBLEM,
        *rosenbrock.VARIANTS,
        rahimi_recht.PROBLEM,
        vanishing.SIGMOID,
        vanishing.TANH,
        *width_depth.GRID,
        *saddles.PROBLEMS,
        deep_linear.PROBLEM,
        shakespeare_transformer.PROBLEM,
        *cifar10.PROBLEMS,
        imagenet100.PROBLEM,
    )
}


def names() -> list[str]:
    """The names of the problems."""
    return list(PROBLEMS)


def get(name: str) -> Problem:
    """The problem called `name`.

    Raises:
        ValueError: there is none of that name; the message has the nearest ones.
    """
    if name not in PROBLEMS:
        raise unknown_name("problem", name, PROBLEMS)
    return PROBLEMS[name]


def labelled(label: str) -> Problem:
    """The problem of that label, NAME or NAME/SCALE. Raises ValueError where there is none."""
    name, _, scale = label.partition("/")
    return get(name).at(scale) if scale else get(name)
