"""VGG-f with batch norm: five convolutions and three dense layers for images of 224×224 pixels.

References: Chatfield, Simonyan, Vedaldi, Zisserman (2014), Return of the devil in the details, table 1 (CNN-F), with
batch norm in the place of local response normalisation and dropout, as in the program of Henriques et al. (2019).
"""

from __future__ import annotations

from torch import nn

HIDDEN = 4_096


def vgg_f(classes: int) -> nn.Module:
    """The network for images of shape [3, 224, 224]."""
    return nn.Sequential(
        *convolution(3, 64, 11, stride=4),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        *convolution(64, 256, 5, padding=2),
        nn.MaxPool2d(3, stride=2),
        *convolution(256, 256, 3, padding=1),
        *convolution(256, 256, 3, padding=1),
        *convolution(256, 256, 3, padding=1),
        nn.MaxPool2d(3, stride=2),
        nn.Flatten(),
        *dense(256 * 6 * 6, HIDDEN),
        *dense(HIDDEN, HIDDEN),
        nn.Linear(HIDDEN, classes),
    )


def convolution(inputs: int, outputs: int, side: int, *, stride: int = 1, padding: int = 0) -> tuple[nn.Module, ...]:
    """A convolution, its batch norm and ReLU."""
    return nn.Conv2d(inputs, outputs, side, stride, padding), nn.BatchNorm2d(outputs), nn.ReLU()


def dense(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    """A dense layer, its batch norm and ReLU."""
    return nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()
