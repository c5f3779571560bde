"""Curvature operators beside other libraries: products, Kronecker factors, and solves with a damped GGN.

    python benchmarks/operators.py
    python benchmarks/operators.py --models M1,M2 --rounds 5 --parts products,factors

Products are those of an operator that is kept, and are compared with curvlinops' round by round. Factors are built anew
at each call, with and without a first product. Writes results/operators.json and results/operators.md.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from contenders import CONTENDERS
from models import PROBLEMS, Problem, names
from products import bind, gradient, unit_vector
from records import RESULTS, header, header_text, markdown_table, write
from timing import Outcome, Task, interleave, reason

PARTS = ("products", "factors", "solves")
PRODUCT_MODELS = ("M1", "M2", "M4", "M3bn")
FACTOR_MODELS = ("M1", "M2")
PRODUCT_TARGET = 0.55
FACTOR_TARGETS = {"M1": 2.0, "M2": 3.0}
SOLVE_TARGET = 0.5
SHARE = 1e-3
"""Damping of the systems, as a share of the largest eigenvalue."""
RANKS = (10, 20, 30, 50)
COLUMNS = (1, 10)
FISHERS = {"mc": "mc", "exact": "type-2", "empirical": "empirical"}
"""quadric's name of each kind of Kronecker factors, and curvlinops'."""


@dataclass(frozen=True)
class Factored:
    """A way to build Kronecker factors; `key` names those that have a target."""

    name: str
    make: Callable[[Problem, Tensor], Callable[[], object]]
    key: str = ""


def main() -> None:
    """Run the benchmark."""
    options = parse()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", message="Full backward hook")  # BackPACK's, where inputs need no gradient
    top = header(options.rounds)
    print(header_text(top), flush=True)
    values: dict[str, object] = {"header": top}
    text = "# Curvature operators\n\n" + header_text(top) + "\n"
    run: dict[str, Callable[[str], tuple[dict[str, object], str]]] = {
        "products": lambda name: products(name, options.rounds),
        "factors": lambda name: factors(name, options.rounds),
        "solves": lambda name: solves(name),
    }
    models = {"products": PRODUCT_MODELS, "factors": FACTOR_MODELS, "solves": ("M2",)}
    for part in options.parts:
        text += f"\n## {part.capitalize()}\n\n{EXPLANATIONS[part]}\n"
        results = []
        for name in models[part]:
            if name in options.models:
                result, section = run[part](name)
                results.append(result)
                print("\n" + section, flush=True)
                text += "\n" + section
        values[part] = results
    for path in write(options.out, "operators", values, text):
        print(f"wrote {path}")


EXPLANATIONS = {
    "products": "One product of a kept operator: ratio to one gradient, and to curvlinops' time of the same round "
    f"(target ≤ {PRODUCT_TARGET:g}); medians. A peer that crashes gets a second row with the change that lets it run.",
    "factors": "Kronecker factors of one batch, built anew: ratio to one gradient, median, quartiles in brackets. "
    "Peers compute theirs when first used. BackPACK's are by-products of a gradient, which its time includes.",
    "solves": f"(G + λI) x = b with λ = {SHARE:g} of the largest eigenvalue, to a relative residual of 1e-6: products "
    f"of plain conjugate gradients, and with Nyström's preconditioner (its sketch counted; target ≤ {SOLVE_TARGET:g} "
    "of plain). b is the gradient, or ten random right-hand sides that share one sketch.",
}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = list(dict.fromkeys((*PRODUCT_MODELS, *FACTOR_MODELS)))
    parser.add_argument("--models", default=",".join(every), help=f"comma-separated, of {', '.join(every)}")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"comma-separated, of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    options = parser.parse_args()
    try:
        options.models = names(options.models, every)
    except ValueError as error:
        parser.error(str(error))
    options.parts = [part.strip() for part in options.parts.split(",")]
    if not set(options.parts) <= set(PARTS):
        parser.error(f"expected parts among {', '.join(PARTS)}, got {', '.join(options.parts)}")
    if options.rounds < 1 or options.threads < 1:
        parser.error("--rounds and --threads must be at least 1")
    return options


# ---- products


def products(name: str, rounds: int) -> tuple[dict[str, object], str]:
    """Ours against curvlinops', for the GGN and the Hessian."""
    problem = PROBLEMS[name].make(PROBLEMS[name].batch_size)
    vector = unit_vector(problem)
    keys = ("ggn-many", "curvlinops-ggn", "hessian-many", "curvlinops-hessian")
    rows: list[dict[str, object]] = []
    tasks = []
    for contender in (c for c in CONTENDERS if c.key in keys):
        for workaround in (False, True) if problem.workaround is not None else (False,):
            row: dict[str, object] = {"name": contender.name, "kind": contender.kind, "peer": contender.peer}
            if workaround and problem.workaround is not None:
                row["name"] = f"{contender.name}, {problem.workaround.name}"
            try:
                product = contender.make(problem.worked_around() if workaround else problem.copy())
                product(vector)
            except Exception as error:
                rows.append(row | {"crash": reason(error)})
                continue
            rows.append(row)
            tasks.append(Task(str(row["name"]), bind(product, vector)))
            break
    outcomes = {o.name: o for o in interleave(Task("gradient", gradient(problem.copy())), tasks, rounds=rounds)}
    for row in rows:
        if "crash" in row:
            continue
        own = outcomes[str(row["name"])]
        row |= own.summary()
        peer = next((r for r in rows if r["peer"] and r["kind"] == row["kind"] and "crash" not in r), None)
        if peer is not None and not row["peer"]:
            row["of_peer"] = share(own, outcomes[str(peer["name"])])
    result = {"model": name, "title": problem.title, "gradient": outcomes["gradient"].summary(), "rows": rows}
    lines = [
        [str(r["name"]), f"crash: {r['crash']}"[:90], "", ""]
        if "crash" in r
        else [str(r["name"]), f"{r['ratio']:.2f}", f"{r['milliseconds']:.1f}", number(r.get("of_peer"))]
        for r in rows
    ]
    table = markdown_table(["product", "ratio to gradient", "ms", "of curvlinops' time"], lines)
    return result, f"### {name}: {problem.title}\n\n{table}\n"


def share(own: Outcome, peer: Outcome) -> float | None:
    """The median over the rounds of own time over the peer's; None where one has failed."""
    if own.crash is not None or peer.crash is not None:
        return None
    return median(a / b for a, b in zip(own.seconds, peer.seconds, strict=True))


def number(value: object) -> str:
    """Two decimals, or nothing."""
    return f"{value:.2f}" if isinstance(value, float) else ""


# ---- Kronecker factors


def quadric_factors(fisher: str, use: str) -> Callable[[Problem, Tensor], Callable[[], object]]:
    """Factors alone ("build"), with a first product, as a running average, or with a damped inverse's product."""

    def make(problem: Problem, v: Tensor) -> Callable[[], object]:
        import quadric

        objective, batch = quadric.Objective(problem.model, problem.loss_fn), problem.batch
        kept = quadric.KFAC(objective, fisher=fisher)

        def inverted() -> object:
            operator = quadric.KFAC(objective, batch, fisher=fisher)
            return quadric.inverse(operator, damping=1e-2) @ v

        return {
            "build": lambda: quadric.KFAC(objective, batch, fisher=fisher).blocks,
            "product": lambda: quadric.KFAC(objective, batch, fisher=fisher) @ v,
            "update": lambda: kept.update(batch),
            "inverse": inverted,
        }[use]

    return make


def curvlinops_factors(fisher: str, use: str) -> Callable[[Problem, Tensor], Callable[[], object]]:
    """The same by curvlinops, weights and biases joined as ours, its probe for determinism off."""

    def make(problem: Problem, v: Tensor) -> Callable[[], object]:
        import curvlinops

        def operator() -> object:
            return curvlinops.KFACLinearOperator(
                problem.model,
                problem.loss_fn,
                problem.parameters(),
                [problem.batch],
                check_deterministic=False,
                fisher_type=FISHERS[fisher],
                separate_weight_and_bias=False,
            )

        def inverted() -> object:
            inverse = curvlinops.KFACInverseLinearOperator(operator(), damping=1e-2, use_exact_damping=True)
            return inverse @ v

        return {
            "build": lambda: operator().compute_kronecker_factors(),
            "product": lambda: operator() @ v,
            "inverse": inverted,
        }[use]

    return make


def backpack_factors(extension: str) -> Callable[[Problem, Tensor], Callable[[], object]]:
    """BackPACK's factors, left in the parameters by a backward pass."""

    def make(problem: Problem, v: Tensor) -> Callable[[], object]:
        from backpack import backpack, extend, extensions

        model, loss_fn = extend(problem.model), extend(torch.nn.CrossEntropyLoss())
        inputs, targets = problem.batch

        def run() -> object:
            model.zero_grad()
            with backpack(getattr(extensions, extension)()):
                loss_fn(model(inputs), targets).backward()
            return [getattr(p, extension.lower()) for p in model.parameters()]

        return run

    return make


FACTORED = (
    *(
        Factored(f"quadric K-FAC {fisher}, {use}", quadric_factors(fisher, use), fisher if use == "build" else "")
        for fisher in FISHERS
        for use in ("build", "product", "update", "inverse")
        if use in ("build", "product") or fisher == "mc"
    ),
    *(
        Factored(f"curvlinops K-FAC {fisher}, {use}", curvlinops_factors(fisher, use))
        for fisher in FISHERS
        for use in ("build", "product", "inverse")
        if use != "inverse" or fisher == "mc"
    ),
    Factored("BackPACK KFAC (mc)", backpack_factors("KFAC")),
    Factored("BackPACK KFLR (exact)", backpack_factors("KFLR")),
)


def factors(name: str, rounds: int) -> tuple[dict[str, object], str]:
    """Kronecker factors by everyone."""
    problem = PROBLEMS[name].make(PROBLEMS[name].batch_size)
    vector, rows, tasks = unit_vector(problem), [], []
    for entry in FACTORED:
        target = FACTOR_TARGETS[name] if entry.key == "mc" else None
        row: dict[str, object] = {"name": entry.name, "target": target}
        try:
            run = entry.make(problem.copy(), vector)
            run()
            tasks.append(Task(entry.name, run))
        except Exception as error:
            row["crash"] = reason(error)
        rows.append(row)
    outcomes = {o.name: o for o in interleave(Task("gradient", gradient(problem.copy())), tasks, rounds=rounds)}
    for row in rows:
        row |= outcomes[str(row["name"])].summary() if row["name"] in outcomes else {}
    lines = []
    for row in rows:
        goal = "" if row["target"] is None else f"≤ {row['target']:g}"
        if "crash" in row:
            lines.append([str(row["name"]), f"crash: {row['crash']}"[:90], goal, ""])
        else:
            low, high = row["ratio_quartiles"]
            lines.append(
                [str(row["name"]), f"{row['ratio']:.2f} [{low:.2f}, {high:.2f}]", goal, f"{row['milliseconds']:.1f}"]
            )
    table = markdown_table(["factors", "ratio to gradient", "target", "ms"], lines)
    result = {"model": name, "title": problem.title, "gradient": outcomes["gradient"].summary(), "rows": rows}
    return result, f"### {name}: {problem.title}\n\n{table}\n"


# ---- solves


def solves(name: str) -> tuple[dict[str, object], str]:
    """Products that conjugate gradients take, without and with Nyström's preconditioner, in float64 and float32."""
    import quadric
    from quadric.linalg import cg, nystrom_preconditioner

    rows = []
    for dtype in (torch.float64, torch.float32):
        problem = PROBLEMS[name].make(PROBLEMS[name].batch_size)
        inputs, targets = problem.batch
        model, batch = problem.model.to(dtype), (inputs.to(dtype), targets)
        objective = quadric.Objective(model, problem.loss_fn)
        operator = quadric.GGN(objective, batch)
        damping = SHARE * largest(operator)
        system = operator + damping * quadric.identity_like(operator)
        gradient_at = objective.space.flatten(objective.linearize(batch).gradient())
        random = torch.randn(operator.shape[0], 10, generator=torch.Generator().manual_seed(1), dtype=dtype)
        for columns in COLUMNS:
            b = gradient_at if columns == 1 else random
            plain = cg(system, b, tol=1e-6)
            for rank in (0, *RANKS):
                precondition = nystrom_preconditioner(operator, damping, rank) if rank else None
                found = cg(system, b, tol=1e-6, preconditioner=precondition) if rank else plain
                rows.append(
                    {
                        "dtype": str(dtype).removeprefix("torch."),
                        "right_hand_sides": columns,
                        "rank": rank,
                        "products": rank + found.products,
                        "share": (rank + found.products) / plain.products,
                        "residual": found.residual,
                        "converged": found.converged,
                    }
                )
    lines = [
        [
            f"{r['dtype']}, {r['right_hand_sides']}",
            "none" if r["rank"] == 0 else f"{r['rank']}",
            f"{r['products']}",
            f"{r['share']:.2f}",
            f"{r['residual']:.0e}" + ("" if r["converged"] else ", not converged"),
        ]
        for r in rows
    ]
    table = markdown_table(["precision, right-hand sides", "rank", "products", "of plain", "residual"], lines)
    return {"model": name, "rows": rows}, f"### {name}: {problem.title}\n\n{table}\n"


def largest(operator: object) -> float:
    """The largest eigenvalue, by 30 power iterations."""
    v = torch.randn(operator.shape[0], generator=torch.Generator().manual_seed(0), dtype=operator.dtype)
    for _ in range(30):
        v = operator @ (v / v.norm())
    return float(v.norm())


if __name__ == "__main__":
    main()
