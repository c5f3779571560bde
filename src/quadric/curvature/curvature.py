"""What every curvature operator shares: live parameters, averages over examples, one retained linearisation."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from quadric.core.randomness import RandomState, Seed
from quadric.core.space import Space
from quadric.curvature.retained import Retained
from quadric.objective.batch import NOTHING, Batch, is_batch, not_finite
from quadric.objective.isolation import untouched
from quadric.objective.objective import Objective
from quadric.operators.operator import LinearOperator

Local = TypeVar("Local")


class Curvature(LinearOperator, Generic[Local]):
    """C = Σ D_b C_b / Σ D_b over the batches of `data`, at the parameters as they are at each product.

    On a single batch the linearisation is retained from the second product on, for as long as nothing it depends on has
    changed; an iterable of batches is read again, and linearised again, at each product. The model's random numbers are
    those of `seed` at every product; its mode is used as it is; buffers, `.grad` and the global generators stay as they
    are.
    """

    symmetric = True

    def __init__(self, objective: Objective, data: Any = None, *, seed: Seed = 0) -> None:
        if not isinstance(objective, Objective):
            raise TypeError(
                f"Expected a quadric.Objective, got {type(objective).__name__}: "
                "quadric.Objective(model, loss_fn), or Objective.of(fun, x) for a plain function."
            )
        super().__init__(objective.space)
        self.objective = objective
        self.data = data
        self.seed = seed
        self.routes: tuple[str, ...] = ()
        self._single = data is None or is_batch(data, objective.unpack)
        self.regular = self._single or isinstance(data, (list, tuple))
        """Whether the data are known to be the same at each reading."""
        if self._single:
            for _ in objective.batches(data):
                pass
        self._retained: Retained[Local] = Retained()

    @property
    def domain(self) -> Space:
        """The objective's space, as it is now."""
        return self.objective.space

    codomain = space = domain

    @abstractmethod
    def _local(self, batch: Batch) -> Local:
        """The batch made ready for products; runs the model once."""

    @abstractmethod
    def _product(self, local: Local, v: Sequence[Tensor], retain: bool) -> list[Tensor]:
        """C_b v."""

    @abstractmethod
    def _weight(self, local: Local) -> float:
        """D_b."""

    @abstractmethod
    def _loss(self, local: Local) -> Tensor:
        """f_b."""

    @abstractmethod
    def _route(self, local: Local) -> str:
        """Which way the products of this batch go."""

    def _narrowed(self, local: Local, positions: Sequence[int]) -> Local:
        """The same batch for vectors over some of the parameters; asked for only where the class restricts itself."""
        raise TypeError(f"{type(self).__name__} has no products on some of its parameters alone.")

    def _apply(self, x: Tensor) -> Tensor:
        return self._products(x, self.space)

    def _products(self, x: Tensor, space: Space, positions: Sequence[int] | None = None) -> Tensor:
        """C x, or C[I, I] x with I the parameters at some positions and `space` theirs."""
        columns = [space.unflatten(column) for column in x.unbind(1)]
        if self._single:
            local, retained = self._current(once=len(columns) == 1)
            self.routes = (self._route(local),)
            local = local if positions is None else self._narrowed(local, positions)
            with self._isolated():
                products = [space.flatten(self._product(local, v, retained)) for v in columns]
            return products[0].unsqueeze(1) if len(products) == 1 else torch.stack(products, dim=1)
        total = torch.zeros_like(x)
        weights = 0.0
        routes = set()
        with untouched(self.objective.model, self._random()):
            for batch in self.objective.batches(self.data):
                local = self._checked(batch)
                weight = self._weight(local)
                if weight > 0:
                    local = local if positions is None else self._narrowed(local, positions)
                    for i, v in enumerate(columns):
                        product = self._product(local, v, i + 1 < len(columns))
                        total[:, i].add_(space.flatten(product), alpha=weight)
                    weights += weight
                    routes.add(self._route(local))
        if weights == 0:
            raise ValueError(NOTHING)
        self.routes = tuple(sorted(routes))
        return total.div_(weights)

    def _current(self, once: bool) -> tuple[Local, bool]:
        """The linearisation of the single batch, and whether it is kept for the next product."""
        (batch,) = self.objective.batches(self.data)
        return self._retained.get(self.objective, batch, lambda: self._alone(batch), self.seed, once)

    def _alone(self, batch: Batch) -> Local:
        """The single batch made ready; raises ValueError where D_b is 0, which among others would count for nothing."""
        local = self._checked(batch)
        if self._weight(local) == 0:
            raise ValueError(NOTHING)
        return local

    def _checked(self, batch: Batch) -> Local:
        """The batch made ready; raises ValueError where its loss is not finite."""
        local = self._local(batch)
        loss = self._loss(local)
        if not math.isfinite(loss) and self._weight(local) > 0:
            part = not_finite(batch)
            where = f"the {part} of the batch hold" if part is not None else "the parameters or activations hold"
            raise ValueError(
                f"The loss is {float(loss)}: {where} NaN or infinity, so there is no curvature to speak of."
            )
        return local

    def _isolated(self) -> AbstractContextManager[None]:
        """For products, which run parts of the model again where blocks are checkpointed: buffers stay as they are."""
        model = self.objective.model
        return nullcontext() if next(model.buffers(), None) is None else untouched(model, self._random())

    def _random(self) -> RandomState:
        return RandomState.seeded(self.seed, self.space.device)

    def _transpose(self) -> LinearOperator:
        return self
