"""The CurveBall paper's networks on CIFAR-10: the basic CNN, with and without batch norm, and ResNet-18 in three forms.

Reference: Henriques et al. (2019), section 4.2: batches of 128, flips and shifts of 2 pixels, no weight decay. The full
scale's epochs are those of the authors' program.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import nn

from quadric.problems.augmentation import flipped_and_shifted
from quadric.problems.basic_cnn import basic_cnn
from quadric.problems.classification import classification
from quadric.problems.data import cifar10
from quadric.problems.data.split import Split
from quadric.problems.problem import Problem, Target, scaled
from quadric.problems.resnet18 import resnet18

BATCH = 128
TEST = 1_000
"""Test images at small scale."""
TRAIN = 50_000
"""Training images at full scale."""
MEASURED = 10_000
"""Training images that train loss and error are measured on at full scale."""
ROUND = Target("train_loss", 1.0, "a round number; nothing was searched at this scale")
UNSEARCHED = "that takes too long on two cores"
FACTS = {
    "data": "CIFAR-10, 32×32 colour images of ten classes",
    "split": "the published one; at small scale the first images of both parts",
    "normalisation": f"(pixel / 255 − {list(cifar10.MEAN)}) / {list(cifar10.DEVIATION)}, colour by colour",
    "augmentation": "flips and shifts of up to 2 pixels, drawn anew for each epoch from the seed; not where measured",
    "weight decay": "none",
}


def load(train: int | None, test: int | None, data_dir: Path | None) -> Split:
    """The first so many images of both parts, all if `None`, with what has to be said about them."""
    found = cifar10.load(data_dir)
    split = found.split.first(train, test)
    return replace(split, note=found.note)


def published(metric: str, percent: float, method: str) -> Target:
    """A target from the paper's Table 2."""
    origin = f"the CurveBall paper's Table 2, {method}, as recalled, so approximate"
    return Target("test_error" if metric == "validation" else "train_error", percent / 100, origin)


def on_cifar10(
    name: str, summary: str, network: Callable[[], nn.Module], small: tuple[int, int], epochs: int, target: Target
) -> Problem:
    """One network at both scales: `small` has the images and epochs of one, `epochs` and `target` are the other's."""

    def sized(train: int | None, epochs: int, target: Target, size: str) -> Problem:
        return classification(
            name=name,
            summary=f"CIFAR-10, {summary}",
            rows=("S2.6", "S2.7", "S4.5"),
            load=partial(load, train, None if train is None else TEST),
            network=network,
            shape=(3, 32, 32),
            batch_size=BATCH,
            epochs=epochs,
            evaluate_every=-(-(train or TRAIN) // BATCH),
            target=target,
            facts=FACTS,
            train_examples=None if train else MEASURED,
            augment=flipped_and_shifted,
            size=size,
            unsearched=UNSEARCHED,
        )

    return scaled(
        {
            "small": sized(*small, ROUND, "{:,} images, {} epochs".format(*small)),
            "full": sized(None, epochs, target, f"{TRAIN:,} images, {epochs} epochs"),
        }
    )


SGD = "SGD with momentum's train error"
CNN = on_cifar10(
    "cifar10-cnn",
    "the CurveBall paper's basic CNN (3 convolutions, 2 dense layers)",
    partial(basic_cnn, batch_norm=False),
    *((2_000, 10), 100, published("train", 18.9, SGD)),
)
CNN_BN = on_cifar10(
    "cifar10-cnn-bn",
    "the CurveBall paper's basic CNN with batch norm",
    partial(basic_cnn, batch_norm=True),
    *((2_000, 10), 40, published("train", 10.0, SGD)),
)
RESNET18 = on_cifar10(
    "cifar10-resnet18",
    "ResNet-18 without its last pooling",
    resnet18,
    *((1_000, 10), 120, published("train", 2.1, SGD)),
)
RESNET18_DROPOUT = on_cifar10(
    "cifar10-resnet18-dropout",
    "ResNet-18 without its last pooling, dropout 0.3",
    partial(resnet18, dropout=0.3),
    *((1_000, 10), 120, published("validation", 13.5, "CurveBall's validation error")),
)
RESNET18_SLIM = on_cifar10(
    "cifar10-resnet18-slim",
    "ResNet-18 of a quarter of the width",
    partial(resnet18, width=16),
    *((2_000, 10), 120, Target("train_error", 0.1, "a round number; the paper has no such network")),
)
PROBLEMS = CNN, CNN_BN, RESNET18, RESNET18_DROPOUT, RESNET18_SLIM
