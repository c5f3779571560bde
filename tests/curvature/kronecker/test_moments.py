"""Second moments against the matrices they are products of."""

import pytest
import torch
from torch import nn

from oracles import assert_close
from quadric.curvature.kronecker.layers import patches
from quadric.curvature.kronecker.moments import Mean, patch_moment

F64 = torch.float64


@pytest.mark.parametrize("ones", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "size"),
    [
        ((5, 5), (1, 1), (2, 2), (1, 1), (9, 7)),
        ((3, 2), (2, 1), (1, 0), (1, 2), (8, 6)),
        ((5, 1), (2, 3), (2, 1), (3, 1), (17, 5)),
        ((4, 3), (3, 2), (0, 0), (2, 1), (13, 7)),
        ((3, 3), (4, 4), (1, 1), (1, 1), (9, 9)),
        ((4, 4), (1, 1), (0, 0), (1, 1), (4, 4)),  # one place
        ((5, 5), (1, 1), (2, 2), (1, 1), (3, 3)),  # patches higher than the image: nothing in common
        ((1, 1), (2, 2), (0, 0), (1, 1), (5, 5)),
        ((3,), (2,), (1,), (2,), (11,)),
        ((2, 3, 2), (1, 2, 1), (1, 0, 1), (2, 1, 1), (6, 5, 4)),
    ],
)
def test_patch_moment(kernel, stride, padding, dilation, size, ones):
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(kernel) - 1](3, 2, kernel, stride, padding, dilation).double()
    x = torch.randn(4, 3, *size, dtype=F64)
    rows = patches(x, conv).flatten(0, 1)
    rows = torch.cat([rows, torch.ones_like(rows[:, :1])], 1) if ones else rows
    found = patch_moment(x, conv, ones=ones)
    assert_close(found, rows.T @ rows, 1e-13)


def test_patch_moment_of_an_outlier_in_the_border_keeps_the_small_entries():
    """Nothing is subtracted, so a huge first row doesn't drown the blocks that don't see it."""
    conv, x = nn.Conv1d(1, 1, 3).double(), torch.randn(2, 1, 9, dtype=F64)
    x[:, :, 0] = 1e9
    rows = patches(x, conv).flatten(0, 1)
    found = patch_moment(x, conv, ones=False)
    assert_close(found[1:, 1:], (rows.T @ rows)[1:, 1:], 1e-13)


@pytest.mark.parametrize("width", [5, 301])
@pytest.mark.parametrize("ones", [False, True])
def test_mean_of_squares_as_it_grows(width, ones):
    """Σ_b D_b R_bᵀR_b / Σ D_b, with parts that come to the same count, and counts without parts."""
    parts = [torch.randn(n, width, dtype=F64) for n in (4, 3, 6)]
    weights = [2.0, 0.5, 3.0]
    mean = Mean((width + ones,) * 2, F64, torch.device("cpu"))
    mean.count(1.5)  # a batch in which the layer was not called
    for rows, weight in zip(parts, weights, strict=True):
        mean.count(weight)
        mean.add_squares(rows, weight, ones=ones)
    mean.add_squares(parts[0], 0.25, ones=ones)
    mean.count(1.0)
    full = [torch.cat([rows, torch.ones_like(rows[:, :1])], 1) if ones else rows for rows in parts]
    want = sum(w * r.T @ r for w, r in zip(weights, full, strict=True)) + 0.25 * full[0].T @ full[0]
    assert_close(mean.value, want / 8.0, 1e-13)


def test_blending_starts_in_full_and_leaves_the_old_mean_alone():
    def mean_of(rows):
        mean = Mean((3, 3), F64, torch.device("cpu"))
        mean.count(len(rows))
        mean.add_squares(rows)
        return mean

    a, b = torch.randn(4, 3, dtype=F64), torch.randn(5, 3, dtype=F64)
    first = Mean((3, 3), F64, torch.device("cpu")).blended(mean_of(a), 0.9)
    kept = first.value.clone()
    assert_close(kept, a.T @ a / 4)
    second = first.blended(mean_of(b), 0.9)
    assert_close(second.value, (0.09 * a.T @ a / 4 + 0.1 * b.T @ b / 5) / 0.19)
    assert torch.equal(first.value, kept)
