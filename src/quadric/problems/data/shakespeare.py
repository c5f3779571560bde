"""Tiny Shakespeare: 1.1 million characters of Shakespeare's plays, one file, 65 different characters.

Source: A. Karpathy (2015), The unreasonable effectiveness of recurrent neural networks, and its repository char-rnn.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from quadric.problems.data.files import Collection, fetch
from quadric.problems.data.split import Split

TRAIN_SHARE = 0.9
VOCABULARY = 65
COLLECTION = Collection(
    title="Tiny Shakespeare",
    folders=("tinyshakespeare",),
    mirrors=("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",),
    sha256={"tinyshakespeare.txt": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"},
    remedy="run this once with a network connection",
)
FACTS = {
    "data": f"Tiny Shakespeare, 1,115,394 characters, {VOCABULARY} different ones",
    "split": "the first nine tenths of the text for training, the last tenth for testing",
}


def load(length: int, data_dir: Path | None = None) -> Split:
    """Windows of `length` characters that follow each other, as int64 [windows, length]; targets are one character on.

    Characters are numbered in the order of their codes.
    """
    text = np.frombuffer(fetch(COLLECTION, data_dir)["tinyshakespeare.txt"], np.uint8)
    _, numbers = np.unique(text, return_inverse=True)
    characters = torch.from_numpy(numbers.astype(np.int64))
    cut = int(TRAIN_SHARE * len(characters))
    return Split(*windows(characters[:cut], length), *windows(characters[cut:], length))


def windows(characters: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets; what is left at the end, less than a window, is dropped."""
    count = (len(characters) - 1) // length
    inputs, targets = characters[: count * length], characters[1 : count * length + 1]
    return inputs.view(count, length), targets.view(count, length)
