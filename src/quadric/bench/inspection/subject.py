"""What is inspected: an objective at the weights of a checkpoint, and the examples it is looked at on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from quadric import problems
from quadric.bench.inspection.examples import Examples
from quadric.curvature import GGN, EmpiricalFisher, Fisher, Hessian
from quadric.curvature.curvature import Curvature
from quadric.objective import Objective
from quadric.objective.batch import Batch, Unpack
from quadric.problems.own import checkpoint
from quadric.problems.own.objectives import objective_of
from quadric.problems.own.reference import call, find

CURVATURES: dict[str, type[Curvature[Any]]] = {
    "hessian": Hessian,
    "ggn": GGN,
    "fisher": Fisher,
    "empirical-fisher": EmpiricalFisher,
}


@dataclass(frozen=True)
class Settings:
    """How a subject is looked at; the same for named problems and the user's own."""

    checkpoint: Path | None = None
    key: str | None = None
    params: tuple[str, ...] = ()
    limit: int | None = None
    microbatch: int | None = None
    train_mode: bool = False
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


@dataclass(frozen=True)
class Subject:
    """An objective and its data; `facts` tell it from others, `remarks` are what a reader has to know."""

    objective: Objective
    data: Batch | list[Batch] | Examples
    facts: dict[str, Any]
    remarks: tuple[str, ...]
    settings: Settings

    @property
    def name(self) -> str:
        """What a report is headed with."""
        return str(self.facts["subject"])

    @property
    def dimension(self) -> int:
        """n, the number of parameters looked at."""
        return self.objective.space.numel

    def operator(self, curvature: str) -> Curvature[Any]:
        """The curvature of that name, over all the data."""
        return CURVATURES[curvature](self.objective, self.data, seed=self.settings.seed)


def named_problem(name: str, data_dir: Path | None, settings: Settings) -> Subject:
    """A named problem's model and training examples, at a checkpoint's weights or those that training begins with."""
    instance = problems.get(name).open(data_dir, settings.device)(settings.seed)
    _ready(instance.model, settings)
    objective = Objective(instance.model, instance.loss_fn, params=settings.params or None)
    facts = {"subject": name, "loss": getattr(instance.loss_fn, "__name__", type(instance.loss_fn).__name__)}
    return _subject(objective, list(instance.train), None, facts, settings)


def own_problem(model: str, loss: str | None, data: str, settings: Settings) -> Subject:
    """The user's own model, loss and data, by name. `model` may stand for an `Objective`, which needs no `loss`.

    Raises ValueError or RuntimeError, in a sentence, where one of them is not there, fails or is something else.
    """
    torch.manual_seed(settings.seed)
    made = _made(model, (nn.Module, Objective))
    facts = {"subject": model, "loss": loss or "the objective's own", "data": data}
    if isinstance(made, Objective):
        if loss is not None or settings.params:
            raise ValueError(f"{model} is an Objective, with a loss and parameters of its own: leave out both options.")
        unpack = made.unpack
        _ready(made.model, settings)
        objective = made
    else:
        if loss is None:
            raise ValueError(f"{model} is a {type(made).__name__}, which needs a loss: give --loss.")
        _ready(made, settings)
        objective, unpack = objective_of(made, loss, list(settings.params) or None)
    return _subject(objective, _made(data, (object,)), unpack, facts, settings)


def _made(reference: str, kinds: tuple[type, ...]) -> Any:
    """The object of a reference, or what it returns where it is a function (or class) that makes one."""
    found = find(reference)
    if isinstance(found, type) or (
        callable(found) and not isinstance(found, nn.Module) and not hasattr(found, "__iter__")
    ):
        found = call(reference, found)
    if not isinstance(found, kinds):
        wanted = " or a ".join(f"{kind.__module__.split('.')[0]} {kind.__name__}" for kind in kinds)
        raise ValueError(
            f"Expected {reference} to be a {wanted}, or a function returning one, got {type(found).__name__}."
        )
    return found


def _ready(model: nn.Module, settings: Settings) -> None:
    """Weights, device and mode."""
    if settings.checkpoint is not None:
        checkpoint.load(model, settings.checkpoint, settings.key)
    model.to(settings.device).train(settings.train_mode)
    for name, weights in model.named_parameters():
        if not bool(torch.isfinite(weights).all()):
            origin = f" (from {settings.checkpoint})" if settings.checkpoint else ""
            raise ValueError(f"Parameter {name!r}{origin} holds NaN or infinity: there is no curvature to speak of.")


def _subject(
    objective: Objective, data: Any, unpack: Unpack | None, facts: dict[str, Any], settings: Settings
) -> Subject:
    examples = Examples(data, unpack, settings.device, settings.limit, settings.microbatch)
    facts = {
        **facts,
        "checkpoint": str(settings.checkpoint)
        if settings.checkpoint
        else "none: the weights that the model begins with",
        "weights": digest(objective.model),
        "parameters": objective.space.numel,
        "of these": ", ".join(settings.params) or "all that require gradients",
        "mode": "train" if settings.train_mode else "eval",
        "most examples": settings.limit,
        "micro-batch": settings.microbatch,
        "seed": settings.seed,
    }
    remarks = [text for holds, text in _remarks(objective) if holds]
    return Subject(objective, examples.held(), facts, tuple(remarks), settings)


def digest(model: nn.Module) -> str:
    """A short name for the values of all parameters and buffers."""
    found = hashlib.sha256()
    for name, value in model.state_dict().items():
        if isinstance(value, torch.Tensor):
            found.update(name.encode())
            found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]


def _remarks(objective: Objective) -> list[tuple[bool, str]]:
    """What mode and loss mean for the numbers, where that is the case."""
    norms = [m for m in objective.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    return [
        (
            bool(norms),
            "BatchNorm is in train mode: the loss depends on how examples are put into batches and micro-batches.",
        ),
        (
            objective.loss is None and objective.normalizer is None,
            "The model's own loss is averaged over batches by their numbers of examples. Where it is a mean over "
            "something else (tokens that are not padding), let --model name an Objective with normalizer=.",
        ),
    ]
