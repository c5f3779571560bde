"""The block-diagonal part of an operator, blocks by layer, by parameter or as the user groups them."""

from __future__ import annotations

from collections.abc import Iterable

from quadric.core.space import Space
from quadric.operators.block_diagonal import BlockDiagonal
from quadric.operators.dense import Dense
from quadric.operators.operator import LinearOperator
from quadric.operators.selection import Selection, Wanted, select
from quadric.operators.sub_matrix import principal


def block_diagonal(
    operator: LinearOperator, by: str | Iterable[Wanted] = "layer", *, dense: bool = False
) -> BlockDiagonal:
    """diag(A[I₁, I₁], A[I₂, I₂], …) for a partition I₁, I₂, … of the coordinates.

    `by` is "layer" (a layer is a module that owns parameters directly), "parameter", or groups: a list whose members
    are lists of parameter names, or of integer indices of the flat vector, that cover all coordinates once.

    Blocks are views by default: a product of the whole takes one product of A for each block, at the parameters as they
    are then. `dense=True` forms each block now, by as many products as it has columns; the whole is never formed.
    Raises ValueError where groups don't cover the space once, and where a space has no layers.
    """
    selections = _partition(operator.space, by)
    blocks = [principal(operator, selection) for selection in selections]
    if dense:
        blocks = [_formed(block) for block in blocks]
    return BlockDiagonal(blocks, operator.space, selections)


def _formed(block: LinearOperator) -> Dense:
    """The block as a matrix that keeps its claims."""
    matrix = block._dense()
    formed = Dense((matrix + matrix.T) / 2 if block.symmetric else matrix, block.space)
    formed.positive_semidefinite = block.positive_semidefinite
    return formed


def _partition(space: Space, by: str | Iterable[Wanted]) -> list[Selection]:
    if not isinstance(by, str):
        return [select(space, group) for group in by]
    if by == "parameter":
        return [Selection.of_tensors(space, [i]) for i in range(len(space.names))]
    if by == "layer":
        if len(space.layers) != len(space.names):
            raise ValueError(f"The space of {len(space.names)} tensors has no layers; pass by='parameter' or groups.")
        members: dict[str, list[int]] = {}
        for i, layer in enumerate(space.layers):
            members.setdefault(layer, []).append(i)
        return [Selection.of_tensors(space, positions) for positions in members.values()]
    raise ValueError(f"Expected by='layer', by='parameter' or a list of groups, got {by!r}.")
