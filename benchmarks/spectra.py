"""Top eigenvalues and spectral density of a Hessian: time to a stated accuracy, beside other libraries.

    python benchmarks/spectra.py
    python benchmarks/spectra.py --samples 1000 --rounds 1 --no-peers

The eigenvalues are checked against SciPy's eigsh on PyTorch's own double backward in float64; who errs by more than
1e-6 of the largest is marked as wrong, and hessian-eigenthings is run with several numbers of iterations, since it has
to be told. Writes results/spectra.json and results/spectra.md.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from contenders import retained_double_backward
from models import PROBLEMS, Problem
from records import RESULTS, header, header_text, markdown_table, write
from timing import Task, interleave, reason

TOLERANCE = 1e-6
# quadric's time over that of the fastest correct peer
TARGET = 0.6
ITERATIONS = (40, 80, 120, 160)
STEPS, PROBES = 40, 2


@dataclass
class Run:
    """A contender's latest answer: its eigenvalues in descending order (None for a density), and its products."""

    name: str
    call: Callable[[], tuple[Tensor | None, int]]
    peer: bool
    values: Tensor | None = None
    products: int = 0

    def __call__(self) -> None:
        self.values, self.products = self.call()


def quadric_top(problem: Problem, k: int) -> Callable[[], tuple[Tensor, int]]:
    """quadric.eigsh to its default tolerance, eigenvalues alone; the operator is made anew each time."""
    import quadric

    def call() -> tuple[Tensor, int]:
        objective = quadric.Objective(problem.model, problem.loss_fn)
        found = quadric.eigsh(quadric.Hessian(objective, problem.batch), k, return_eigenvectors=False)
        return found.eigenvalues, found.products

    return call


def eigenthings_operator(problem: Problem) -> object:
    """hessian-eigenthings' Hessian over a one-batch data set."""
    from hessian_eigenthings.loss_fns import supervised_loss
    from hessian_eigenthings.operators import HessianOperator

    return HessianOperator(problem.model, [problem.batch], supervised_loss(problem.loss_fn))


def eigenthings_top(problem: Problem, k: int, iterations: int) -> Callable[[], tuple[Tensor, int]]:
    """hessian-eigenthings' Lanczos, reorthogonalised, with so many iterations."""

    def call() -> tuple[Tensor, int]:
        from hessian_eigenthings import lanczos

        found = lanczos(
            eigenthings_operator(problem), k=k, max_iter=iterations, which="LA", reorthogonalize=True, seed=0
        )
        return found.eigenvalues.double().sort(descending=True).values, iterations

    return call


def curvlinops_top(problem: Problem, k: int) -> Callable[[], tuple[Tensor, int]]:
    """SciPy's eigsh on curvlinops' Hessian, to a tolerance of 1e-6."""

    def call() -> tuple[Tensor, int]:
        import curvlinops

        linear = curvlinops.HessianLinearOperator(
            problem.model, problem.loss_fn, problem.parameters(), [problem.batch],
            check_deterministic=False, num_data=len(problem.batch[0]),
        )  # fmt: skip
        counted = Counted(linear.to_scipy())
        found = eigsh(counted, k, which="LA", tol=TOLERANCE, return_eigenvectors=False)
        return torch.as_tensor(np.sort(found)[::-1].copy(), dtype=torch.float64), counted.products

    return call


class Counted(LinearOperator):
    """A SciPy operator that counts its products."""

    def __init__(self, inner: LinearOperator) -> None:
        super().__init__(inner.dtype, inner.shape)
        self.inner, self.products = inner, 0

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        self.products += 1
        return self.inner @ x.reshape(-1)


def quadric_density(problem: Problem) -> Callable[[], tuple[None, int]]:
    """quadric's spectral density."""
    import quadric

    def call() -> tuple[None, int]:
        objective = quadric.Objective(problem.model, problem.loss_fn)
        hessian = quadric.Hessian(objective, problem.batch)
        return None, quadric.spectral_density(hessian, steps=STEPS, probes=PROBES).products

    return call


def eigenthings_density(problem: Problem) -> Callable[[], tuple[None, int]]:
    """hessian-eigenthings' spectral density."""

    def call() -> tuple[None, int]:
        from hessian_eigenthings import spectral_density

        spectral_density(eigenthings_operator(problem), num_runs=PROBES, lanczos_steps=STEPS, seed=0)
        return None, PROBES * STEPS

    return call


def pyhessian_operator(problem: Problem) -> object:
    """PyHessian's Hessian of one batch. torch.eig, which it calls, was removed from torch: eigh stands in."""
    from pyhessian import hessian

    def eig(matrix: Tensor, eigenvectors: bool) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(matrix)
        return torch.stack([values, torch.zeros_like(values)], dim=1), vectors

    torch.eig = eig
    problem.model.zero_grad()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls backward(create_graph=True)
        return hessian(problem.model, problem.loss_fn, data=problem.batch, cuda=False)


def pyhessian_top(problem: Problem, k: int) -> Callable[[], tuple[Tensor, int]]:
    """PyHessian's power iteration with deflation, as it comes."""

    def call() -> tuple[Tensor, int]:
        values, _ = pyhessian_operator(problem).eigenvalues(top_n=k)
        return torch.tensor(values, dtype=torch.float64).sort(descending=True).values, 0

    return call


def pyhessian_density(problem: Problem) -> Callable[[], tuple[None, int]]:
    """PyHessian's spectral density."""

    def call() -> tuple[None, int]:
        pyhessian_operator(problem).density(iter=STEPS, n_v=PROBES)
        return None, PROBES * STEPS

    return call


def reference(problem: Problem, k: int) -> Tensor:
    """The k largest eigenvalues in float64, in descending order."""
    inputs, targets = problem.batch
    exact = Problem(
        problem.name, problem.title, deepcopy(problem.model).double(), problem.loss_fn, (inputs.double(), targets)
    )
    product = retained_double_backward(exact)
    n = sum(p.numel() for p in exact.parameters())
    linear = LinearOperator((n, n), matvec=lambda v: product(torch.from_numpy(v.reshape(-1).copy())).numpy())
    linear.dtype = np.dtype(np.float64)
    found = eigsh(linear, k, which="LA", ncv=max(60, 4 * k), tol=1e-9, return_eigenvectors=False)
    return torch.as_tensor(np.sort(found)[::-1].copy())


def measure(problem: Problem, k: int, rounds: int, peers: bool) -> dict[str, object]:
    """Time and check everyone on one problem."""
    runs = [Run("quadric eigsh", quadric_top(problem.copy(), k), peer=False)]
    densities = [Run("quadric spectral_density", quadric_density(problem.copy()), peer=False)]
    if peers:
        runs.append(Run("curvlinops + SciPy eigsh", curvlinops_top(problem.copy(), k), peer=True))
        for count in ITERATIONS:
            name = f"hessian-eigenthings lanczos, {count} iterations"
            runs.append(Run(name, eigenthings_top(problem.copy(), k, count), peer=True))
        runs.append(Run("PyHessian eigenvalues", pyhessian_top(problem.copy(), k), peer=True))
        densities.append(Run("hessian-eigenthings spectral_density", eigenthings_density(problem.copy()), peer=True))
        densities.append(Run("PyHessian density", pyhessian_density(problem.copy()), peer=True))
    own = problem.copy()
    baseline = Task("gradient", lambda: torch.autograd.grad(own.loss(), own.parameters()))
    every = [*runs, *densities]
    outcomes = interleave(baseline, [Task(run.name, run) for run in every], rounds=rounds, warm_up=1, min_seconds=0.0)
    summaries = {outcome.name: outcome.summary() for outcome in outcomes}
    start = perf_counter()
    try:
        want = reference(problem, k)
    except Exception as error:  # SciPy's own ArpackNoConvergence among them
        raise SystemExit(f"no reference: {reason(error)}") from error
    rows = []
    for run in every:
        row: dict[str, object] = {"name": run.name, "peer": run.peer, "products": run.products, **summaries[run.name]}
        if run.values is not None:
            row["error"] = float((run.values - want).abs().max() / want.abs().max())
        rows.append(row)
    return {
        "title": problem.title,
        "k": k,
        "gradient": summaries["gradient"],
        "reference": want.tolist(),
        "reference_seconds": perf_counter() - start,
        "rows": rows,
    }


def report(result: dict[str, object]) -> str:
    """The table, and the verdict."""
    rows = result["rows"]
    assert isinstance(rows, list)
    lines = []
    for row in rows:
        if "crash" in row:
            lines.append([row["name"], row["crash"], "", "", ""])
            continue
        error = (
            "" if "error" not in row else f"{row['error']:.0e}" + ("" if row["error"] <= TOLERANCE else " **wrong**")
        )
        lines.append(
            [row["name"], f"{row['milliseconds'] / 1e3:.2f}", f"{row['ratio']:.0f}", str(row["products"] or ""), error]
        )
    table = markdown_table(["", "seconds", "gradients", "products", "error"], lines)
    ours = next(row for row in rows if row["name"] == "quadric eigsh")
    right = [row for row in rows if row["peer"] and row.get("error", 1.0) <= TOLERANCE]
    verdict = "No peer reached the accuracy."
    if right and "ratio" in ours:
        best = min(right, key=lambda row: row["ratio"])
        share = ours["ratio"] / best["ratio"]
        verdict = (
            f"quadric takes {share:.2f} of the time of the fastest correct peer ({best['name']}); target {TARGET}."
        )
    gradient = result["gradient"]
    assert isinstance(gradient, dict)
    return (
        f"## {result['title']}: top {result['k']} eigenvalues, and density by {PROBES} probes of {STEPS} steps\n\n"
        f"{table}\n\nOne gradient takes {gradient['milliseconds']:.1f} ms. {verdict}\n"
    )


EXPLANATION = (
    "Seconds and ratios to one gradient, medians over rounds. Products as the library counts them, or as SciPy asked "
    "for them; quadric's include a second chain of Lanczos steps that looks for copies of multiple eigenvalues. Error: "
    "the largest over the eigenvalues, relative to the first, against float64."
)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(PROBLEMS), default="M1")
    parser.add_argument("--samples", type=int, default=5_000)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="only quadric")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    options = parser.parse_args()
    if min(options.samples, options.k, options.rounds, options.threads) < 1:
        parser.error("--samples, --k, --rounds and --threads must be at least 1")
    torch.set_num_threads(options.threads)
    top = header(options.rounds)
    print(header_text(top), flush=True)
    result = measure(PROBLEMS[options.model].make(options.samples), options.k, options.rounds, options.peers)
    text = f"# Spectra\n\n{header_text(top)}\n\n{EXPLANATION}\n\n{report(result)}"
    print("\n" + report(result))
    for path in write(options.out, "spectra", {"header": top, "result": result}, text):
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
