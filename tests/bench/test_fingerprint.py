"""The fingerprint of what a run starts from."""

from dataclasses import replace

import torch

from bench.small import digits
from quadric.bench.fingerprint import fingerprint


def test_it_repeats_and_any_bit_of_weights_or_data_changes_it():
    _, draw = digits()
    first = fingerprint(draw(0))
    assert len(first) == 12
    assert fingerprint(draw(0)) == first != fingerprint(draw(1))
    weights = draw(0)
    with torch.no_grad():
        next(weights.model.parameters())[0, 0] += 1e-7
    assert fingerprint(weights) != first
    x, y = draw(0).test[-1]
    assert fingerprint(replace(draw(0), test=[*draw(0).test[:-1], (x, y + 1)])) != first
