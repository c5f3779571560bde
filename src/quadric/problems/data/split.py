"""A data set with its fixed split into training and test examples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True)
class Split:
    """Training and test examples: float32 inputs, normalised by the training inputs' moments, and int64 targets."""

    train_inputs: Tensor
    train_targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor


def normalised(pixels: npt.NDArray[np.generic], mean: float, deviation: float, scale: float) -> Tensor:
    """(pixels / scale − mean) / deviation as float32."""
    return torch.from_numpy(pixels.astype(np.float32)).div_(scale).sub_(mean).div_(deviation)
