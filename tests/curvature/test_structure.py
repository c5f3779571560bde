"""Diagonals and blocks of curvatures: closed forms against the dense matrices."""

import pytest
import torch
from torch import nn

import quadric
import zoo
from oracles import assert_close, ggn
from quadric.curvature.parameter_block import ParameterBlock
from quadric.operators import queries

F64 = torch.float64
KINDS = [quadric.GGN, quadric.Fisher, quadric.EmpiricalFisher]
ALL = pytest.mark.parametrize("kind", KINDS)
COVERED = [
    "dense/mlp",
    "conv/2d",
    "norm/batch-2d-eval",
    "norm/layer",
    "net/tied-embedding",
    "loss/mse",
    "loss/cross-entropy-weights",
    "loss/bce",
    "loss/cross-entropy-all-image",
    "loss/mse-image",
]


def make(kind, name, *sizes):
    case = zoo.CASES[name]
    model, loss_fn = case.build()
    data = case.batches(*sizes) if len(sizes) > 1 else case.batch(sizes[0] if sizes else 4)
    return model, loss_fn, data, kind(quadric.Objective(model, loss_fn), data)


def closed(operator):
    """The closed form alone, None where there is none."""
    return queries.diagonal(operator, quadric.diagonal)


@ALL
@pytest.mark.parametrize("name", COVERED)
def test_diagonal_of_known_layers_is_exact(kind, name):
    if kind is quadric.Fisher and name == "loss/cross-entropy-all-image":
        pytest.skip("its draws are independent position by position, which squares of whole examples are not")
    for sizes in ((4,), (4, 3, 1)):
        _, _, _, operator = make(kind, name, *sizes)
        got = closed(operator)
        assert got.exact
        assert_close(got.values, operator.to_dense().diagonal(), 1e-9)


def test_diagonal_against_the_oracle():
    model, loss_fn, data, operator = make(quadric.GGN, "conv/2d", 4, 3)
    assert_close(closed(operator).values, ggn(model, loss_fn, data).diagonal())


def test_diagonal_of_token_layers_and_embeddings():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.norm, self.mix = nn.Embedding(6, 4, padding_idx=0), nn.LayerNorm(4), nn.Linear(4, 4)
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.mix(self.norm(self.table(x))).tanh().mean(1))

    model, data = Net().double(), (torch.randint(6, (5, 4)), torch.randint(3, (5,)))
    operator = quadric.GGN(quadric.Objective(model, nn.CrossEntropyLoss()), data)
    assert_close(closed(operator).values, ggn(model, nn.CrossEntropyLoss(), data).diagonal())


@pytest.mark.parametrize("name", ["norm/batch-2d-train", "net/weight-used-directly", "loss/lambda"])
def test_no_closed_form_where_it_would_not_be_exact(name):
    model, loss_fn, data, operator = make(quadric.GGN, name)
    assert closed(operator) is None
    assert_close(quadric.diagonal(operator).values, ggn(model, loss_fn, data).diagonal())


def test_examples_that_meet_in_a_way_of_their_own_are_noticed():
    class Centred(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            return y - y.mean(0).tanh()

    model, data = Centred(4, 3).double(), (torch.randn(4, 4, dtype=F64), torch.randint(3, (4,)))
    operator = quadric.GGN(quadric.Objective(model, nn.CrossEntropyLoss()), data)
    assert closed(operator) is None
    for name in ("op/linear-no-bias", "norm/batch-1d-train"):
        _, _, _, operator = make(quadric.GGN, name, 3)
        assert closed(operator) is None


@ALL
@pytest.mark.parametrize("by", ["layer", "parameter"])
@pytest.mark.parametrize("name", ["dense/mlp", "conv/2d", "norm/layer", "net/tied-embedding"])
def test_blocks_are_products_on_their_parameters_alone(kind, by, name):
    for sizes in ((4,), (4, 3)):
        _, _, _, operator = make(kind, name, *sizes)
        dense = operator.to_dense()
        blocks = quadric.block_diagonal(operator, by=by)
        assert all(isinstance(block, ParameterBlock) for block in blocks.blocks)
        for block, selection in zip(blocks.blocks, blocks.selections, strict=True):
            index = selection.indices
            assert_close(block.to_dense(), dense[index][:, index])
            assert block.symmetric
            assert block.positive_semidefinite
        v = torch.randn(dense.shape[0], dtype=F64)
        want = torch.cat([dense[s.indices][:, s.indices] @ v[s.indices] for s in blocks.selections])
        order = torch.cat([s.indices for s in blocks.selections])
        assert_close((blocks @ v)[order], want)


def test_a_block_follows_the_parameters():
    model, loss_fn, data, operator = make(quadric.GGN, "dense/mlp")
    name = operator.space.names[0]
    block = quadric.sub_matrix(operator, name)
    v = torch.ones(block.shape[0], dtype=F64)
    block @ v, block @ v
    next(model.parameters()).data.mul_(1.5)
    assert_close(block @ v, ggn(model, loss_fn, data, name) @ v)


def test_parts_of_a_parameter_are_plain_sub_matrices():
    _, _, _, operator = make(quadric.GGN, "dense/mlp")
    part = quadric.sub_matrix(operator, [0, 2, 5])
    assert not isinstance(part, ParameterBlock)
    assert_close(part.to_dense(), operator.to_dense()[[0, 2, 5]][:, [0, 2, 5]])


def test_centered_and_hessian_blocks_take_the_general_way():
    _, _, data, operator = make(quadric.Hessian, "dense/mlp")
    centered = quadric.EmpiricalFisher(operator.objective, data, centered=True)
    for curvature in (operator, centered):
        dense = curvature.to_dense()
        index = torch.arange(operator.space.numels[0])
        block = quadric.sub_matrix(curvature, operator.space.names[0])
        assert_close(block.to_dense(), dense[index][:, index])
