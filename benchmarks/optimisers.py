"""Time and memory of one step of each optimiser, as ratios to torch.optim.SGD with momentum on the same model.

    python benchmarks/optimisers.py
    python benchmarks/optimisers.py --models M1,M2 --optimisers kfac,soap --rounds 5

Times are as in curveball.py: every measurement starts from the same weights and a fresh optimiser, takes a few steps
that are not timed, then a multiple of ten, so that work done every few steps is in the figure. Memory is the peak of
one step after those, beyond what was alive before it, and what the optimiser keeps between steps, both as ratios to the
model's parameters. Writes results/optimisers.json and results/optimisers.md after each model.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import curveball
from memory import peak_bytes
from models import PROBLEMS, Problem, names
from records import RESULTS, header, header_text, markdown_table, write
from timing import interleave, reason

MODELS = ["M1", "M2", "M3bn", "M4"]
UNTIMED = 10


@dataclass(frozen=True)
class Contender:
    """An optimiser of `quadric.optim.create` and its settings; `targets` are the ratios aimed at, by model."""

    title: str
    name: str
    hyper: dict[str, object] = field(default_factory=dict)
    targets: dict[str, float] = field(default_factory=dict)
    models: tuple[str, ...] = tuple(MODELS)


_FIXED = {"momentum": 0.9, "step_size": 1e-3, "damping": 1.0, "adapt_damping": False}
_SMALL = ("M1", "M2")
CONTENDERS = (
    Contender("adamw", "adamw"),
    Contender("muon", "muon"),
    Contender("curveball", "curveball"),
    Contender("kfac, as it comes", "kfac"),
    Contender("kfac, factors every step, inverses every 10, fixed rate", "kfac", _FIXED, {"M1": 2.5, "M2": 3.0}),
    Contender("kfac, factors every 10, inverses every 10", "kfac", {"factor_interval": 10}),
    Contender("ekfac, as it comes", "ekfac"),
    Contender("adahessian", "adahessian"),
    Contender("sophia", "sophia"),
    Contender("shampoo", "shampoo"),
    Contender("soap, every 10", "soap", {}, {"M2": 2.5}),
    Contender("newton-cg", "newton-cg", models=_SMALL),
    Contender("levenberg-marquardt", "levenberg-marquardt", models=_SMALL),
    Contender("newton, diagonal", "newton", {"structure": "diagonal"}, models=_SMALL),
    Contender("newton, kronecker", "newton", {"structure": "kronecker"}, models=_SMALL),
    Contender("saddle-free-newton", "saddle-free-newton", models=_SMALL),
    Contender("trust-region", "trust-region", models=_SMALL),
    Contender("lbfgs", "lbfgs"),
)


def main() -> None:
    """Run the benchmark."""
    options = parse()
    torch.set_num_threads(options.threads)
    top = header(options.rounds)
    print(header_text(top), flush=True)
    chosen = [c for c in CONTENDERS if options.optimisers is None or c.name in options.optimisers]
    results = []
    for model in options.models:
        results.append(run_model(model, [c for c in chosen if model in c.models], options.rounds))
        print("\n" + section(results[-1]), flush=True)
        text = "# Steps of the optimisers\n\n" + header_text(top) + "\n\n" + EXPLANATION + "\n"
        text += "".join("\n" + section(result) for result in results)
        for path in write(options.out, "optimisers", {"header": top, "models": results}, text):
            print(f"wrote {path}", flush=True)


EXPLANATION = (
    "Ratios to one step of torch.optim.SGD (momentum 0.9) on the same model and batches: median of the ratios taken "
    "within each round, quartiles in brackets. Memory in numbers of parameters: what one step needs at its peak beyond "
    "what was alive before it, and what the optimiser keeps from step to step."
)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help=f"comma-separated, of {', '.join(PROBLEMS)}")
    parser.add_argument("--optimisers", type=lambda text: text.split(","), help="comma-separated names; default all")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    options = parser.parse_args()
    try:
        options.models = names(options.models, list(PROBLEMS))
    except ValueError as error:
        parser.error(str(error))
    return options


def run_model(model: str, contenders: list[Contender], rounds: int) -> dict[str, object]:
    """Time and weigh every contender on one model."""
    entry = PROBLEMS[model]
    problem = entry.make(entry.batch_size)
    makers: dict[str, Callable[[Problem], curveball.Step]] = {"SGD, momentum 0.9": curveball.sgd}
    makers |= {c.title: partial(created, c) for c in contenders}
    tasks = [curveball.task(title, problem.copy(), make, UNTIMED) for title, make in makers.items()]
    outcomes = interleave(tasks[0], tasks[1:], rounds=rounds)
    targets = {c.title: c.targets.get(model) for c in contenders}
    rows = []
    for outcome in outcomes:
        row = {"name": outcome.name, "target": targets.get(outcome.name), **outcome.summary()}
        if "crash" not in row:
            row |= weigh(problem.copy(), makers[outcome.name])
        rows.append(row)
    return {"model": model, "title": problem.title, "rows": rows}


def created(contender: Contender, problem: Problem) -> curveball.Step:
    """A step of `quadric.optim.create(name, objective, **hyper)`."""
    import quadric

    objective = quadric.Objective(problem.model, problem.loss_fn)
    optimizer = quadric.optim.create(contender.name, objective, **contender.hyper)
    step = lambda batch: optimizer.step(objective.on(batch))  # noqa: E731 - carries the optimiser, for `kept`
    step.optimizer = optimizer  # type: ignore[attr-defined]
    return step


def weigh(problem: Problem, make: Callable[[Problem], curveball.Step]) -> dict[str, object]:
    """Peak of one step and size of the state, in numbers of the model's parameters."""
    size = sum(p.numel() * p.element_size() for p in problem.parameters())
    step = make(problem)
    try:
        for _ in range(2):
            step(problem.batch)
        peak = peak_bytes(lambda: step(problem.batch))
    except Exception as error:
        return {"memory_crash": reason(error)}
    optimizer = getattr(step, "optimizer", None)
    kept = None if optimizer is None else tensor_bytes(optimizer.state_dict()) / size
    return {"peak": peak / size, "kept": kept}


def tensor_bytes(value: object) -> int:
    """Bytes of all tensors in a nest of containers, but for the random state."""
    if isinstance(value, Tensor):
        return 0 if value.dtype == torch.uint8 else value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(tensor_bytes, value.values()))
    return sum(map(tensor_bytes, value)) if isinstance(value, (list, tuple)) else 0


def section(result: dict[str, object]) -> str:
    """One model's table."""
    rows = result["rows"]
    assert isinstance(rows, list)
    lines = []
    for row in rows:
        target = f"≤ {row['target']:g}" if row["target"] is not None else ""
        if "crash" in row:
            lines.append([row["name"], f"crash: {row['crash']}", target, "", "", ""])
            continue
        low, high = row["ratio_quartiles"]
        weights = [f"{row[key]:.1f}" if row.get(key) is not None else "" for key in ("peak", "kept")]
        ratio = f"{row['ratio']:.2f} [{low:.2f}, {high:.2f}]"
        lines.append([row["name"], ratio, target, f"{row['milliseconds']:.1f}", *weights])
    columns = ["step", "ratio", "target", "ms", "peak", "kept"]
    return f"## {result['model']}: {result['title']}\n\n{markdown_table(columns, lines)}\n"


if __name__ == "__main__":
    main()
