"""The deep autoencoder of the second-order literature, on MNIST.

784-500-250-125-30 and back, tanh, a linear code of 30 numbers, binary cross-entropy between pixels in [0, 1] and the
reconstruction. References: Hinton and Salakhutdinov (2006), Reducing the dimensionality of data with neural networks;
Martens (2010); Martens and Grosse (2015), section 13.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from quadric.problems.data import mnist
from quadric.problems.data.split import Split
from quadric.problems.examples import measured_on, on_examples
from quadric.problems.networks import mlp
from quadric.problems.problem import Problem, Target

BATCH = 1_000
EXAMPLES = 10_000
MEASURED = 2_500


def load(data_dir: Path | None) -> Split:
    """Every sixth training image and the first half of the test images, as pixels in [0, 1], their own targets."""
    split = mnist.load(data_dir)
    stride = len(split.train_inputs) // EXAMPLES
    train, test = pixels(split.train_inputs[::stride]), pixels(split.test_inputs[: len(split.test_inputs) // 2])
    return Split(train, train, test, test)


def pixels(inputs: Tensor) -> Tensor:
    """Normalised images as rows of numbers in [0, 1]."""
    return (inputs * mnist.DEVIATION + mnist.MEAN).clamp(0, 1).reshape(len(inputs), -1)


def network() -> nn.Module:
    """Encoder and decoder."""
    return nn.Sequential(mlp(784, 500, 250, 125, 30), mlp(30, 125, 250, 500, 784))


AUTOENCODER = Problem(
    name="mnist-autoencoder",
    summary="MNIST digits, autoencoder 784-500-250-125-30 and back with tanh",
    rows=("S1.5", "S4.5"),
    target=Target("train_loss", 0.134, "105 nats an image, which tuned AdamW needs about 500 steps for"),
    batch_size=BATCH,
    epochs=20,
    evaluate_every=10,
    open=on_examples(load, network, nn.BCEWithLogitsLoss(), None, BATCH, MEASURED),
    facts={
        "data": "MNIST, every sixth training image: 10,000; the first 5,000 test images",
        "normalisation": "none, pixels / 255",
        "loss": "mean over examples and pixels; 784 times it is the usual sum over pixels, in nats an image",
        "train loss": f"on {measured_on(MEASURED)}",
    },
)
