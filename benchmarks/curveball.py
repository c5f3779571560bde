"""Time of one CurveBall step, as a ratio to one step of torch.optim.SGD with momentum on the same model and batches.

    python benchmarks/curveball.py
    python benchmarks/curveball.py --models M1,M2 --rounds 5

Every measurement starts from the same fresh weights and a fresh optimiser and takes one step that is not timed (the
first has no previous step to combine with), then a multiple of ten, since damping is adapted every fifth or tenth step.
The default damping rule measures more in its first 20 steps than later, so it has a row for each. Writes
results/curveball.json and results/curveball.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from copy import deepcopy
from itertools import cycle
from pathlib import Path

import torch
from torch import Tensor

from models import PROBLEMS, Problem, names
from records import RESULTS, header, header_text, markdown_table, write
from timing import Outcome, Task, interleave

Step = Callable[[tuple[Tensor, Tensor]], object]

MODELS = ["M1", "M1b1000", "M2", "M3", "M3bn"]
BATCHES = 4

# Keywords of quadric.optim.CurveBall.
VARIANTS: dict[str, dict[str, object]] = {
    "default": {},
    "default, its first 20 steps": {},
    "the paper's damping rule": {"damping": 1.0},
    "fixed momentum, step size and damping": {
        "momentum": 0.9, "step_size": 1e-3, "damping": 1.0, "adapt_damping": False,
    },
    "curvature on a quarter of the batch": {"curvature_fraction": 0.25},
    "the paper's damping rule, curvature on a quarter": {"damping": 1.0, "curvature_fraction": 0.25},
}  # fmt: skip

# Ratios to one SGD step that quadric aims at or below.
_WHOLE = {"M1": 2.1, "M1b1000": 2.1, "M2": 2.1, "M3": 2.9, "M3bn": 2.9}
_QUARTER = dict.fromkeys(MODELS, 1.5)

# Steps that go before the timed ones; 1 for a variant that is not named.
UNTIMED = {"default": 20, "curvature on a quarter of the batch": 20}
TARGETS: dict[str, dict[str, float]] = {
    "default": _WHOLE,
    "the paper's damping rule": _WHOLE,
    "curvature on a quarter of the batch": _QUARTER,
    "the paper's damping rule, curvature on a quarter": _QUARTER,
}

EXPLANATION = (
    "Ratios to one step of torch.optim.SGD (momentum 0.9) on the same model and batches: median of the ratios taken "
    "within each round, quartiles in brackets. SGD keeps `.grad`; CurveBall leaves it as it is by default."
)


def main() -> None:
    """Run the benchmark."""
    options = parse()
    torch.set_num_threads(options.threads)
    top = header(options.rounds)
    print(header_text(top), flush=True)
    results = []
    for name in options.models:
        results.append(run_model(name, options.rounds))
        print("\n" + section(results[-1]), flush=True)
    text = "# CurveBall's step\n\n" + header_text(top) + "\n\n" + EXPLANATION + "\n"
    text += "".join("\n" + section(result) for result in results)
    for path in write(options.out, "curveball", {"header": top, "models": results}, text):
        print(f"wrote {path}")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help=f"comma-separated, of {', '.join(MODELS)}")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    options = parser.parse_args()
    try:
        options.models = names(options.models, MODELS)
    except ValueError as error:
        parser.error(str(error))
    if options.rounds < 1 or options.threads < 1:
        parser.error("--rounds and --threads must be at least 1")
    return options


def run_model(name: str, rounds: int) -> dict[str, object]:
    """Time every variant on one model."""
    entry = PROBLEMS[name]
    problem = entry.make(entry.batch_size)
    baseline = task("SGD, momentum 0.9", problem.copy(), sgd)
    tasks = [
        task(title, problem.copy(), curveball(keywords), UNTIMED.get(title, 1)) for title, keywords in VARIANTS.items()
    ]
    outcomes = interleave(baseline, tasks, rounds=rounds)
    return {"model": name, "title": problem.title, "rows": [row(outcome, name) for outcome in outcomes]}


def task(title: str, problem: Problem, make: Callable[[Problem], Step], untimed: int = 1) -> Task:
    """Steps of one optimiser over a few random batches, from the same start at every measurement."""
    start = deepcopy(problem.model.state_dict())
    inputs, targets = problem.batch
    torch.manual_seed(1)
    batches = [(torch.randn_like(inputs), targets[torch.randperm(len(targets))]) for _ in range(BATCHES)]
    state: dict[str, Callable[[], object]] = {}

    def prepare() -> None:
        problem.model.load_state_dict(start)
        step, stream = make(problem), cycle(batches)
        state["step"] = lambda: step(next(stream))
        for _ in range(untimed):
            state["step"]()

    return Task(title, lambda: state["step"](), prepare, multiple=10)


def sgd(problem: Problem) -> Step:
    """The usual loop's body with SGD and momentum."""
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.01, momentum=0.9)

    def step(batch: tuple[Tensor, Tensor]) -> None:
        optimizer.zero_grad()
        problem.loss_fn(problem.model(batch[0]), batch[1]).backward()
        optimizer.step()

    return step


def curveball(keywords: dict[str, object]) -> Callable[[Problem], Step]:
    """The same with CurveBall."""

    def make(problem: Problem) -> Step:
        import quadric
        from quadric.optim import CurveBall

        objective = quadric.Objective(problem.model, problem.loss_fn)
        optimizer = CurveBall(objective, **keywords)
        return lambda batch: optimizer.step(objective.on(batch))

    return make


def row(outcome: Outcome, model: str) -> dict[str, object]:
    """An outcome with its target and the keywords that make it."""
    return {
        "name": outcome.name,
        "keywords": VARIANTS.get(outcome.name),
        "target": TARGETS.get(outcome.name, {}).get(model),
        **outcome.summary(),
    }


def section(result: dict[str, object]) -> str:
    """One model's table."""
    rows = result["rows"]
    assert isinstance(rows, list)
    lines = []
    for row in rows:
        target = f"≤ {row['target']:g}" if row["target"] is not None else ""
        if "crash" in row:
            lines.append([row["name"], f"crash: {row['crash']}", target, ""])
            continue
        low, high = row["ratio_quartiles"]
        ratio = "1" if row["keywords"] is None else f"{row['ratio']:.2f} [{low:.2f}, {high:.2f}]"
        lines.append([row["name"], ratio, target, f"{row['milliseconds']:.1f}"])
    return f"## {result['model']}: {result['title']}\n\n{markdown_table(['step', 'ratio', 'target', 'ms'], lines)}\n"


if __name__ == "__main__":
    main()
