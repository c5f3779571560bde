"""MNIST: 60,000 training and 10,000 test images of handwritten digits, 28×28 grey.

Source: Y. LeCun, C. Cortes and C. J. C. Burges (1998), The MNIST database of handwritten digits.
"""

from __future__ import annotations

from pathlib import Path

from quadric.problems.data.files import Collection
from quadric.problems.data.images import image_facts, load_images
from quadric.problems.data.split import Split

MEAN, DEVIATION = 0.1307, 0.3081
FACTS = image_facts("MNIST, 28×28 grey images", MEAN, DEVIATION)
COLLECTION = Collection(
    title="MNIST",
    folders=("mnist", "MNIST", "MNIST/raw"),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/{name}.gz",
        "https://storage.googleapis.com/cvdf-datasets/mnist/{name}.gz",
    ),
    sha256={
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    remedy="run this once with a network connection",
)


def load(data_dir: Path | None = None) -> Split:
    """MNIST with its published split."""
    return load_images(COLLECTION, MEAN, DEVIATION, data_dir)
