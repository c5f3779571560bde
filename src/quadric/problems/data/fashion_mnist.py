"""Fashion-MNIST: 60,000 training and 10,000 test images of clothing in ten classes, 28×28 grey.

Source: H. Xiao, K. Rasul and R. Vollgraf (2017), Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms, arXiv:1708.07747.
"""

from __future__ import annotations

from pathlib import Path

from quadric.problems.data.files import Collection
from quadric.problems.data.images import image_facts, load_images
from quadric.problems.data.split import Split

MEAN, DEVIATION = 0.2860, 0.3530
FACTS = image_facts("Fashion-MNIST, 28×28 grey images", MEAN, DEVIATION)
COLLECTION = Collection(
    title="Fashion-MNIST",
    folders=("fashion-mnist", "FashionMNIST", "FashionMNIST/raw"),
    mirrors=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{name}.gz",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/{name}.gz",
    ),
    sha256={
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    remedy="run this once with a network connection, or install Debian's package dataset-fashion-mnist",
)


def load(data_dir: Path | None = None) -> Split:
    """Fashion-MNIST with its published split."""
    return load_images(COLLECTION, MEAN, DEVIATION, data_dir)
