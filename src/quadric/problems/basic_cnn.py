"""The basic CIFAR network of the CurveBall paper: three convolutions and two dense layers, with or without batch norm.

Reference: Henriques et al. (2019), section 4.2, with the layers of the authors' program: 5×5 convolutions of 32, 32 and
64 channels, each with 3×3 pooling by strides of 2 (maximum first, then means), a dense layer of 64, and the read-out.
Batch norm, where it is used, comes before each ReLU.
"""

from __future__ import annotations

from torch import nn

CHANNELS = (3, 32, 32, 64)
HIDDEN, CLASSES = 64, 10


def basic_cnn(batch_norm: bool) -> nn.Module:
    """The network for images of shape [3, 32, 32]."""
    pools = (
        nn.MaxPool2d(3, stride=2, padding=1),
        *(nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False) for _ in range(2)),
    )
    layers: list[nn.Module] = []
    for inputs, outputs, pool in zip(CHANNELS[:-1], CHANNELS[1:], pools, strict=True):
        layers.append(nn.Conv2d(inputs, outputs, 5, padding=2))
        layers += [nn.BatchNorm2d(outputs)] if batch_norm else []
        layers += [nn.ReLU(), pool]
    layers += [nn.Flatten(), nn.Linear(CHANNELS[-1] * 4 * 4, HIDDEN)]
    layers += [nn.BatchNorm1d(HIDDEN)] if batch_norm else []
    return nn.Sequential(*layers, nn.ReLU(), nn.Linear(HIDDEN, CLASSES))
