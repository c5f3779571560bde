"""Cost of one curvature product, as a ratio to one gradient of the same model and batch, beside other libraries.

    python benchmarks/products.py
    python benchmarks/products.py --models M1,M2 --rounds 5 --no-peers

Each product is first checked against PyTorch's double backward. Writes results/products.json and results/products.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from contenders import CONTENDERS, REFERENCES, Contender, Product
from memory import peak_bytes
from models import PROBLEMS, Problem, names
from records import RESULTS, header, header_text, markdown_table, write
from timing import Task, interleave, reason

# Ratios to one gradient that quadric aims at or below.
TARGETS: dict[str, dict[str, float]] = {
    "ggn-one-shot": {"M1": 1.6, "M2": 1.5, "M3bn": 1.65, "M4": 1.6},
    "ggn-many": {"M1": 0.95, "M2": 0.8, "M3bn": 1.33, "M4": 1.2},
    "hessian-many": {"M1": 1.25, "M2": 1.25, "M3bn": 2.4, "M4": 2.1},
}
MEMORY_TARGET = 1.9
# Relative error in float32 beyond which a product is called wrong.
TOLERANCE = 1e-3


def main() -> None:
    """Run the benchmark."""
    options = parse()
    torch.set_num_threads(options.threads)
    top = header(options.rounds, keep_memory=options.keep_memory)
    print(header_text(top), flush=True)
    results = []
    for name in options.models:
        result = run_model(name, options.rounds, options.peers)
        results.append(result)
        print("\n" + section(result), flush=True)
    text = "# Curvature products\n\n" + header_text(top) + "\n\n" + EXPLANATION + "\n"
    text += "".join("\n" + section(result) for result in results)
    for path in write(options.out, "products", {"header": top, "models": results}, text):
        print(f"wrote {path}")


EXPLANATION = (
    "Ratios to one gradient (forward and backward) of the same model and batch: median of the ratios taken within "
    "each round, quartiles in brackets. Error: relative, against double backward (float32). Memory: peak of set-up "
    "and two products, ratio to the peak of one gradient, at the batch size named. Products that need a change of the "
    "model to run at all are listed with that change; their ratio is to the gradient of the unchanged model."
)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = list(PROBLEMS)
    parser.add_argument("--models", default=",".join(every), help=f"comma-separated, of {', '.join(every)}")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="only quadric and PyTorch itself")
    parser.add_argument("--system-memory", dest="keep_memory", action="store_false", help="the allocator as it comes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    options = parser.parse_args()
    try:
        options.models = names(options.models, every)
    except ValueError as error:
        parser.error(str(error))
    if options.rounds < 1 or options.threads < 1:
        parser.error("--rounds and --threads must be at least 1")
    return options


def run_model(name: str, rounds: int, peers: bool) -> dict[str, object]:
    """Check, time and weigh every contender on one model."""
    entry = PROBLEMS[name]
    problem = entry.make(entry.batch_size)
    rows, tasks = check_all(problem, [contender for contender in CONTENDERS if peers or not contender.peer])
    outcomes = interleave(Task("gradient", gradient(problem.copy())), tasks, rounds=rounds)
    timed = {outcome.name: outcome.summary() for outcome in outcomes}
    memory = weigh(entry.make(entry.memory_batch_size), rows)
    for row in rows:
        row.update(timed.get(str(row["name"]), {}))
        row["target"] = TARGETS.get(str(row["key"]), {}).get(name)
    return {
        "model": name,
        "title": problem.title,
        "parameters": sum(p.numel() for p in problem.parameters()),
        "gradient": timed["gradient"],
        "memory_batch_size": entry.memory_batch_size,
        "gradient_peak_bytes": memory,
        "memory_target": MEMORY_TARGET,
        "rows": rows,
    }


def check_all(problem: Problem, contenders: list[Contender]) -> tuple[list[dict[str, object]], list[Task]]:
    """A row for every contender, with its error, and a task for every one that runs.

    Who fails on the model as it is gets a second try, and a row of its own, with the model's workaround.
    """
    vector = unit_vector(problem)
    expected = {kind: reference(problem, kind)(vector) for kind in REFERENCES}
    rows: list[dict[str, object]] = []
    tasks: list[Task] = []
    for contender in contenders:
        for workaround in (False, True) if problem.workaround is not None else (False,):
            row: dict[str, object] = {"name": contender.name, "key": contender.key, "workaround": None}
            if workaround and problem.workaround is not None:
                row |= {"name": f"{contender.name}, {problem.workaround.name}", "workaround": problem.workaround.name}
            try:
                product = contender.make(variant(problem, row))
                row["relative_error"] = relative_error(product(vector), expected[contender.kind])
            except Exception as error:
                row["crash"] = reason(error)
                rows.append(row)
                continue
            rows.append(row)
            tasks.append(Task(str(row["name"]), bind(product, vector)))
            break
    return rows, tasks


def weigh(problem: Problem, rows: list[dict[str, object]]) -> int:
    """Add each row's peak memory, as a ratio to the gradient's, which is returned in bytes."""
    contenders = {contender.key: contender for contender in CONTENDERS}
    vector = unit_vector(problem)
    run = gradient(problem.copy())
    run()
    base = peak_bytes(run)
    for row in rows:
        if "crash" in row:
            continue
        run = twice(contenders[str(row["key"])], variant(problem, row), vector)
        try:
            run()
            row["memory_ratio"] = peak_bytes(run) / base
        except Exception as error:
            row["crash"] = reason(error)
    return base


def twice(contender: Contender, problem: Problem, vector: Tensor) -> Callable[[], object]:
    """Set-up and two products, the second while whatever the contender keeps is alive."""

    def run() -> None:
        product = contender.make(problem)
        product(vector)
        product(vector)

    return run


def variant(problem: Problem, row: dict[str, object]) -> Problem:
    """The row's own copy of the problem."""
    return problem.copy() if row["workaround"] is None else problem.worked_around()


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Distance over length."""
    return float((found.detach() - expected).norm() / expected.norm())


def reference(problem: Problem, kind: str) -> Product:
    """The reference product, on the model with its workaround where it has one: double backward needs it too."""
    return REFERENCES[kind](problem.worked_around() if problem.workaround is not None else problem.copy())


def gradient(problem: Problem) -> Callable[[], object]:
    """The baseline: forward and backward."""
    parameters = problem.parameters()
    return lambda: torch.autograd.grad(problem.loss(), parameters)


def bind(product: Product, vector: Tensor) -> Callable[[], object]:
    """The product with one vector."""
    return lambda: product(vector)


def unit_vector(problem: Problem) -> Tensor:
    """A random direction in parameter space."""
    size = sum(p.numel() for p in problem.parameters())
    vector = torch.randn(size, generator=torch.Generator().manual_seed(1))
    return vector / vector.norm()


def section(result: dict[str, object]) -> str:
    """One model's table."""
    summary, rows = result["gradient"], result["rows"]
    assert isinstance(summary, dict)
    assert isinstance(rows, list)
    size, peak = result["memory_batch_size"], result["gradient_peak_bytes"]
    assert isinstance(peak, int)
    lines = [["gradient", "1", "", f"{summary['milliseconds']:.1f}", "", "1", ""]]
    lines += [line(row, result) for row in rows]
    columns = ["product", "ratio", "target", "ms", "error", f"memory, batch {size}", "target"]
    return (
        f"## {result['model']}: {result['title']}\n\n{markdown_table(columns, lines)}\n\n"
        f"{result['parameters']:,} parameters; peak of one gradient at batch {size}: {peak / 2**20:.1f} MiB.\n"
    )


def line(row: dict, result: dict[str, object]) -> list[str]:
    """One contender's cells."""
    goal = row["target"]
    target = f"≤ {goal:g}" if goal is not None else ""
    if "crash" in row:
        return [row["name"], f"crash: {brief(row['crash'])}", target, "", "", "", ""]
    low, high = row["ratio_quartiles"]
    ratio = f"{row['ratio']:.2f} [{low:.2f}, {high:.2f}]"
    error = f"{row['relative_error']:.0e}" + ("" if row["relative_error"] <= TOLERANCE else " **wrong**")
    weight_target = f"≤ {result['memory_target']:g}" if row["key"] in ("ggn-one-shot", "ggn-many") else ""
    return [
        row["name"], ratio, target, f"{row['milliseconds']:.1f}", error, f"{row['memory_ratio']:.2f}", weight_target,
    ]  # fmt: skip


def brief(text: str, length: int = 80) -> str:
    """At most `length` characters; the JSON has the whole."""
    return text if len(text) <= length else text[: length - 2] + " …"


if __name__ == "__main__":
    main()
