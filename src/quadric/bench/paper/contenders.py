"""The methods of table 1 and figure 1, with the settings they run with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from quadric import optim
from quadric.bench.paper import grid
from quadric.bench.paper.columns import RAHIMI, Column
from quadric.bench.paper.lsqnonlin import lsqnonlin
from quadric.bench.paper.scipy_bfgs import scipy_bfgs
from quadric.bench.paper.side_by_side import side_by_side
from quadric.bench.rates import entry
from quadric.bench.stepping import follow, on_batches
from quadric.bench.watch import Watch
from quadric.objective import Objective
from quadric.problems import Instance

Instances = Sequence[Instance]
Watches = Sequence[Watch]
Hyper = Callable[[Column], dict[str, Any]]
T = TypeVar("T")


@dataclass(frozen=True)
class Contender:
    """A method: `run(column, instances, watches)` solves instance i under watch i, `settings(column)` says how.

    `published` is the name of the published row that it is to be held against, if any.
    """

    name: str
    title: str
    run: Callable[[Column, Instances, Watches], None]
    settings: Callable[[Column], str]
    published: str = ""


def searched(method: str, hyper: Hyper) -> Callable[[Column, Instances, Watches], None]:
    """A first-order method of torch with what a search found."""

    def run(column: Column, instances: Instances, watches: Watches) -> None:
        side_by_side(grid.MAKE[method], instances, [hyper(column)] * len(instances), watches)

    return run


def by_final_loss(method: str) -> Hyper:
    """What the authors' grid search chooses."""
    return lambda column: grid.chosen(method, column.problem)


def by_steps(method: str) -> Hyper:
    """The learning rate of the package's own search, which judges by what the table shows, the steps to solve."""
    momentum = {"momentum": 0.9} if method == "momentum" else {}
    return lambda column: {**entry(column.task, method).hyper, **momentum}


def alone(solve: Callable[[Instance, Watch], None]) -> Callable[[Column, Instances, Watches], None]:
    """A solver that takes one run after the other."""

    def run(column: Column, instances: Instances, watches: Watches) -> None:
        for instance, watch in zip(instances, watches, strict=True):
            solve(instance, watch)

    return run


def ours(name: str, hyper: Hyper) -> Callable[[Column, Instances, Watches], None]:
    """An optimiser of quadric's."""

    def run(column: Column, instances: Instances, watches: Watches) -> None:
        for instance, watch in zip(instances, watches, strict=True):
            objective = Objective(instance.model, instance.loss_fn)
            optimizer = optim.create(name, objective, **hyper(column))
            follow(optimizer, objective, on_batches(objective, instance), watch)

    return run


def authors(column: Column) -> dict[str, Any]:
    """CurveBall's settings in the authors' program: λ fixed, ρ and β automatic, the step halved on Rosenbrock."""
    if column.title == RAHIMI:
        return {"damping": 1.0, "adapt_damping": False, "lr": 1.0}
    return {"damping": 0.1, "adapt_damping": False, "lr": 0.5}


def words(hyper: dict[str, Any]) -> str:
    """Hyper-parameters in words."""
    return ", ".join(f"{name} {value}" for name, value in hyper.items())


def first_order(name: str, title: str, method: str, hyper: Hyper, published: str = "") -> Contender:
    """A first-order method with what a search found."""
    return Contender(name, title, searched(method, hyper), lambda column: words(hyper(column)), published)


def always(value: T) -> Callable[[Column], T]:
    """The same for every column."""
    return lambda column: value


MATLAB = "MATLAB's rule, λ from 0.01 by tens"
EXACT = {"curvature": "hessian"}

CONTENDERS = (
    first_order("momentum", "SGD + momentum", "momentum", by_final_loss("momentum"), "SGD + momentum"),
    first_order("momentum-steps", "SGD + momentum, tuned", "momentum", by_steps("momentum")),
    first_order("adam", "Adam", "adam", by_final_loss("adam"), "Adam"),
    first_order("adam-steps", "Adam, tuned", "adam", by_steps("adam")),
    Contender("bfgs", "BFGS", alone(scipy_bfgs), always("SciPy's, with restarts"), "BFGS"),
    Contender(
        "lm-doubled",
        "LM, J doubled",
        alone(partial(lsqnonlin, jacobian_factor=2.0)),
        always(f"{MATLAB}; twice J, as in the authors' program"),
        "Levenberg–Marquardt",
    ),
    Contender("lm", "LM, right J", alone(lsqnonlin), always(MATLAB)),
    Contender(
        "newton",
        "exact Hessian",
        ours("newton", always(EXACT)),
        always("quadric's newton on the Hessian, nothing else set"),
    ),
    Contender(
        "curveball-authors",
        "CurveBall, authors'",
        ours("curveball", authors),
        lambda column: words({"λ": authors(column)["damping"], "η": authors(column)["lr"]}) + ", ρ and β automatic",
        "CurveBall",
    ),
    Contender("curveball", "CurveBall, default", ours("curveball", always({})), always("nothing set")),
)
