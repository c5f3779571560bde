"""Loading of MNIST and of the data sets that took over its files and format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from quadric.problems.data.files import Collection, fetch
from quadric.problems.data.idx import parse
from quadric.problems.data.split import Split, normalised


def load_images(collection: Collection, mean: float, deviation: float, data_dir: Path | None) -> Split:
    """The images of `collection`, normalised, with the published split."""
    arrays = {name: parse(content, name) for name, content in fetch(collection, data_dir).items()}

    def inputs(part: str) -> torch.Tensor:
        return normalised(arrays[f"{part}-images-idx3-ubyte"], mean, deviation, 255.0)

    def targets(part: str) -> torch.Tensor:
        return torch.from_numpy(arrays[f"{part}-labels-idx1-ubyte"].astype(np.int64))

    return Split(inputs("train"), targets("train"), inputs("t10k"), targets("t10k"))


def image_facts(data: str, mean: float, deviation: float) -> dict[str, str]:
    """What a reader of the numbers has to know about the data."""
    return {
        "data": data,
        "split": "the published one, 60,000 training and 10,000 test examples",
        "normalisation": f"(pixel / 255 − {mean}) / {deviation}, the training examples' mean and standard deviation",
    }
