"""The closure of one step: an objective on a batch, called as torch's optimisers call theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from quadric.core.passes import PASSES
from quadric.core.randomness import RandomState, own_generators
from quadric.objective import batch as batches
from quadric.objective.batch import Batch
from quadric.objective.gradient import GradientGraph, TapedGradient, differentiated
from quadric.objective.isolation import Snapshot
from quadric.objective.linearization import DETACHED, Linearization

if TYPE_CHECKING:
    from quadric.objective.objective import Objective


class Closure:
    """`objective.on(*batches)`: f on these batches, for one step.

    Calling it zeroes the gradients, evaluates, backpropagates and returns the loss, which is what every torch optimiser
    wants of a closure. The first evaluation draws random numbers and updates buffers as any training step does; every
    later one, by whomever, replays the same random numbers and leaves the buffers alone.
    """

    def __init__(self, objective: Objective, data: tuple[Batch, ...]) -> None:
        self.objective = objective
        self.batches = data
        self.spent = False
        self._start: Snapshot | None = None

    def __call__(self) -> Tensor:
        """Set `.grad` of the objective's parameters and return the loss, a 0-d tensor without a graph."""
        parameters = self.objective.parameters
        for p in parameters:
            p.grad = None
        # A reentrant checkpoint can't be told which gradients are wanted, so that is done only where there are others.
        inputs = parameters if self.objective.holds_others() else None

        def backward(batch: Batch) -> tuple[Tensor, float]:
            outputs = self.objective.outputs(batch)
            loss, weight = self.objective.loss_at(outputs, batch), self.objective.weight(outputs, batch)
            if not bool(torch.isfinite(loss)) and weight > 0:
                self.check_data(batch)
            if weight > 0 and isinstance(outputs, Tensor) and outputs.requires_grad and not loss.requires_grad:
                raise ValueError(DETACHED)
            if loss.requires_grad and weight > 0:
                PASSES.backward += 1
                (loss if len(self.batches) == 1 else loss * weight).backward(inputs=inputs)
            return loss.detach(), weight

        with torch.enable_grad():
            loss, total = self._average(backward)
        if len(self.batches) > 1:
            for p in parameters:
                if p.grad is not None:
                    p.grad.div_(total)
        return loss

    def value(self) -> Tensor:
        """The loss alone, without gradients."""

        def evaluate(batch: Batch) -> tuple[Tensor, float]:
            outputs = self.objective.outputs(batch)
            return self.objective.loss_at(outputs, batch), self.objective.weight(outputs, batch)

        with torch.no_grad():
            return self._average(evaluate)[0]

    def linearizations(
        self, parts: Sequence[Batch] | None = None, taped: Sequence[bool] | None = None
    ) -> Iterator[Linearization]:
        """One linearisation per micro-batch, or per given part of them, made as they are asked for.

        `taped` says for each whether tangents will be pushed through it. Those with D_b = 0 are for the caller to skip.
        """
        parts = self.batches if parts is None else parts
        with self._evaluation():
            for i, batch in enumerate(parts):
                yield Linearization(self.objective, batch, taped=taped is None or taped[i])

    def differentiated(self, *, taped: bool = True) -> Iterator[TapedGradient | GradientGraph]:
        """The gradient of each micro-batch made ready for Hessian products, made as they are asked for."""
        with self._evaluation():
            for batch in self.batches:
                yield differentiated(self.objective, batch, taped=taped)

    def separable(self, fraction: float) -> bool:
        """Whether the loss of the single batch is the average over its first `fraction` of examples and the rest.

        It is not where examples meet (BatchNorm in train mode), nor where random numbers would fall otherwise
        (dropout). Cost: two forward passes, which leave no trace.
        """
        if len(self.batches) != 1 or self.batches[0].examples < 2:
            return False
        whole = self.objective.evaluate(self.batches[0])
        parts = self.objective.evaluate(list(self.batches[0].split(fraction)))
        return abs(whole - parts) <= 1e-5 * abs(whole)

    @property
    def random(self) -> RandomState:
        """What every evaluation on this step draws from: the present state, once there has been one that state."""
        if self._start is not None:
            return self._start.random
        return RandomState.now(self.objective.space.device, own_generators(self.objective.model))

    def again(self) -> AbstractContextManager[None]:
        """Within the block buffers and random numbers are a replay's: for passes that may run parts of the model."""
        return self._evaluation()

    def restore_buffers(self) -> None:
        """Undo what the first evaluation did to the model's buffers."""
        if self._start is not None:
            self._start.restore_buffers()

    def check_data(self, batch: Batch) -> None:
        """Raise ValueError if the batch holds NaN or infinity."""
        part = batches.not_finite(batch)
        if part is not None:
            raise ValueError(f"The {part} of this batch hold NaN or infinity; clean or drop these examples.")

    def data_problem(self) -> str | None:
        """A sentence about NaN or infinity in the data, None if there is none."""
        for batch in self.batches:
            part = batches.not_finite(batch)
            if part is not None:
                return f"the {part} of this batch hold NaN or infinity"
        return None

    def _average(self, evaluate: Callable[[Batch], tuple[Tensor, float]]) -> tuple[Tensor, float]:
        """Σ D_b f_b / Σ D_b and Σ D_b."""
        with self._evaluation():
            parts = [part for part in map(evaluate, self.batches) if part[1] > 0]
        total = sum(weight for _, weight in parts)
        if not parts:
            raise ValueError("There is nothing to average over on these batches (every D_b is 0): all targets ignored?")
        if len(self.batches) == 1:
            return parts[0]
        return torch.stack([loss * (weight / total) for loss, weight in parts]).sum(), total

    @contextmanager
    def _evaluation(self) -> Iterator[None]:
        """The first time for real, later times as a replay of the first."""
        model = self.objective.model
        if self._start is not None:
            with self._start.replay(model):
                yield
            return
        self._start = Snapshot.of(model, self.objective.space.device)
        try:
            yield
        except GeneratorExit:
            raise
        except BaseException:
            self._start.restore_buffers()
            self._start.random.restore()
            self._start = None
            raise
