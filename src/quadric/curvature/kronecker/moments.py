"""Second moments Σ a aᵀ, formed without copies of what they are made of, and no more of them than symmetry asks."""

from __future__ import annotations

from itertools import pairwise
from math import gcd
from typing import Any

import torch
from torch import Tensor, nn

from quadric.curvature.kronecker.layers import padded

_BLOCKS = 4
_BLOCKS_FROM = 300
"""Number of columns from which a matrix is multiplied with its own transpose by blocks on and above the diagonal."""


class Mean:
    """A weighted mean as it grows, zero while nothing was added: parts are counted first and added then.

    It is kept divided by its weight, so that reading it costs nothing; each part is scaled as it is added.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        self.shape, self.dtype, self.device = shape, dtype, device
        self.weight = 0.0
        self._mean: Tensor | None = None
        self._fade = 1.0
        """What `_mean` is still to be multiplied with."""

    def count(self, weight: float) -> None:
        """Let the mean stand for so much more weight than before."""
        total = self.weight + weight
        self._fade *= self.weight / total if total else 1.0
        self.weight = total

    def add(self, part: Tensor, scale: float = 1.0) -> None:
        """Add scale · part to the sum that is averaged."""
        scale = scale / (self.weight or 1.0)
        if self._mean is None:
            self._mean, self._fade = part * scale, 1.0
        else:
            self.value.add_(part, alpha=scale)

    def add_squares(self, rows: Tensor, scale: float = 1.0, *, ones: bool = False) -> None:
        """Add scale · RᵀR, R [n, d] the rows; with `ones` those of [R | 1]."""
        scale, fade = scale / (self.weight or 1.0), self._take_fade()
        mean, d = self._buffer(), rows.shape[1]
        add_square(mean[:d, :d], rows, scale, fade)
        if ones:
            sums = rows.sum(0).mul_(scale)
            mean[d, :d].mul_(fade).add_(sums) if fade else mean[d, :d].copy_(sums)
            mean[:d, d] = mean[d, :d]
            mean[d, d] = fade * mean[d, d] + scale * rows.shape[0] if fade else scale * rows.shape[0]

    @property
    def value(self) -> Tensor:
        """The mean."""
        if self._mean is None:
            self._mean, self._fade = torch.zeros(self.shape, dtype=self.dtype, device=self.device), 1.0
        if self._fade != 1.0:
            self._mean.mul_(self._take_fade())
        return self._mean

    def blended(self, new: Mean, decay: float) -> Mean:
        """decay · this + (1 − decay) · `new`, in mean and weight, in the memory of the new."""
        result = Mean(self.shape, self.dtype, self.device)
        result.weight = decay * self.weight + (1 - decay)
        result._mean = new.value.lerp_(self.value, decay * self.weight / result.weight) if self.weight else new.value
        return result

    def _take_fade(self) -> float:
        """The factor that the old mean gets as a part is added; 0 where there is none yet."""
        fade, self._fade = (0.0 if self._mean is None else self._fade), 1.0
        return fade

    def _buffer(self) -> Tensor:
        if self._mean is None:
            self._mean = torch.empty(self.shape, dtype=self.dtype, device=self.device)
        return self._mean


def add_square(out: Tensor, rows: Tensor, scale: float, fade: float) -> None:
    """out ← fade · out + scale · RᵀR for R [n, d]; a `fade` of 0 reads nothing of `out`."""
    d = rows.shape[1]
    if d < _BLOCKS_FROM:
        out.addmm_(rows.T, rows, beta=fade, alpha=scale)
        return
    ends = [round(i * d / _BLOCKS) for i in range(_BLOCKS + 1)]
    for start, stop in pairwise(ends):
        out[start:stop, start:].addmm_(rows[:, start:stop].T, rows[:, start:], beta=fade, alpha=scale)
        out[stop:, start:stop] = out[start:stop, stop:].T


def patch_moment(x: Tensor, module: nn.Module, *, ones: bool) -> Tensor:
    """Σ p pᵀ over examples and places, p the patch [channels · kernel] a convolution sees; with `ones`, a last 1 added.

    The patches are not formed. Let X_u hold row u of all images, unfolded along the other dimensions alone. The block
    of heights (i, j) in a patch is Σ_y X_{sy+di}ᵀ X_{sy+dj}, and blocks of equal j − i sum the same terms but for the
    first and last few rows: no row is multiplied with another twice. 5×5 patches of 14×14 images then take a fifth
    of the memory of all patches, and less than a quarter of the operations.
    """
    conv: Any = module
    x = padded(x, conv)
    height, stride, dilation = (int(sizes[0]) for sizes in (conv.kernel_size, conv.stride, conv.dilation))
    places = (x.shape[2] - dilation * (height - 1) - 1) // stride + 1
    rows = _unfolded_rows(x, conv)
    phases = [rows[phase::stride].contiguous() for phase in range(min(stride, rows.shape[0]))]

    def window(i: int, start: int, stop: int) -> Tensor:
        """Rows sy + di for y from start to stop, as one matrix."""
        first, phase = divmod(dilation * i, stride)
        return phases[phase][first + start : first + stop].flatten(0, 1)

    period = stride // gcd(stride, dilation)  # windows i and i + period see the same rows, shifted by `shift` places
    shift = dilation * period // stride
    channels, rest = x.shape[1], rows.shape[2] // x.shape[1]
    size = channels * height * rest
    out = x.new_empty(size + ones, size + ones)
    blocks = x.new_empty(channels, height, rest, channels, height, rest)
    for gap in range(height):
        for first in range(min(period, height - gap)):
            members = range(first, height - gap, period)
            common = (len(members) - 1) * shift

            def between(start: int, stop: int, first: int = first, gap: int = gap) -> Tensor:
                return window(first, start, stop).T @ window(first + gap, start, stop)

            # From one member to the next `shift` rows leave in front and as many come behind; all have the core.
            steps = [t * shift for t in range(len(members) - 1)] if common < places else []
            front = [between(start, start + shift) for start in steps]
            behind = [between(places + start, places + start + shift) for start in steps]
            core = between(common, places) if common < places else None
            for t, i in enumerate(members):
                whole = between(t * shift, places + t * shift) if core is None else sum([*front[t:], *behind[:t]], core)
                block = whole.view(channels, rest, channels, rest)
                blocks[:, i, :, :, i + gap] = block
                blocks[:, i + gap, :, :, i] = block.permute(2, 3, 0, 1)
    out[:size, :size] = blocks.view(size, size)
    if ones:
        sums = torch.stack([window(i, 0, places).sum(0) for i in range(height)])
        out[size, :size] = sums.view(height, channels, rest).transpose(0, 1).reshape(-1)
        out[:size, size] = out[size, :size]
        out[size, size] = places * rows.shape[1]
    return out


def _unfolded_rows(x: Tensor, conv: Any) -> Tensor:
    """[rows, examples · places in a row, channels · kernel in a row] of padded images [N, channels, rows, …]."""
    dims = len(conv.kernel_size)
    for i in range(1, dims):
        extent = conv.dilation[i] * (conv.kernel_size[i] - 1) + 1
        x = x.unfold(2 + i, extent, conv.stride[i])[..., :: conv.dilation[i]]
    x = x.permute(2, 0, *range(3, 2 + dims), 1, *range(2 + dims, 1 + 2 * dims))
    rows: Tensor = x.reshape(x.shape[0], x.shape[1 : 1 + dims].numel(), -1)
    return rows
