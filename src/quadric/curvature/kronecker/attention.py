"""The projections of `nn.MultiheadAttention`, read off the graph that a call of it leaves.

The module multiplies with its projections by functions, so no hook sees their inputs. Autograd's graph has them: the
node of the matrix product that reads a weight saved its other argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node

PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
"""The weights that attention holds itself: one for query, key and value, or three where keys or values are of other
widths. Of the three each is a layer without a bias, since one bias serves all."""
_FACTORS = {"AddmmBackward0": (1, "_saved_mat1"), "MmBackward0": (0, "_saved_self")}
"""The nodes of x Wᵀ: which argument x is, and the attribute that holds it."""
_PASSES = ("TBackward0", "ToCopyBackward0")
"""What a weight goes through on its way there."""
_SHAPES = ("UnsafeViewBackward0", "ViewBackward0")
"""What lies between a product and the addition of a bias, where that is a call of its own."""


@dataclass(frozen=True)
class Rows:
    """How the rows of a projection lie: those of all examples at the first place, then at the second, …"""

    examples: int

    def by_example(self, rows: Tensor) -> Tensor:
        """[places · examples, d] as [examples, places, d]."""
        return rows.reshape(-1, self.examples, rows.shape[-1]).transpose(0, 1)


@dataclass(frozen=True, eq=False)
class Projection:
    """One projection met in a call: its weight, the edges of its output and of x, and where x is to be had."""

    weight: Tensor
    output: GradientEdge
    source: GradientEdge | None
    product: Node
    rows: Rows

    def x(self) -> Tensor:
        """What the weight was multiplied with. A checkpointed block is run again for it."""
        saved: Tensor = getattr(self.product, _FACTORS[self.product.name()][1])
        return saved.detach()


def is_stock(module: nn.Module) -> bool:
    """Whether a module is torch's attention, whose projections see places before examples; a subclass may do else."""
    own = "forward" in vars(module)
    return (
        isinstance(module, nn.MultiheadAttention) and type(module).forward is nn.MultiheadAttention.forward and not own
    )


def projections(
    attention: nn.MultiheadAttention, query: Tensor, inputs: Iterable[Any], output: Tensor, weights: Iterable[Tensor]
) -> Iterator[Projection]:
    """The projections met in one call with these `inputs`, from the output down to them.

    A packed weight that is cut (query and key differ) is not met.
    """
    rows = Rows(1 if query.dim() < 3 else query.shape[0 if attention.batch_first else 1])
    wanted = {id(weight) for weight in weights}
    seen = {t.grad_fn for t in inputs if isinstance(t, Tensor)}
    open_ = [output.grad_fn]
    while open_:
        node = open_.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        product = _product(node)
        weight = None if product is None else _variable(product.next_functions[-1][0])
        if product is None or weight is None or id(weight) not in wanted:
            open_ += [after for after, _ in node.next_functions]
            continue
        seen.add(product)
        before, number = product.next_functions[_FACTORS[product.name()][0]]
        source = None if before is None else GradientEdge(before, number)
        yield Projection(weight, GradientEdge(node, 0), source, product, rows)
        open_.append(before)


def _product(node: Node) -> Node | None:
    """The matrix product that a node is, or that it adds a leaf to."""
    if node.name() == "AddBackward0" and _variable(node.next_functions[1][0]) is not None:
        before = node.next_functions[0][0]
        while before is not None and before.name() in _SHAPES:
            before = before.next_functions[0][0]
        return before if before is not None and before.name() == "MmBackward0" else None
    return node if node.name() in _FACTORS else None


def _variable(node: Node | None) -> Tensor | None:
    """The leaf that a chain of nodes with one argument each comes from."""
    while node is not None and node.name() in _PASSES:
        node = node.next_functions[0][0]
    return getattr(node, "variable", None)
