"""Every optimiser by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from quadric.core.errors import unknown_name
from quadric.objective.objective import Objective
from quadric.optim.adahessian import AdaHessian
from quadric.optim.curveball import CurveBall
from quadric.optim.muon import Muon
from quadric.optim.shampoo import Shampoo
from quadric.optim.soap import SOAP
from quadric.optim.sophia import Sophia


@dataclass(frozen=True)
class Entry:
    """How to make an optimiser, and one line about it. `first_order`: torch's own, which takes parameters."""

    make: Callable[..., torch.optim.Optimizer]
    summary: str
    first_order: bool = True


_OPTIMIZERS: dict[str, Entry] = {
    "sgd": Entry(partial(torch.optim.SGD, lr=0.05), "gradient descent, w ← w − ηg"),
    "momentum": Entry(partial(torch.optim.SGD, lr=0.01, momentum=0.9), "SGD with heavy-ball momentum 0.9"),
    "nesterov": Entry(
        partial(torch.optim.SGD, lr=0.01, momentum=0.9, nesterov=True), "SGD with Nesterov's momentum 0.9"
    ),
    "adagrad": Entry(torch.optim.Adagrad, "per-weight rates from the sum of squared gradients"),
    "rmsprop": Entry(partial(torch.optim.RMSprop, lr=0.001), "per-weight rates from a running mean square"),
    "adadelta": Entry(torch.optim.Adadelta, "RMSprop with a running mean square of the steps"),
    "adam": Entry(torch.optim.Adam, "momentum with per-weight rates"),
    "adamw": Entry(torch.optim.AdamW, "Adam with decoupled weight decay"),
    "curveball": Entry(CurveBall, "Newton's direction with the memory of momentum; nothing to tune", False),
    "adahessian": Entry(AdaHessian, "Adam on the scale of a probed Hessian diagonal", False),
    "sophia": Entry(Sophia, "momentum over a curvature diagonal, clipped element by element", False),
    "shampoo": Entry(Shampoo, "gradients between inverse roots of their second moments, Adam's lengths", False),
    "soap": Entry(SOAP, "Adam in the eigenbasis of Shampoo's preconditioner", False),
    "muon": Entry(Muon, "orthogonal steps for weight matrices, AdamW for the rest", False),
    "lbfgs": Entry(partial(torch.optim.LBFGS, line_search_fn="strong_wolfe"), "limited-memory BFGS, strong Wolfe"),
}


def names() -> list[str]:
    """The names that `create` takes."""
    return sorted(_OPTIMIZERS)


def summary(name: str) -> str:
    """One line about an optimiser."""
    return _entry(name).summary


def create(name: str, objective: Objective, **hyper: Any) -> torch.optim.Optimizer:
    """The optimiser of that name on the objective's parameters, with hyper-parameters by their torch names.

    Raises ValueError for an unknown name (with the nearest ones), TypeError for a hyper-parameter it does not have.
    """
    entry = _entry(name)
    _check_hyper(name, entry, hyper)
    return entry.make(list(objective.parameters) if entry.first_order else objective, **hyper)


def _entry(name: str) -> Entry:
    if name not in _OPTIMIZERS:
        raise unknown_name("optimiser", name, _OPTIMIZERS)
    return _OPTIMIZERS[name]


def _check_hyper(name: str, entry: Entry, hyper: dict[str, Any]) -> None:
    function = entry.make.func if isinstance(entry.make, partial) else entry.make
    known = [p for p in inspect.signature(function).parameters if p not in ("params", "objective")]
    for key in hyper:
        if key not in known:
            raise TypeError(str(unknown_name(f"hyper-parameter of {name}", key, known)))
