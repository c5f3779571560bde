"""The examples that are inspected: limits, micro-batches, and what is held in memory."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from quadric.bench.inspection.examples import Examples
from quadric.objective.batch import Batch

CPU = torch.device("cpu")
X, Y = torch.arange(20.0).reshape(10, 2), torch.arange(10)


def loader():
    return DataLoader(TensorDataset(X, Y), batch_size=4)


def targets(batches):
    return [batch.targets.tolist() for batch in batches]


@pytest.mark.parametrize(
    ("limit", "microbatch", "expected"),
    [
        (None, None, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]),
        (6, None, [[0, 1, 2, 3], [4, 5]]),
        (8, None, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (None, 3, [[0, 1, 2], [3], [4, 5, 6], [7], [8, 9]]),
        (5, 3, [[0, 1, 2], [3], [4]]),
        (99, 99, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]),
    ],
)
def test_limits_and_micro_batches(limit, microbatch, expected):
    examples = Examples(loader(), None, CPU, limit, microbatch)
    assert targets(examples) == expected
    assert targets(examples) == expected  # read anew
    assert [batch.examples for batch in examples] == [len(part) for part in expected]
    assert [batch.inputs[:, 0].tolist() for batch in examples] == [[2.0 * i for i in part] for part in expected]


def test_dictionaries_are_cut_in_all_their_tensors():
    batch = {"x": X, "mask": torch.ones(10, 3), "scale": torch.tensor(2.0)}
    examples = Examples(batch, lambda b: (b, None), CPU, None, 6)
    first, last = examples
    assert {name: tuple(t.shape) for name, t in last.inputs.items()} == {"x": (4, 2), "mask": (4, 3), "scale": ()}
    assert first.targets is None


def test_what_lies_in_memory_is_held_and_a_loader_is_read_anew():
    assert isinstance(Examples((X, Y), None, CPU).held(), Batch)
    assert targets(Examples((X, Y), None, CPU, None, 5).held()) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert isinstance(Examples([(X, Y), (X, Y)], None, CPU).held(), list)
    lazy = Examples(loader(), None, CPU)
    assert lazy.held() is lazy


def test_examples_that_lie_elsewhere_are_not_cut():
    batch = (torch.zeros(7, 3), torch.zeros(3))  # time in front
    with pytest.raises(ValueError, match=r"are not along the first dimension .*no micro-batches"):
        list(Examples(batch, None, CPU, None, 2))
