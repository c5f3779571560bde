"""What each parameter got from K-FAC, and where its block lies among the parameters."""

from __future__ import annotations

from dataclasses import dataclass

from quadric.core.space import Space
from quadric.curvature.kronecker.layers import Block, Plan
from quadric.operators.block_diagonal import Partition
from quadric.operators.selection import Selection
from quadric.operators.side_by_side import SideBySide


@dataclass(frozen=True)
class Covered:
    """One block: its parameters, its form ("kronecker", "dense" or "diagonal") and the reason for it."""

    parameters: tuple[str, ...]
    form: str
    reason: str


@dataclass(frozen=True)
class Coverage:
    """What every parameter got, block by block. `str(coverage)` is a table."""

    blocks: tuple[Covered, ...]

    def of(self, parameter: str) -> Covered:
        """The block of a parameter; raises KeyError for a name that is none."""
        for block in self.blocks:
            if parameter in block.parameters:
                return block
        raise KeyError(f"{parameter!r} is no parameter of this operator.")

    def __str__(self) -> str:
        rows = [(" + ".join(b.parameters), b.form, b.reason) for b in self.blocks]
        widths = [max(len(row[i]) for row in rows) for i in range(2)]
        return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in rows)


_REASONS = {
    "linear": "linear layer",
    "convolution": "convolution, patches as inputs",
    "embedding": "embedding, how often each index occurs as inputs",
    "norm": "scale and shift of a norm, exact block",
    "tied": "embedding tied to a linear layer, one Kronecker product for both",
}


def covered(block: Block, space: Space) -> Covered:
    """What a block with a form of its own got."""
    form = "dense" if block.kind == "norm" else "kronecker"
    modules = sum(len(layer.modules) for layer in block.layers)
    shared = f", shared by {modules} modules" if modules > len(block.layers) else ""
    return Covered(tuple(space.names[p] for p in block.positions), form, _REASONS[block.kind] + shared)


def place(block: Block, space: Space) -> Selection:
    """Where a block lies: row by row of [W | b] for a weight with a bias, one after the other for a norm."""
    if block.kind == "norm" or block.weight is None or block.bias is None:
        return Selection.of_tensors(space, block.positions)
    return SideBySide(space, block.weight, block.bias)


@dataclass(frozen=True, eq=False)
class Places:
    """Whose block is where: for each its layers, or the position of the parameter that has a diagonal one."""

    plan: Plan
    owners: tuple[Block | int, ...]
    partition: Partition
    coverage: Coverage

    @classmethod
    def of(cls, plan: Plan, space: Space) -> Places:
        """The blocks of a plan in the order of the parameters."""
        entries: list[tuple[int, Block | int, Selection, Covered]] = [
            (block.positions[0], block, place(block, space), covered(block, space)) for block in plan.blocks
        ]
        entries += [
            (p, p, Selection.of_tensors(space, [p]), Covered((space.names[p],), "diagonal", reason))
            for p, reason in plan.rest.items()
        ]
        entries.sort(key=lambda entry: entry[0])
        _, owners, selections, covers = zip(*entries, strict=True)
        return cls(plan, owners, Partition(space, selections), Coverage(covers))
