"""Batches as they come: examples elsewhere than in front, packed sequences, graphs, and shares of all those."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence

import quadric
from oracles.derivatives import ggn, gradient
from quadric.objective.batch import take_apart
from quadric.optim import CurveBall

F64 = torch.float64


class LastStep(nn.Module):
    """A classifier of sequences with time in front, packed or not."""

    def __init__(self):
        super().__init__()
        self.cell = nn.RNN(4, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        hidden = self.cell(x)[0]
        return self.head(pad_packed_sequence(hidden)[0].mean(0) if isinstance(x, PackedSequence) else hidden[-1])


class Pooled(nn.Module):
    """Outputs of graphs, from nodes and the graph that each belongs to."""

    def __init__(self):
        super().__init__()
        self.node = nn.Linear(4, 3)

    def forward(self, x, graph):
        return torch.zeros(3, 3, dtype=x.dtype).index_add(0, graph, self.node(x))


class Neighbours(nn.Module):
    def __init__(self):
        super().__init__()
        self.node = nn.Linear(4, 3)

    def forward(self, x, adjacent):
        return self.node(adjacent @ x)


def case(kind):
    if kind == "time in front":
        return LastStep().double(), (torch.randn(7, 6, 4, dtype=F64), torch.randint(0, 3, (6,)))
    if kind == "as much time as examples":
        return LastStep().double(), (torch.randn(6, 6, 4, dtype=F64), torch.randint(0, 3, (6,)))
    if kind == "packed":
        packed = pack_sequence([torch.randn(k, 4, dtype=F64) for k in (5, 4, 3, 3)])
        return LastStep().double(), (packed, torch.randint(0, 3, (4,)))
    if kind == "graphs":
        inputs = torch.randn(8, 4, dtype=F64), torch.arange(8) % 3
        return Pooled().double(), (inputs, torch.randint(0, 3, (3,)))
    adjacent = torch.rand(8, 8, dtype=F64)
    return Neighbours().double(), ((torch.randn(8, 4, dtype=F64), adjacent), torch.randint(0, 3, (8,)))


def whole(model, batch):
    """Model and batch for the oracles, which call `model(inputs)`."""

    class Called(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, _):
            return take_apart(batch).call(self.inner)

    return Called(), (torch.zeros(len(batch[1])), batch[1])


@pytest.mark.parametrize("kind", ["time in front", "packed", "graphs", "neighbours"])
def test_gradient_and_products_need_no_examples_in_front(kind):
    model, batch = case(kind)
    loss_fn = nn.CrossEntropyLoss()
    objective = quadric.Objective(model, loss_fn)
    objective.on(batch)()
    called, data = whole(model, batch)
    g = objective.space.flatten([p.grad for p in model.parameters()])
    assert torch.allclose(g, gradient(called, loss_fn, data), rtol=0, atol=1e-12)
    assert torch.allclose(quadric.GGN(objective, batch).to_dense(), ggn(called, loss_fn, data), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("time in front", r"its 6 examples are not along the first dimension of its inputs \(\[7, 6, 4\]\)"),
        ("as much time as examples", r"loss function failed on 3 examples of a batch.*whole batch"),
        ("packed", r"its 4 examples are not along the first dimension"),
        ("graphs", r"its 3 examples are not along the first dimension of its inputs \(\[8, 4\], \[8\]\)"),
        ("neighbours", r"model failed on 4 examples of a batch.*cannot be multiplied.*whole batch"),
    ],
)
@pytest.mark.parametrize("micro", [1, 2])
def test_a_share_of_such_a_batch_is_refused(kind, message, micro):
    model, batch = case(kind)
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    optimizer = CurveBall(objective, curvature_fraction=0.5)
    with pytest.raises(ValueError, match=message):
        optimizer.step(objective.on(*[batch] * micro))


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("micro", [1, 2])
def test_a_share_with_nothing_to_average_over_is_refused(norm, micro):
    model = nn.Sequential(nn.Linear(4, 3), *([nn.BatchNorm1d(3)] if norm else []))
    targets = torch.tensor([-100, -100, -100, -100, 0, 1, 2, 0])
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    optimizer = CurveBall(objective, curvature_fraction=0.5)
    data = [(torch.randn(8, 4), targets)] * micro
    with pytest.raises(ValueError, match=r"nothing to take the curvature on.*raise curvature_fraction"):
        optimizer.step(objective.on(*data))


def test_tensors_that_belong_to_all_examples_are_not_cut():
    batch = take_apart(({"x": torch.randn(8, 4), "position": torch.arange(5), "scale": torch.tensor(2.0)}, None))
    first, rest = batch.split(0.25)
    assert {k: v.shape for k, v in first.inputs.items()} == {"x": (2, 4), "position": (5,), "scale": ()}
    assert rest.inputs["x"].shape == (6, 4)


def test_two_batches_in_a_list_are_told_from_two_inputs():
    objective = quadric.Objective(nn.Linear(4, 3), nn.CrossEntropyLoss())
    batch = torch.randn(8, 4), torch.zeros(8, dtype=torch.long)
    with pytest.raises(
        TypeError, match=r"got 2 inputs and failed: .*model\(\*inputs\); several batches.*on\(batch1, batch2\)"
    ):
        objective.on([batch, batch])()


def test_where_the_loss_fails_a_difference_in_number_is_told_with_the_loss_s_own_words():
    objective = quadric.Objective(nn.Linear(4, 3), nn.CrossEntropyLoss())
    with pytest.raises(ValueError, match=r"8 inputs, 7 targets.*Expected input batch_size \(8\)"):
        objective.on((torch.randn(8, 4), torch.zeros(7, dtype=torch.long)))()
    with pytest.raises(IndexError, match="out of bounds"):
        objective.on((torch.randn(8, 4), torch.full((8,), 3)))()
