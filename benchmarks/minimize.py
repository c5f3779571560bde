"""quadric.minimize beside SciPy on the Moré–Garbow–Hillstrom functions: minima reached and evaluations needed.

    python benchmarks/minimize.py
    python benchmarks/minimize.py --methods bfgs,newton-cg

Both sides at their defaults, from the paper's standard starts in float64, with exact derivatives: by autograd here;
handed to SciPy as `jac`, and `hess` or `hessp`. An evaluation of f and one of its gradient count one each, on both
sides. Hessian matrices or products are counted apart. pytorch-minimize is run as well where it can be imported
(`torchmin`). Writes results/minimize.json and results/minimize.md.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import optimize

import quadric
from quadric.optim.minimize import METHODS
from quadric.problems.more_garbow_hillstrom import FUNCTIONS, TestFunction
from records import RESULTS, header, header_text, markdown_table, write

try:
    import torchmin
except ImportError:
    torchmin = None

SCIPY = {"bfgs": "BFGS", "l-bfgs": "L-BFGS-B", "newton-cg": "Newton-CG", "trust-ncg": "trust-ncg",
         "trust-exact": "trust-exact", "levenberg-marquardt": "lm"}  # fmt: skip
TORCHMIN = ("bfgs", "l-bfgs", "newton-cg", "newton-exact", "trust-ncg", "trust-exact")
PATIENCE = {"gradient-descent": 2000, "momentum": 2000, "curveball": 2000}
BOUND = 1.2


@dataclass(frozen=True)
class Run:
    """One method on one function. `fun` is the paper's Σ fᵢ²; `evaluations` are of f and of its gradient."""

    fun: float
    reached: bool
    success: bool
    evaluations: int
    hessians: int
    message: str


def main() -> None:
    """Run the benchmark."""
    options = parse()
    torch.set_num_threads(1)
    top = header(1)
    print(header_text(top), flush=True)
    sections, data = [], {}
    for method in options.methods:
        runs = {test.name: run_all(method, test) for test in FUNCTIONS}
        data[method] = {name: {who: asdict(run) for who, run in row.items()} for name, row in runs.items()}
        sections.append(section(method, runs))
        print("\n" + sections[-1], flush=True)
    summary = overview(data)
    print("\n" + summary)
    text = f"# minimize\n\n{header_text(top)}\n\n{EXPLANATION}\n\n{summary}\n" + "".join("\n" + s for s in sections)
    for path in write(options.out, "minimize", {"header": top, "methods": data}, text):
        print(f"wrote {path}")


EXPLANATION = (
    f"{len(FUNCTIONS)} functions of Moré, Garbow and Hillstrom (1981), standard starts, defaults on both sides. "
    "`f` is the paper's Σ fᵢ²; ✓ within 1e-4 (relative) + 1e-6 of a known local minimum; *evals* counts evaluations of "
    "f and of its gradient. The ratio is taken where both reached the same minimum. SciPy stops at other tests than "
    "ours (max |g| ≤ 1e-5): L-BFGS-B also at a relative decrease of 2e-9, Newton-CG at a short step, trust-* at "
    "‖g‖ < 1e-4, least_squares at relative changes of 1e-8; where it stopped early, that shows in `f`. "
    + ("" if torchmin else "pytorch-minimize was not installed.")
)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", type=lambda text: text.split(","), default=list(METHODS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


def run_all(method: str, test: TestFunction) -> dict[str, Run]:
    """Everyone's run of a method on one function."""
    runs = {"quadric": run_quadric(method, test)}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        if method in SCIPY:
            runs["scipy"] = run_scipy(SCIPY[method], test)
        if torchmin and method in TORCHMIN:
            runs["torchmin"] = guarded(lambda: run_torchmin(method, test))
    return runs


def run_quadric(method: str, test: TestFunction) -> Run:
    """Our run."""
    squares = METHODS[method].residuals
    options = {"maxiter": PATIENCE[method]} if method in PATIENCE else None
    found = quadric.minimize(test.residuals if squares else test.value, test.x0, method=method, options=options)
    return outcome(test, found, 2 if squares else 1)


def run_scipy(method: str, test: TestFunction) -> Run:
    """SciPy's run, with exact derivatives."""
    value, slope, hessian, residuals, jacobian = derivatives(test)
    x0 = test.x0.numpy()
    if method == "lm":
        return guarded(lambda: outcome(test, optimize.least_squares(residuals, x0, jacobian, method="lm"), 2))
    given: dict[str, Any] = {}
    if method in ("Newton-CG", "trust-ncg"):
        given["hessp"] = lambda x, p: hessian(x) @ p
    elif method == "trust-exact":
        given["hess"] = hessian
    return guarded(lambda: outcome(test, optimize.minimize(value, x0, jac=slope, method=method, **given), 1))


def run_torchmin(method: str, test: TestFunction) -> Run:
    """pytorch-minimize's run; it does not count gradients, one comes with each f."""
    found = torchmin.minimize(test.value, test.x0, method=method)
    found["njev"] = found.get("njev", found.nfev)
    return outcome(test, found, 1)


def guarded(run: Callable[[], Run]) -> Run:
    """A peer's run, or what it raised."""
    try:
        return run()
    except Exception as error:
        return Run(float("nan"), False, False, 0, 0, f"{type(error).__name__}: {error}")


def derivatives(test: TestFunction) -> tuple[Callable[[Any], Any], ...]:
    """f, ∇f, ∇²f, residuals and J for NumPy."""

    def slope(x: Any) -> Any:
        at = torch.from_numpy(x).requires_grad_()
        (g,) = torch.autograd.grad(test.value(at), at)
        return g.numpy()

    return (
        lambda x: float(test.value(torch.from_numpy(x))),
        slope,
        lambda x: torch.autograd.functional.hessian(test.value, torch.from_numpy(x)).numpy(),
        lambda x: test.residuals(torch.from_numpy(x)).numpy(),
        lambda x: torch.autograd.functional.jacobian(test.residuals, torch.from_numpy(x)).numpy(),
    )


def outcome(test: TestFunction, found: Any, factor: int) -> Run:
    """The part of a result that is compared."""
    fun = factor * float(found.cost if "cost" in found else found.fun)
    reached = any(abs(fun - known) <= 1e-4 * known + 1e-6 for known in test.minima)
    message = str(found.message)
    return Run(fun, reached, bool(found.success), int(found.nfev + found.njev), int(found.get("nhev") or 0), message)


def ratio_of(row: dict[str, Run], peer: str) -> float | None:
    """Our evaluations by the peer's, where both found the same minimum."""
    ours, theirs = row["quadric"], row.get(peer)
    if theirs is None or not (ours.reached and theirs.reached):
        return None
    return ours.evaluations / theirs.evaluations if abs(ours.fun - theirs.fun) <= 1e-4 * ours.fun + 2e-6 else None


def section(method: str, runs: dict[str, dict[str, Run]]) -> str:
    """A method's table, and what it says where it did not reach a minimum."""
    peers = [peer for peer in ("scipy", "torchmin") if any(peer in row for row in runs.values())]
    columns = ["function", "f", "evals", "Hessians"]
    for peer in peers:
        columns += [f"{peer} f", "evals", "Hessians", "ratio"]
    rows, failures = [], []
    for name, row in runs.items():
        cells = [name, *shown(row["quadric"])]
        for peer in peers:
            ratio = ratio_of(row, peer)
            cells += [*shown(row[peer]), "" if ratio is None else f"{ratio:.2f}"]
        rows.append(cells)
        if not (row["quadric"].reached and row["quadric"].success):
            failures.append(f"- {name}: {row['quadric'].message}")
    text = f"## {method}\n\n{markdown_table(columns, rows)}\n"
    return text + (
        "\nShort of a known minimum, or not successful:\n\n" + "\n".join(failures) + "\n" if failures else ""
    )


def shown(run: Run) -> list[str]:
    """f with ✓ or ✗ for the minimum and (failed) where it said so."""
    mark = ("✓" if run.reached else "✗") + ("" if run.success else " (failed)")
    return [f"{run.fun:.6g} {mark}", str(run.evaluations), str(run.hessians)]


def overview(data: dict[str, Any]) -> str:
    """One line a method."""
    rows = []
    for method, functions in data.items():
        runs = [{who: Run(**values) for who, values in row.items()} for row in functions.values()]
        ours = sum(row["quadric"].reached for row in runs)
        cells = [method, f"{ours}/{len(runs)}"]
        if method in SCIPY:
            ratios = [r for row in runs if (r := ratio_of(row, "scipy")) is not None]
            theirs = sum(row["scipy"].reached for row in runs)
            cells += [SCIPY[method], f"{theirs}/{len(runs)}", f"{statistics.median(ratios):.2f}", f"≤ {BOUND}"]
        else:
            cells += ["none", "", "", ""]
        rows.append(cells)
    return markdown_table(["method", "minima", "SciPy's", "its minima", "median ratio", "target"], rows) + "\n"


if __name__ == "__main__":
    main()
