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
from quadric.optim.bfgs import BFGS
from quadric.optim.curveball import CurveBall
from quadric.optim.dfp import DFP
from quadric.optim.ekfac import EKFAC
from quadric.optim.kfac import KFAC
from quadric.optim.lbfgs import LBFGS
from quadric.optim.levenberg_marquardt import LevenbergMarquardt
from quadric.optim.muon import Muon
from quadric.optim.newton import Newton
from quadric.optim.newton_cg import NewtonCG
from quadric.optim.saddle_free_newton import SaddleFreeNewton
from quadric.optim.shampoo import Shampoo
from quadric.optim.soap import SOAP
from quadric.optim.sophia import Sophia
from quadric.optim.sr1 import SR1
from quadric.optim.trust_region import TrustRegion


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
    "newton": Entry(Newton, "Newton's method, curvature × structure × damping × correction by name", False),
    "levenberg-marquardt": Entry(LevenbergMarquardt, "damped Gauss–Newton with λ from the model's success", False),
    "kfac": Entry(KFAC, "Kronecker-factored natural gradient, rate and momentum from the exact model", False),
    "ekfac": Entry(EKFAC, "K-FAC with second moments right in its eigenvectors", False),
    "newton-cg": Entry(NewtonCG, "Hessian-free: Newton's step by truncated conjugate gradients", False),
    "saddle-free-newton": Entry(SaddleFreeNewton, "Newton's step with |H| in a Krylov subspace", False),
    "trust-region": Entry(TrustRegion, "Newton's step within a radius from the model's success", False),
    "bfgs": Entry(BFGS, "the inverse Hessian from differences of gradients; a matrix, or pairs where large", False),
    "dfp": Entry(DFP, "the rank-two correction of the inverse Hessian, BFGS's dual", False),
    "sr1": Entry(SR1, "the symmetric rank-one correction of the inverse Hessian", False),
    "lbfgs": Entry(LBFGS, "BFGS from the last 20 pairs of steps and gradient differences", False),
    "adahessian": Entry(AdaHessian, "Adam on the scale of a probed Hessian diagonal", False),
    "sophia": Entry(Sophia, "momentum over a curvature diagonal, clipped element by element", False),
    "shampoo": Entry(Shampoo, "gradients between inverse roots of their second moments, Adam's lengths", False),
    "soap": Entry(SOAP, "Adam in the eigenbasis of Shampoo's preconditioner", False),
    "muon": Entry(Muon, "orthogonal steps for weight matrices, AdamW for the rest", False),
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
