"""Blocks by layer, parameter and group; selections and what they refuse."""

import pytest
import torch
from torch import nn

import quadric
from operators.suite import F64, random, spd
from oracles import assert_close, hessian
from quadric.core.space import Space
from quadric.linalg import inverse
from quadric.operators import (
    BlockDiagonal,
    Dense,
    Diagonal,
    EigenKronecker,
    Kronecker,
    LowRank,
    block_diagonal,
    sub_matrix,
)


def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    batch = random(6, 3), random(6, 2, seed=2)
    objective = quadric.Objective(model, nn.MSELoss())
    return model, batch, quadric.Hessian(objective, batch), hessian(model, nn.MSELoss(), batch)


def blocks_of(matrix, sizes):
    out, at = torch.zeros_like(matrix), 0
    for size in sizes:
        out[at : at + size, at : at + size] = matrix[at : at + size, at : at + size]
        at += size
    return out


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize(("by", "sizes"), [("layer", [16, 10]), ("parameter", [12, 4, 8, 2])])
def test_blocks_of_a_hessian(by, sizes, dense):
    _, _, operator, matrix = network()
    got = block_diagonal(operator, by=by, dense=dense)
    assert [block.shape[0] for block in got.blocks] == sizes
    want = blocks_of(matrix, sizes)
    assert_close(got.to_dense(), want, 1e-10)
    x = random(26, 2)
    assert_close(got @ x, want @ x, 1e-10)
    assert got.symmetric


def test_an_expression_still_knows_its_layers():
    _, _, operator, matrix = network()
    whole = 2 * operator + 0.5 * quadric.identity_like(operator)
    got = block_diagonal(whole, by="layer")
    assert_close(got.to_dense(), 2 * blocks_of(matrix, [16, 10]) + 0.5 * torch.eye(26, dtype=F64), 1e-10)
    assert [block.space.names for block in got.blocks] == [("0.weight", "0.bias"), ("2.weight", "2.bias")]
    assert got.space.layers == ("0", "0", "2", "2")
    damped = inverse(got, 10.0)
    assert isinstance(damped, BlockDiagonal)
    assert damped.space.layers == ("0", "0", "2", "2")
    assert_close(damped.to_dense(), torch.linalg.inv(got.to_dense() + 10 * torch.eye(26, dtype=F64)), 1e-10)


def test_blocks_by_name_keep_their_order():
    _, _, operator, matrix = network()
    got = block_diagonal(operator, by=[["2.bias", "0.bias"], ["0.weight", "2.weight"]])
    index = torch.tensor([24, 25, 12, 13, 14, 15])
    assert_close(got.blocks[0].to_dense(), matrix[index][:, index], 1e-10)
    assert_close((got @ random(26))[index], matrix[index][:, index] @ random(26)[index], 1e-10)


def test_views_are_live_and_dense_blocks_are_not():
    model, batch, operator, matrix = network()
    views, formed = block_diagonal(operator), block_diagonal(operator, dense=True)
    with torch.no_grad():
        model[0].weight.mul_(1.5)
    now = hessian(model, nn.MSELoss(), batch)
    assert_close(views.to_dense(), blocks_of(now, [16, 10]), 1e-10)
    assert_close(formed.to_dense(), blocks_of(matrix, [16, 10]), 1e-10)


def test_a_block_is_taken_by_as_many_products_as_it_has_columns():
    class Counting(Dense):
        columns = 0

        def _apply(self, x):
            Counting.columns += x.shape[1]
            return super()._apply(x)

    class Opaque(quadric.LinearOperator):
        symmetric = True

        def __init__(self, inner):
            super().__init__(inner.domain)
            self.inner = inner

        def _apply(self, x):
            return self.inner._apply(x)

        def _transpose(self):
            return self

    operator = Opaque(Counting(spd(30)))
    block_diagonal(operator, by=[range(20), range(20, 30)], dense=True)
    assert Counting.columns == 30


def test_a_block_of_a_block_diagonal_operator_is_that_block():
    first, second = Dense(spd(2)), Dense(spd(3))
    got = block_diagonal(BlockDiagonal([first, second]), by=[[0, 1], [2, 3, 4]])
    assert got.blocks[0] is first
    assert got.blocks[1] is second


def test_matrix_free_blocks_solve_large_systems():
    n = 2_500
    operator = LowRank(random(2 * n, 5), torch.ones(5, dtype=F64)) @ Diagonal(torch.ones(2 * n, dtype=F64))
    operator = quadric.operators.claim_symmetric(operator, positive_semidefinite=True)
    blocks = block_diagonal(operator, by=[range(n), range(n, 2 * n)])
    x = random(2 * n)
    solved = inverse(blocks, 1.0) @ x
    assert_close(blocks @ solved + solved, x, 1e-5)


def test_a_joint_space_knows_its_parts():
    _, _, operator, _ = network()
    parts = block_diagonal(operator).blocks
    again = BlockDiagonal(parts)
    assert again.space.names == operator.space.names
    assert again.space.layers == operator.space.layers


REFUSED = [
    (lambda o: block_diagonal(o, by="rows"), "Expected by='layer', by='parameter' or a list of groups, got 'rows'"),
    (lambda o: block_diagonal(o, by=[["0.weight"]]), "14 are in no block and 0 in more than one"),
    (lambda o: block_diagonal(o, by=[range(26), [3]]), "0 are in no block and 1 in more than one"),
    (lambda o: block_diagonal(o, by=[["0.weigth"]]), r"Unknown tensors \['0.weigth'\]; the space has \['0.weight'"),
    (lambda o: block_diagonal(o, by=[[]]), "got an empty selection"),
    (lambda o: sub_matrix(o, [0, 26]), "Expected indices from 0 to 25, got 0 to 26"),
    (lambda o: sub_matrix(o, [-1]), "Expected indices from 0 to 25, got -1 to -1"),
    (lambda o: sub_matrix(o, [1, 1]), "Expected distinct indices, got 1 repeated"),
    (lambda o: sub_matrix(o, ["0.bias", "0.bias"]), "Expected distinct names"),
    (lambda o: sub_matrix(o, torch.tensor([0.5])), "Expected a list of integer indices, got torch.float32"),
    (lambda o: sub_matrix(o, [1.5]), r"Expected names of tensors or integer indices, got \['float'\]"),
    (lambda o: BlockDiagonal([]), "Expected at least one block"),
    (lambda o: BlockDiagonal([o], o.space, []), "Expected a selection for each of 1 blocks, got 0"),
    (lambda o: BlockDiagonal([Dense(spd(2)), Dense(spd(2).float())]), "Block 1 acts on 2 numbers of torch.float32"),
    (lambda o: BlockDiagonal([Dense(random(2, 3))]), "has a domain and a codomain, not one space"),
    (lambda o: Diagonal(torch.ones(2, 2)), r"Expected a floating-point vector \[n\], got \[2, 2\]"),
    (lambda o: Diagonal(torch.ones(3), o.space), "with n = 26, got shape"),
    (lambda o: Diagonal(torch.ones(3, dtype=torch.long)), "Expected a floating-point vector"),
    (lambda o: Dense(torch.ones(3)), r"Expected a floating-point matrix \[m, n\], got \[3\]"),
    (lambda o: Dense("a"), "Expected a floating-point matrix"),
    (lambda o: Dense(spd(3), o.space), r"Expected a matrix of shape \[26, 26\] for these spaces, got \[3, 3\]"),
    (lambda o: LowRank(random(4, 2), random(3)), r"Expected vectors \[n, r\] and values \[r\], got \[4, 2\] and \[3\]"),
    (lambda o: Kronecker(spd(2), spd(2).float()), "Factors must agree in dtype and device"),
    (lambda o: Kronecker(spd(2), spd(2), o.space), r"make an operator of shape \(4, 4\), the spaces given are for"),
    (lambda o: EigenKronecker(spd(2), spd(3), random(3, 2)), r"eigenvalues \[a, b\], got shapes \[2, 2\], \[3, 3\]"),
]


@pytest.mark.parametrize(("build", "message"), REFUSED)
def test_refusals(build, message):
    _, _, operator, _ = network()
    with pytest.raises((ValueError, TypeError), match=message):
        build(operator)


def test_a_space_without_layers():
    space = Space(("a", "b"), (torch.Size([2]), torch.Size([1])), (F64, F64), torch.device("cpu"))
    with pytest.raises(ValueError, match="The space of 2 tensors has no layers; pass by='parameter' or groups"):
        block_diagonal(Dense(spd(3), space))
    assert_close(block_diagonal(Dense(spd(3), space), by="parameter").to_dense(), blocks_of(spd(3), [2, 1]))


def test_mixed_dtypes_keep_the_dtype_of_the_whole():
    space = Space(("a", "b"), (torch.Size([2]), torch.Size([1])), (torch.float32, F64), torch.device("cpu"), ("x", "y"))
    got = block_diagonal(Dense(spd(3), space))
    assert got.blocks[0].dtype == F64
    assert_close(got.to_dense(), blocks_of(spd(3), [2, 1]))


def test_a_sum_takes_the_names_of_the_part_that_has_them():
    _, _, operator, matrix = network()
    for whole in (Diagonal(torch.ones(26, dtype=F64)) + operator, operator + Diagonal(torch.ones(26, dtype=F64))):
        got = block_diagonal(whole)
        assert_close(got.to_dense(), blocks_of(matrix, [16, 10]) + torch.eye(26, dtype=F64), 1e-10)


def test_a_square_sub_matrix_off_the_diagonal_claims_nothing():
    operator = LowRank(random(6, 2), torch.ones(2, dtype=F64))
    got = sub_matrix(operator, [0, 1], [2, 3])
    assert not got.symmetric
    assert not got.positive_semidefinite
    assert_close(got.T.to_dense(), operator.to_dense()[[2, 3]][:, [0, 1]], 1e-12)
