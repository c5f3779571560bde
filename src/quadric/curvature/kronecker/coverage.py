"""What each parameter got from K-FAC, and where its block lies among the parameters."""

from __future__ import annotations

from dataclasses import dataclass

from quadric.core.space import Space
from quadric.curvature.kronecker.layers import Layer, Plan
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
}


def covered(layer: Layer, space: Space) -> Covered:
    """What a layer with a form of its own got."""
    form = "dense" if layer.kind == "norm" else "kronecker"
    shared = f", shared by {len(layer.modules)} modules" if len(layer.modules) > 1 else ""
    return Covered(tuple(space.names[p] for p in layer.positions), form, _REASONS[layer.kind] + shared)


def place(layer: Layer, space: Space) -> Selection:
    """Where a layer's block lies: row by row of [W | b] for a weight with a bias, one after the other for a norm."""
    if layer.kind == "norm" or layer.weight is None or layer.bias is None:
        return Selection.of_tensors(space, layer.positions)
    return SideBySide(space, layer.weight, layer.bias)


@dataclass(frozen=True, eq=False)
class Places:
    """Whose block is where: for each block its layer, or the position of the parameter that has a diagonal one."""

    plan: Plan
    owners: tuple[Layer | int, ...]
    partition: Partition
    coverage: Coverage

    @classmethod
    def of(cls, plan: Plan, space: Space) -> Places:
        """The blocks of a plan in the order of the parameters."""
        entries: list[tuple[int, Layer | int, Selection, Covered]] = [
            (layer.positions[0], layer, place(layer, space), covered(layer, space)) for layer in plan.layers
        ]
        entries += [
            (p, p, Selection.of_tensors(space, [p]), Covered((space.names[p],), "diagonal", reason))
            for p, reason in plan.rest.items()
        ]
        entries.sort(key=lambda entry: entry[0])
        _, owners, selections, covers = zip(*entries, strict=True)
        return cls(plan, owners, Partition(space, selections), Coverage(covers))
