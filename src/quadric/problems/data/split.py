"""A data set with its fixed split into training and test examples."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True)
class Split:
    """Training and test examples: float32 inputs, normalised by the training inputs' moments, and int64 targets.

    `note` has the sentence that must stand beside numbers from these very files, if one must.
    """

    train_inputs: Tensor
    train_targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    note: str = ""

    def first(self, train: int | None, test: int | None) -> Split:
        """A copy of the first so many examples of each part; all, if `None`."""
        return replace(
            self,
            train_inputs=self.train_inputs[:train].clone(),
            train_targets=self.train_targets[:train],
            test_inputs=self.test_inputs[:test].clone(),
            test_targets=self.test_targets[:test],
        )


def normalised(pixels: npt.NDArray[np.generic], mean: float, deviation: float, scale: float) -> Tensor:
    """(pixels / scale − mean) / deviation as float32."""
    return torch.from_numpy(pixels.astype(np.float32)).div_(scale).sub_(mean).div_(deviation)
