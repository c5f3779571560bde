"""MLPs over a grid of widths and depths on scikit-learn's digits: does a method work over the range, untouched?

`width-depth-64x6` has six hidden layers of 64 tanh. Weights are torch's default, uniform with variance 1/(3 inputs), so
that deeper networks start with smaller signals and smaller gradients.
"""

from __future__ import annotations

from quadric.problems.classification import classification
from quadric.problems.data import digits
from quadric.problems.networks import mlp
from quadric.problems.problem import Problem, Target

WIDTHS = (16, 64, 256)
DEPTHS = (2, 6, 12)


def width_depth(width: int, depth: int) -> Problem:
    """The member of the family with `depth` hidden layers of `width` units."""
    return classification(
        name=f"width-depth-{width}x{depth}",
        summary=f"8×8 digits, MLP with {depth} hidden layers of {width} tanh",
        rows=("S0.8",),
        load=digits.load,
        network=lambda: mlp(64, *[width] * depth, 10),
        shape=(64,),
        batch_size=128,
        epochs=10,
        evaluate_every=6,
        target=Target("train_loss", 0.5, "a round number, until a search of first-order methods sets it"),
        facts=digits.FACTS,
    )


GRID = tuple(width_depth(width, depth) for depth in DEPTHS for width in WIDTHS)
