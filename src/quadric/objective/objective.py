"""The objective: model + loss function (+ a subset of parameters), f(w; batch), a mean over examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from copy import copy
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from quadric.core.passes import PASSES
from quadric.core.precision import as_models_run
from quadric.core.randomness import RandomState
from quadric.core.space import Space
from quadric.objective import batch as batches
from quadric.objective.batch import NOTHING, Batch, Unpack
from quadric.objective.closure import Closure
from quadric.objective.linearization import Linearization
from quadric.objective.losses import Loss, recognise


class Objective:
    """f(w; batch) = loss_fn(model(inputs), targets), differentiable in the chosen parameters w.

    Args:
        model: any `nn.Module`; its train/eval mode is yours and is never changed.
        loss_fn: `loss_fn(outputs, targets)` → scalar, the mean over the batch's examples.
        params: names or globs of the parameters that make up w ("head.*"); all that require gradients by default.
        unpack: how to take a batch apart, `batch -> (inputs, targets)`; by default a pair.
        prediction: which part of structured outputs goes to the loss and is linearised, `outputs -> tensor`.
        loss_of: for a model that returns its own loss, `outputs -> loss`; then `loss_fn` is None, Hessian products
            work and Gauss–Newton products are refused.
        normalizer: what the loss's mean divides by on a batch, `batch -> number`; by default read off torch's losses
            (elements, targets not ignored, class weights), the number of examples for any other.

    Over several batches f = Σ D_b f_b / Σ D_b with D_b that normaliser. A batch with D_b = 0 contributes nothing.
    Raises ValueError when there is no trainable parameter, a name matches none, or devices differ.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Callable[[Any, Any], Tensor] | None,
        *,
        params: str | Sequence[str] | None = None,
        unpack: Unpack | None = None,
        prediction: Callable[[Any], Tensor] | None = None,
        loss_of: Callable[[Any], Tensor] | None = None,
        normalizer: Callable[[Any], float] | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"Expected a torch.nn.Module, got {type(model).__name__}; Objective.of(fun, x) takes a plain function."
            )
        if (loss_fn is None) == (loss_of is None):
            raise ValueError("Give either loss_fn(outputs, targets) or loss_of(outputs), the loss the model returns.")
        self.model = model
        self.loss: Loss | None = None if loss_fn is None else recognise(loss_fn)
        self.unpack = unpack
        self.prediction = prediction
        self._loss_of = loss_of
        self.normalizer = normalizer
        self.names, self.parameters = _select(model, params)
        self._space: Space | None = None
        self.space  # noqa: B018 - devices are checked now

    @classmethod
    def of(cls, fun: Callable[[Tensor], Tensor], x: Tensor) -> Objective:
        """A plain function of a tensor as an objective without data; it starts at `x` and shares its memory.

        `fun` returns a scalar f or a vector of residuals r, which means f = ½‖r‖² (as SciPy's least_squares). Where it
        is a module, its own parameters are constants.
        """
        return cls(_Plain(fun, x), _half_squared_norm, params="x", normalizer=lambda _: 1.0)

    @property
    def space(self) -> Space:
        """The vector space of w: names, shapes, layers; `flatten` and `unflatten`."""
        seen = self._space
        shapes = tuple([p.shape for p in self.parameters])
        dtypes = tuple([p.dtype for p in self.parameters])
        device = _one_device(self.names, self.parameters)
        if seen is None or seen.shapes != shapes or seen.dtypes != dtypes or seen.device != device:
            layers = tuple(name.rpartition(".")[0] for name in self.names)
            self._space = seen = Space(self.names, shapes, dtypes, device, layers)
        return seen

    def narrowed(self, positions: Sequence[int]) -> Objective:
        """The same objective as a function of the parameters at some positions alone; the others are constants."""
        if list(positions) == list(range(len(self.parameters))):
            return self
        narrow = copy(self)
        narrow.names = tuple(self.names[p] for p in positions)
        narrow.parameters = tuple(self.parameters[p] for p in positions)
        return narrow

    def holds_others(self) -> bool:
        """Whether the model, or a module that the loss function is or holds, has trainable parameters beside w."""
        chosen = {id(p) for p in self.parameters}
        modules = [self.model, *_modules_of(self.loss.function if self.loss is not None else self._loss_of)]
        return any(p.requires_grad and id(p) not in chosen for module in modules for p in module.parameters())

    def on(self, *data: Any) -> Closure:
        """The closure of one step on a batch; several batches are micro-batches of one step."""
        taken = tuple(self.batch(b) for b in data) if data else tuple(batches.batches_of(None))
        return Closure(self, taken)

    def batch(self, data: Any) -> Batch:
        """One batch, taken apart."""
        return batches.take_apart(data, self.unpack)

    def batches(self, data: Any) -> Iterable[Batch]:
        """The batches of `data`: one batch, an iterable that can be iterated again, or None for a plain function."""
        return batches.batches_of(data, self.unpack)

    def outputs(self, batch: Batch) -> Any:
        """What the loss is a function of: the model's prediction.

        Raises ValueError in place of torch's error where the batch lies on another device or has another dtype than the
        parameters, and TypeError where a model that needs inputs got no batch. Under autocast the prediction is taken
        to float32 at least, so that what follows from it is as precise as torch's losses are there.
        """
        self._check_current()
        PASSES.forward += 1
        with as_models_run(self.parameters[0].device) as mixed:
            outputs = self._predicted(batch)
        if mixed and isinstance(outputs, Tensor) and outputs.is_floating_point():
            return outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        return outputs

    def _predicted(self, batch: Batch) -> Any:
        try:
            outputs = batch.call(self.model)
        except (RuntimeError, ValueError, IndexError) as error:
            self._explain(batch, error, "model")
            raise
        except TypeError as error:
            if batch.inputs == () and batch.targets is None:
                raise TypeError("This model needs inputs: objective.on(batch), batch = (inputs, targets).") from error
            if batch.spread > 1:
                raise TypeError(
                    f"The model got {batch.spread} inputs and failed: {error} A tuple or list of inputs is spread, "
                    "model(*inputs); several batches make one step as objective.on(batch1, batch2)."
                ) from error
            raise
        return outputs if self.prediction is None else self.prediction(outputs)

    def _check_current(self) -> None:
        """Raise where gradients can't be had or would miss the model: inference mode, parameters replaced or frozen."""
        if torch.is_inference_mode_enabled():
            raise ValueError(
                "torch.inference_mode() switches derivatives off for good: leave it, or use torch.no_grad()."
            )
        for name, parameter in zip(self.names, self.parameters, strict=True):
            owner: Any = self.model
            *path, leaf = name.split(".")
            for step in path:
                owner = owner._modules.get(step)
                if owner is None:
                    break
            if owner is None or owner._parameters.get(leaf) is not parameter:
                raise ValueError(
                    f"Parameter {name!r} is no longer the tensor that this objective was made with: make a new "
                    "Objective (and optimiser) after replacing modules or loading a state with assign=True."
                )
            if not parameter.requires_grad:
                raise ValueError(f"Parameter {name!r} was frozen after this objective was made: make a new Objective.")

    def _explain(self, batch: Batch, error: Exception, what: str) -> None:
        """Raise ValueError in place of an error on a part of a batch, another device or another dtype."""
        if batch.share:
            raise ValueError(
                f"The {what} failed on {batch.examples} examples of a batch, cut along the first dimension of inputs "
                f"and targets ({error}). Where examples meet (a graph) or lie elsewhere (time in front), use the whole "
                "batch (curvature_fraction=1; no micro-batches)."
            ) from error
        space = self.space
        for part in batch.tensors() if isinstance(error, RuntimeError) else ():
            if part.device != space.device:
                raise ValueError(
                    f"The batch lies on {part.device}, the parameters on {space.device}: move one with .to()."
                ) from error
            if part.is_floating_point() and part.dtype not in space.dtypes:
                raise ValueError(
                    f"The batch holds {part.dtype}, the parameters are {space.dtypes[0]}: convert one with .to()."
                ) from error

    def loss_at(self, outputs: Any, batch: Batch) -> Tensor:
        """The scalar loss.

        Raises ValueError when it is not a scalar, and where inputs and targets differ in number and that makes the loss
        fail, or repeat one target for all.
        """
        with as_models_run(self.parameters[0].device):
            loss = self._loss_of(outputs) if self._loss_of is not None else self._user_loss(outputs, batch)
        if not isinstance(loss, Tensor):
            raise TypeError(f"Expected the loss to be a scalar tensor, got {type(loss).__name__}.")
        if loss.dim() != 0:
            if loss.numel() != 1:
                raise ValueError(
                    f"Expected a scalar loss, got shape {list(loss.shape)}. "
                    'Average over the examples inside the loss function (reduction="mean").'
                )
            loss = loss.reshape(())
        return loss

    def _user_loss(self, outputs: Any, batch: Batch) -> Any:
        """What the loss function returns."""
        assert self.loss is not None
        try:
            loss = self.loss(outputs, batch.targets)
        except (RuntimeError, ValueError, IndexError) as error:
            self._explain(batch, error, "loss function")
            wrong = batches.disagreement(batch)
            if wrong is not None:
                raise ValueError(f"{wrong} The loss function failed on them: {error}") from error
            raise
        except (TypeError, AttributeError) as error:
            if isinstance(outputs, Tensor):
                raise
            raise TypeError(
                f"The loss function failed on the model's outputs, no tensor but {type(outputs).__name__} "
                f"({error}). Say which part is the prediction: Objective(..., prediction=lambda out: out.logits)."
            ) from error
        if self.unpack is None:
            batches.check_not_repeated(batch, outputs)
        return loss

    def weight(self, outputs: Any, batch: Batch) -> float:
        """D_b: what the loss's mean divides by on this batch."""
        if self.normalizer is not None:
            return float(self.normalizer((batch.inputs, batch.targets)))
        if self.loss is None:
            return float(batch.examples)
        return self.loss.normalizer(outputs, batch.targets, batch.examples)

    def evaluate(self, data: Any, seed: int = 0) -> float:
        """f at the present parameters, without gradients; buffers, mode and global random state stay as they are."""
        from quadric.objective.isolation import untouched

        total = weights = 0.0
        with torch.no_grad(), untouched(self.model, RandomState.seeded(seed, self.space.device)):
            for batch in self.batches(data):
                outputs = self.outputs(batch)
                weight = self.weight(outputs, batch)
                if weight > 0:
                    total += weight * float(self.loss_at(outputs, batch))
                    weights += weight
        if weights == 0:
            raise ValueError(NOTHING)
        return total / weights

    def linearize(self, data: Any, *, seed: int = 0) -> Linearization:
        """f near the present parameters on one batch: products with J, Jᵀ, the GGN and the Hessian.

        Buffers, mode and global random state stay as they are; the model draws from `seed`.
        """
        from quadric.objective.isolation import untouched

        batch = self.batch(data) if data is not None else next(iter(self.batches(None)))
        with untouched(self.model, RandomState.seeded(seed, self.space.device)):
            return Linearization(self, batch)


class _Plain(nn.Module):
    """A function of one tensor, as a module with that tensor as its parameter."""

    def __init__(self, fun: Callable[[Tensor], Tensor], x: Tensor) -> None:
        super().__init__()
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = f"dtype {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"Expected a floating-point tensor x, got {got}.")
        self.fun = fun
        self.x = x if isinstance(x, nn.Parameter) else nn.Parameter(x.detach())

    def forward(self) -> Any:
        """fun(x)."""
        return self.fun(self.x)


def _modules_of(function: Any) -> Iterator[nn.Module]:
    """The modules that a function is or holds: as a partial of one, a method of one, or a variable it closes over."""
    held = [getattr(function, "func", function), getattr(function, "__self__", None)]
    for cell in getattr(function, "__closure__", None) or ():
        with suppress(ValueError):  # not yet assigned
            held.append(cell.cell_contents)
    return (value for value in held if isinstance(value, nn.Module))


def _half_squared_norm(outputs: Tensor, targets: None) -> Tensor:
    """A scalar is the loss itself; a vector is residuals."""
    return outputs if outputs.dim() == 0 else 0.5 * outputs.square().sum()


_half_squared_norm.convex = True  # type: ignore[attr-defined]


def _select(model: nn.Module, params: str | Sequence[str] | None) -> tuple[tuple[str, ...], tuple[nn.Parameter, ...]]:
    """Names and tensors of the chosen parameters, in the model's order."""
    named = dict(model.named_parameters())
    if params is None:
        chosen = {name: p for name, p in named.items() if p.requires_grad}
        if not chosen:
            raise ValueError(
                f"{type(model).__name__} has no trainable parameters ({len(named)} frozen). "
                "Set requires_grad_(True) on those to study or train."
            )
    else:
        patterns = [params] if isinstance(params, str) else list(params)
        chosen = {}
        for pattern in patterns:
            found = {name: p for name, p in named.items() if name == pattern or fnmatchcase(name, pattern)}
            if not found:
                near = get_close_matches(pattern, named, n=3, cutoff=0.4)
                raise ValueError(
                    f"No parameter matches {pattern!r}. "
                    + (f"Nearest: {', '.join(near)}." if near else f"There are: {', '.join(named)}.")
                )
            chosen.update(found)
        frozen = [name for name, p in chosen.items() if not p.requires_grad]
        if frozen:
            raise ValueError(f"Frozen parameters chosen: {', '.join(frozen)}. Call requires_grad_(True) on them first.")
        chosen = {name: p for name, p in named.items() if name in chosen}
    wrong = [name for name, p in chosen.items() if not p.is_floating_point()]
    if wrong:
        raise ValueError(f"Expected real floating-point parameters, got another kind: {', '.join(wrong)}.")
    return tuple(chosen), tuple(chosen.values())


def _one_device(names: Sequence[str], parameters: Sequence[Tensor]) -> torch.device:
    device = parameters[0].device
    for name, p in zip(names, parameters, strict=True):
        if p.device != device:
            raise ValueError(
                f"Parameters lie on different devices: {names[0]} on {device}, {name} on {p.device}. "
                "Move the model to one device, or choose a subset with params=."
            )
    return device
