"""Scikit-learn's handwritten digits: 1,797 grey 8×8 images in ten classes, shipped with the library.

Source: E. Alpaydin and C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine Learning Repository
(the test part of that data set).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from quadric.problems.data.split import Split, normalised

TEST_EXAMPLES = 360
MEAN, DEVIATION = 0.3056, 0.3763
FACTS = {
    "data": "scikit-learn's digits, 8×8 grey images",
    "split": f"1,437 training examples, {TEST_EXAMPLES} test examples: the first of NumPy's RandomState(0).permutation",
    "normalisation": f"(pixel / 16 − {MEAN}) / {DEVIATION}, the training examples' mean and standard deviation",
}


def load(data_dir: Path | None = None) -> Split:
    """The digits with their fixed split; `data_dir` is not needed, scikit-learn ships them."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(images))
    test, train = order[:TEST_EXAMPLES], order[TEST_EXAMPLES:]
    inputs = normalised(images, MEAN, DEVIATION, 16.0)
    targets = torch.from_numpy(labels.astype(np.int64))
    return Split(inputs[train], targets[train], inputs[test], targets[test])
