"""ResNet-18 as the CurveBall paper trains it on CIFAR-10: the network for ImageNet without its last pooling.

Its stem, a 7×7 convolution and a 3×3 pooling, both by strides of 2, leaves 8×8 of 32×32 pixels, and the three later
stages that halve the image leave one: there is nothing to pool. Dropout, where it is used, comes before the second
convolution of each block, as in the authors' program. References: He, Zhang, Ren, Sun (2016), Deep residual learning
for image recognition, table 1; Henriques et al. (2019), section 4.2.
"""

from __future__ import annotations

from torch import Tensor, nn

BLOCKS = 2
"""Residual blocks in each of the four stages."""


class Block(nn.Module):
    """Two 3×3 convolutions with batch norm beside a shortcut, which is a 1×1 convolution where the channels change."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = [*convolution(inputs, outputs, 3, stride), nn.ReLU()]
        layers += [nn.Dropout(dropout)] if dropout else []
        self.residual = nn.Sequential(*layers, *convolution(outputs, outputs, 3, 1))
        self.shortcut = nn.Identity() if inputs == outputs else nn.Sequential(*convolution(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """The rectified sum of both paths."""
        total: Tensor = self.shortcut(x) + self.residual(x)
        return total.relu()


def convolution(inputs: int, outputs: int, side: int, stride: int) -> tuple[nn.Module, nn.Module]:
    """A convolution without intercepts, padded to keep the image's size, and its batch norm."""
    return nn.Conv2d(inputs, outputs, side, stride, padding=side // 2, bias=False), nn.BatchNorm2d(outputs)


def resnet18(width: int = 64, dropout: float = 0.0, classes: int = 10) -> nn.Module:
    """The network for images of shape [3, 32, 32]; its stages have width · (1, 2, 4, 8) channels."""
    layers: list[nn.Module] = [*convolution(3, width, 7, 2), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)]
    channels = width
    for stage in range(4):
        outputs = width * 2**stage
        for block in range(BLOCKS):
            stride = 2 if stage and not block else 1
            layers.append(Block(channels, outputs, stride, dropout))
            channels = outputs
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels, classes))
