"""Random flips and shifts of small images, drawn from a generator alone.

As in the CurveBall paper's program: each image is mirrored with probability ½ and moved by up to two pixels along each
side, and what comes in from beyond the edge is 0, which in normalised images is the mean colour.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

SHIFT = 2
"""The most pixels that an image is moved by."""


def flipped_and_shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """`images`, shape [N, C, H, W], each flipped and shifted at random; `generator` is on the CPU."""
    count, channels, height, width = images.shape
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    corner = torch.randint(0, 2 * SHIFT + 1, (2, count, 1), generator=generator)
    rows, columns = corner[0] + torch.arange(height), corner[1] + torch.arange(width)
    columns = torch.where(mirrored, columns.flip(1), columns)
    rows, columns = rows.to(images.device), columns.to(images.device)
    image = torch.arange(count, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[:, None, None]
    wider = pad(images, (SHIFT, SHIFT, SHIFT, SHIFT))
    return wider[image, channel, rows[:, None, :, None], columns[:, None, None, :]]
