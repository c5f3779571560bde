"""What K-FAC and EKFAC share: a live block-diagonal operator with one block for each layer."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from torch import Tensor

from quadric.core.space import Space
from quadric.curvature.kronecker.calls import Call, recorded
from quadric.curvature.kronecker.coverage import Coverage, Places
from quadric.curvature.kronecker.factors import Factors, Watch, collect, empty
from quadric.curvature.kronecker.layers import Block, Plan, plan
from quadric.curvature.kronecker.passes import KINDS, Source
from quadric.curvature.retained import Retained
from quadric.objective.batch import Batch, is_batch
from quadric.objective.losses import Loss
from quadric.objective.objective import Objective
from quadric.operators.block_diagonal import BlockDiagonal, Partition
from quadric.operators.dense import Dense
from quadric.operators.diagonal import Diagonal
from quadric.operators.operator import LinearOperator


class KroneckerFactored(BlockDiagonal):
    """Kronecker-factored blocks on the diagonal; norms get a dense block, anything else a diagonal one.

    The blocks are computed when first asked for and again when parameters, buffers, modes or the single batch have
    changed; an iterable of batches is read only then. All queries with a closed form for block-diagonal operators and
    their blocks hold.
    """

    symmetric = True
    positive_semidefinite = True

    def __init__(
        self,
        objective: Objective,
        data: Any = None,
        *,
        fisher: str = "exact",
        sharing: str = "expand",
        samples: int = 1,
        seed: int = 0,
    ) -> None:
        if not isinstance(objective, Objective):
            raise TypeError(f"Expected a quadric.Objective, got {type(objective).__name__}: Objective(model, loss_fn).")
        if fisher not in KINDS:
            raise ValueError(f"Expected fisher to be one of {', '.join(map(repr, KINDS))}, got {fisher!r}.")
        if sharing not in ("expand", "reduce"):
            raise ValueError(f"Expected sharing='expand' or sharing='reduce', got {sharing!r}.")
        if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
            raise ValueError(f"Expected samples to be a positive integer, got {samples!r}.")
        _check_loss(objective, fisher)
        LinearOperator.__init__(self, objective.space)
        self.objective = objective
        self.data = data
        self.sharing = sharing
        self.seed = seed
        self._source = Source(fisher, samples, seed)
        self._single = data is not None and is_batch(data, objective.unpack)
        self._retained: Retained[tuple[BlockDiagonal, Coverage]] = Retained()
        self._places: Places | None = None
        self._updates = 0
        self._average: tuple[Plan, Factors] | None = None
        self._built: tuple[BlockDiagonal, Coverage] | None = None
        """The blocks of the running average, where there is one."""

    @property
    def domain(self) -> Space:
        """The objective's space, as it is now."""
        return self.objective.space

    codomain = domain

    @property
    def blocks(self) -> tuple[LinearOperator, ...]:  # type: ignore[override]
        """The blocks, at the parameters as they are now."""
        return self._now()[0].blocks

    @property
    def partition(self) -> Partition:  # type: ignore[override]
        """Where the blocks lie."""
        return self._now()[0].partition

    @property
    def coverage(self) -> Coverage:
        """What each parameter got, and why."""
        return self._now()[1]

    @abstractmethod
    def _block(self, block: Block, factors: Factors, space: Space) -> LinearOperator:
        """A block with Kronecker factors."""

    def _prepare(self, chosen: Plan, factors: Factors) -> None:
        """What must be known of all layers before the first block is made."""

    # ---- a running average in place of the data

    def recorded(self) -> AbstractContextManager[list[Call]]:
        """Within the block the layers' calls are appended to the list: for the `Forward` that an update may take."""
        return recorded(plan(self.objective.model, self.objective.parameters))

    @property
    def side(self) -> int:
        """The largest side of the running average's matrices; 0 where there are none."""
        if self._average is None:
            return 0
        factors = self._average[1]
        shapes = [mean.shape for mean in (*factors.slopes.values(), *factors.inputs.values())]
        return max((shape[0] for shape in shapes if len(shape) == 2), default=0)

    def state(self) -> dict[str, Any]:
        """The running average that updates have made, for `load_state`: tensors and numbers, by parameter position."""
        if self._average is None:
            return {}
        chosen, factors = self._average
        return {"updates": self._updates, "rest": dict(chosen.rest), "factors": factors.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from the running average of `state`, of an operator on the same parameters."""
        if not state:
            return
        whole, rest = plan(self.objective.model, self.objective.parameters), state["rest"]
        chosen = Plan(tuple(layer for layer in whole.layers if not rest.keys() & set(layer.positions)), dict(rest))
        factors = empty(self.space, chosen)
        factors.load_state(state["factors"])
        self._updates = state["updates"]
        self._average = chosen, factors
        self._load_rest(chosen, state)
        self._built = self._assemble(chosen, factors)

    def _load_rest(self, chosen: Plan, state: dict[str, Any]) -> None:
        """What a subclass keeps beside the factors."""

    def _blend(self, batch: Any, decay: float, watch: Watch | None = None) -> tuple[Plan, Factors, Source]:
        """Take a batch's factors into the running average; each update draws anew. `watch` sees its pass."""
        if not 0 <= decay < 1:
            raise ValueError(f"Expected a decay from 0 to below 1, got {decay}.")
        source = replace(self._source, seed=self.seed + self._updates)
        chosen, factors = collect(self.objective, batch, source, self.sharing, watch)
        before = empty(self.space, chosen) if self._average is None else self._average[1]
        if factors.slopes.keys() != before.slopes.keys():
            raise ValueError("This batch uses other layers than those before it: start a new operator.")
        self._average = chosen, before.blended(factors, decay)
        self._updates += 1
        return *self._average, source

    def _apply(self, x: Tensor) -> Tensor:
        return self._now()[0]._apply(x)

    def _now(self) -> tuple[BlockDiagonal, Coverage]:
        if self._built is not None:
            return self._built
        batch = self.objective.batch(self.data) if self._single else Batch((), None, 1)
        value, _ = self._retained.get(self.objective, batch, self._make, self._source.seed, once=False)
        return value

    def _make(self) -> tuple[BlockDiagonal, Coverage]:
        chosen, factors = collect(self.objective, self.data, self._source, self.sharing)
        self._prepare(chosen, factors)
        return self._assemble(chosen, factors)

    def _assemble(self, chosen: Plan, factors: Factors) -> tuple[BlockDiagonal, Coverage]:
        space = self.space
        if self._places is None or self._places.plan != chosen or not self._places.partition.space.same_as(space):
            self._places = Places.of(chosen, space)
        blocks: list[LinearOperator] = []
        for owner, where in zip(self._places.owners, self._places.partition.selections, strict=True):
            if isinstance(owner, int):
                blocks.append(Diagonal(factors.diagonals[owner].value.reshape(-1), where.space))
            elif owner.kind == "norm":
                blocks.append(second_moment(factors.slopes[owner.layers[0]].value, where.space))
            else:
                blocks.append(self._block(owner, factors, where.space))
        return BlockDiagonal(blocks, space, self._places.partition), self._places.coverage


def second_moment(matrix: Tensor, space: Space | None = None) -> Dense:
    """A second moment as an operator that knows it is one."""
    dense = Dense(matrix, space, symmetric=True)
    dense.positive_semidefinite = True
    return dense


def _check_loss(objective: Objective, fisher: str) -> None:
    loss = objective.loss
    if loss is None:
        raise ValueError(
            "The model returns its own loss, so there are no outputs to take gradients in and no K-FAC. Use "
            "quadric.Hessian, or give prediction= and a loss_fn."
        )
    known = type(loss).square_root if fisher == "exact" else type(loss).sample
    if fisher != "empirical" and known in (Loss.square_root, Loss.sample):
        wanted = (
            "one of torch's element-wise losses or cross-entropy"
            if fisher == "exact"
            else "cross-entropy, squared error or binary cross-entropy with logits"
        )
        got = getattr(loss.function, "__name__", type(loss.function).__name__)
        raise ValueError(f'K-FAC with fisher={fisher!r} needs {wanted}, got {got}. Use fisher="empirical".')
