"""Block-diagonal operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import TypeVar

import torch
from torch import Tensor

from quadric.core.space import Space
from quadric.operators import queries
from quadric.operators.claims import inherit
from quadric.operators.definiteness import NotPositiveDefinite
from quadric.operators.diagonal import Diagonal
from quadric.operators.estimate import Estimate
from quadric.operators.operator import LinearOperator
from quadric.operators.selection import Selection

Answer = TypeVar("Answer")


class Partition:
    """Selections that cover each coordinate of a space once; ValueError where they don't."""

    def __init__(self, space: Space, selections: Sequence[Selection]) -> None:
        self.space = space
        self.selections = tuple(selections)
        slices = [selection.slices for selection in self.selections]
        if None not in slices:
            ends = sorted((part.start, part.stop) for parts in slices for part in parts or ())
            if [start for start, _ in ends] + [space.numel] == [0] + [stop for _, stop in ends]:
                return
        taken = torch.cat([selection.indices for selection in self.selections])
        times = torch.bincount(taken, minlength=space.numel)
        if times.numel() != space.numel or not bool((times == 1).all()):
            missing, double = int((times[: space.numel] == 0).sum()), int((times > 1).sum())
            raise ValueError(
                f"Blocks must cover each of the {space.numel} coordinates once; {missing} are in no block and {double} "
                "in more than one."
            )

    def check(self, spaces: Sequence[Space]) -> None:
        """Raise ValueError unless blocks on these spaces fit the selections."""
        space = self.space
        for i, (inner, selection) in enumerate(zip(spaces, self.selections, strict=True)):
            count = selection.space.numel
            if (inner.numel, inner.dtype, inner.device) != (count, space.dtype, space.device):
                raise ValueError(
                    f"Block {i} acts on {inner.numel} numbers of {inner.dtype} on {inner.device}; its place in the "
                    f"block-diagonal operator holds {count} of {space.dtype} on {space.device}."
                )


class BlockDiagonal(LinearOperator):
    """diag(A₁, A₂, …): each square block acts on coordinates of its own.

    Without `selections` the blocks act on consecutive slices, and the space is theirs joined. With them, block i acts
    on the coordinates `selections[i]` of `space`, in that order; together they must cover the space once.
    """

    def __init__(
        self,
        blocks: Sequence[LinearOperator],
        space: Space | None = None,
        selections: Sequence[Selection] | Partition | None = None,
    ) -> None:
        if not blocks:
            raise ValueError("Expected at least one block, got none.")
        spaces = [block.space for block in blocks]
        space = space or _joined(spaces)
        super().__init__(space)
        self.blocks = tuple(blocks)
        chosen = selections.selections if isinstance(selections, Partition) else selections
        chosen = _consecutive(spaces) if chosen is None else chosen
        if len(chosen) != len(blocks):
            raise ValueError(f"Expected a selection for each of {len(blocks)} blocks, got {len(chosen)}.")
        self.partition = selections if isinstance(selections, Partition) else Partition(space, chosen)
        self.partition.check(spaces)
        inherit(self, *blocks)

    @property
    def selections(self) -> tuple[Selection, ...]:
        """The coordinates that each block acts on."""
        return self.partition.selections

    def _apply(self, x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        for block, selection in zip(self.blocks, self.selections, strict=True):
            selection.write(block._apply(selection.take(x)), out)
        return out

    def _transpose(self) -> LinearOperator:
        return self.map(lambda block: block.T)

    def _dense(self) -> Tensor:
        out = torch.zeros(self.shape, dtype=self.dtype, device=self.device)
        for block, selection in zip(self.blocks, self.selections, strict=True):
            index = selection.indices
            out[index.unsqueeze(1), index] = block._dense()
        return out

    def map(self, function: Callable[[LinearOperator], LinearOperator]) -> BlockDiagonal:
        """The operator with each block replaced by a function of it, of the same shape."""
        return BlockDiagonal(self.each(function), self.space, self.partition)

    def each(self, function: Callable[[LinearOperator], Answer]) -> list[Answer]:
        """A function of each block; of those that are not positive definite the one with the smallest eigenvalue is
        reported."""
        answers, failures = [], []
        for block in self.blocks:
            try:
                answers.append(function(block))
            except NotPositiveDefinite as failure:
                failures.append(failure)
        if failures:
            raise min(failures, key=lambda failure: failure.smallest)
        return answers


def _joined(spaces: Sequence[Space]) -> Space:
    """The direct sum of spaces, tensor after tensor."""
    if len(spaces) == 1:
        return spaces[0]
    return Space(
        tuple(name for space in spaces for name in space.names),
        tuple(shape for space in spaces for shape in space.shapes),
        tuple(dtype for space in spaces for dtype in space.dtypes),
        spaces[0].device,
        tuple(layer for space in spaces for layer in space.layers),
        spaces[0].group,
    )


def _consecutive(spaces: Sequence[Space]) -> list[Selection]:
    ends = list(accumulate((space.numel for space in spaces), initial=0))
    return [Selection(space, slice(*ab)) for space, ab in zip(spaces, pairwise(ends), strict=True)]


@queries.diagonal.register(BlockDiagonal)
def _diagonal(operator: BlockDiagonal, recurse: Callable[[LinearOperator], Diagonal]) -> Diagonal:
    parts = [recurse(block) for block in operator.blocks]
    values = torch.empty(operator.shape[0], dtype=operator.dtype, device=operator.device)
    error = torch.empty_like(values)
    for part, selection in zip(parts, operator.selections, strict=True):
        selection.write(part.values, values)
        selection.write(part.standard_error, error)
    return Diagonal(
        values, operator.space, None if all(part.exact for part in parts) else error,
        products=sum(part.products for part in parts), converged=all(part.converged for part in parts),
    )  # fmt: skip


@queries.trace.register(BlockDiagonal)
def _trace(operator: BlockDiagonal, recurse: Callable[[LinearOperator], Estimate]) -> Estimate:
    return sum((recurse(block) for block in operator.blocks), Estimate(0.0))


@queries.inverse.register(BlockDiagonal)
def _inverse(
    operator: BlockDiagonal, shift: float, recurse: Callable[[LinearOperator, float], LinearOperator]
) -> LinearOperator:
    return operator.map(lambda block: recurse(block, shift))


@queries.logdet.register(BlockDiagonal)
def _logdet(operator: BlockDiagonal, shift: float, recurse: Callable[[LinearOperator, float], Estimate]) -> Estimate:
    return sum(operator.each(lambda block: recurse(block, shift)), Estimate(0.0))


@queries.square_root.register(BlockDiagonal)
def _square_root(
    operator: BlockDiagonal, shift: float, recurse: Callable[[LinearOperator, float], LinearOperator]
) -> LinearOperator:
    return operator.map(lambda block: recurse(block, shift))


@queries.restrict.register(BlockDiagonal)
def _restrict(operator: BlockDiagonal, selection: Selection) -> LinearOperator | None:
    matches = (b for b, s in zip(operator.blocks, operator.selections, strict=True) if s.same_as(selection))
    return next(matches, None)
