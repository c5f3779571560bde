"""Time and memory of each form of a curvature matrix against the number of parameters n, and the page that shows them.

    python benchmarks/cost.py            # measure (minutes), then draw
    python benchmarks/cost.py --draw     # draw docs/cost.md and docs/cost.svg anew from results/cost.json

The matrix is the Gauss–Newton matrix of an MLP 64-w-w-10 on a batch of 128, for growing w. Each form is built,
multiplied with a vector, and used to solve a damped system.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor, nn

import quadric
from memory import peak_bytes
from quadric.operators import LinearOperator
from records import RESULTS, header, header_text, markdown_table, write

DOCS = Path(__file__).parents[1] / "docs"
WIDTHS = (8, 12, 16, 24, 32, 48, 64, 128, 256, 512, 1024)
LARGEST = {"dense": 4_000, "block-diagonal": 6_000}
"""Number of parameters up to which a form is measured; the others go all the way."""
RANK = 20
FIT = 4
"""The slopes are those of the last so many sizes of each form."""
SECONDS = 0.2
"""A stage that takes less is repeated for so long, and its fastest run counts."""
STAGES = ("build", "product", "solve")

Build = Callable[[quadric.GGN], LinearOperator]
FORMS: dict[str, Build] = {
    "dense": lambda G: quadric.operators.Dense(G.to_dense(limit=G.shape[0]), G.space, symmetric=True),
    "block-diagonal": lambda G: quadric.block_diagonal(G, by="layer", dense=True),
    "matrix-free": lambda G: linearised(G),
    "low-rank": lambda G: quadric.low_rank(G, RANK, "nystrom"),
    "Kronecker": lambda G: built(quadric.KFAC(G.objective, G.data, fisher="mc")),
}


def linearised(operator: quadric.GGN) -> LinearOperator:
    """The operator after two products, when it keeps its linearisation."""
    operator @ torch.ones(operator.shape[0], 2)
    return operator


def built(operator: quadric.KFAC) -> LinearOperator:
    """The operator after its factors exist."""
    operator.blocks  # noqa: B018
    return operator


def main() -> None:
    """Measure unless told only to draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", action="store_true", help="only draw, from the records")
    parser.add_argument("--widths", type=int, nargs="+", default=list(WIDTHS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the records")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder for the page and its figure")
    options = parser.parse_args()
    if not options.draw:
        torch.set_num_threads(options.threads)
        values = {"header": header(1), "rows": measure(options.widths)}
        write(
            options.out,
            "cost",
            values,
            "# Cost against size\n\n" + header_text(values["header"]) + "\n" + table(values),
        )
    values = json.loads((options.out / "cost.json").read_text(encoding="utf-8"))
    figure(values, options.docs / "cost.svg")
    (options.docs / "cost.md").write_text(page(values), encoding="utf-8")
    print(f"wrote {options.docs / 'cost.md'} and {options.docs / 'cost.svg'}")


# ---- measuring


def measure(widths: list[int]) -> list[dict[str, object]]:
    """A row for every form and size."""
    rows = []
    for width in widths:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 10))
        batch = torch.randn(128, 64), torch.randint(10, (128,))
        objective = quadric.Objective(model, nn.CrossEntropyLoss())
        n = objective.space.numel
        damping = 1e-2 * float(quadric.low_rank(quadric.GGN(objective, batch), 1, "nystrom").values[0])
        b = torch.randn(n, generator=torch.Generator().manual_seed(1))
        for form, build in FORMS.items():
            if n <= LARGEST.get(form, n):
                row = {"form": form, "n": n, "width": width} | one(objective, batch, build, b, damping)
                rows.append(row)
                print(
                    form, n, {key: f"{value:.2g}" for key, value in row.items() if isinstance(value, float)}, flush=True
                )
    return rows


def one(
    objective: quadric.Objective, batch: tuple[Tensor, Tensor], build: Build, b: Tensor, damping: float
) -> dict[str, object]:
    """Seconds and peak bytes of the three stages of one form."""
    operator = build(quadric.GGN(objective, batch))
    runs: dict[str, Callable[[], object]] = {
        "build": lambda: build(quadric.GGN(objective, batch)),
        "product": lambda: operator @ b,
        "solve": lambda: quadric.inverse(operator, damping=damping, solver=solver) @ b,
    }
    solver = "cg" if isinstance(operator, quadric.GGN) else None
    row: dict[str, object] = {}
    for stage, run in runs.items():
        row[f"{stage}_bytes"] = peak_bytes(run)
        row[f"{stage}_seconds"] = fastest(run)
    return row


def fastest(run: Callable[[], object]) -> float:
    """Seconds of the fastest of the runs that fit into SECONDS, at least one."""
    times: list[float] = []
    while not times or sum(times) < SECONDS:
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return min(times)


# ---- showing


def slope(values: dict, form: str, key: str) -> float | None:
    """The exponent p of a fit ∝ n^p to the last sizes of a form."""
    points = [(math.log(r["n"]), math.log(max(r[key], 1e-12))) for r in values["rows"] if r["form"] == form][-FIT:]
    if len(points) < 2:
        return None
    x, y = (sum(part) / len(points) for part in zip(*points, strict=True))
    return sum((a - x) * (c - y) for a, c in points) / sum((a - x) ** 2 for a, _ in points)


def table(values: dict) -> str:
    """Exponents and the largest size, form by form."""
    lines = []
    for form in FORMS:
        rows = [r for r in values["rows"] if r["form"] == form]
        last = max(rows, key=lambda r: r["n"])
        cells = [form, f"{last['n']:,}"]
        for stage in STAGES:
            cells.append(f"{seconds(last[f'{stage}_seconds'])}, n^{slope(values, form, f'{stage}_seconds'):.1f}")
        memory = max(STAGES, key=lambda stage: last[f"{stage}_bytes"])
        cells.append(f"{last[f'{memory}_bytes'] / 2**20:.1f} MiB, n^{slope(values, form, f'{memory}_bytes'):.1f}")
        lines.append(cells)
    return markdown_table(["form", "largest n", "build", "product", "solve", "peak memory"], lines) + "\n"


def seconds(value: float) -> str:
    """Three digits, in a fitting unit."""
    return f"{value:.2f} s" if value >= 1 else f"{1e3 * value:.3g} ms"


def page(values: dict) -> str:
    """docs/cost.md."""
    return f"""# What curvature costs

A curvature matrix of n parameters has n² entries. Forming it takes n products and n² numbers, inverting it some n³/3
operations: for a million parameters 4 TB, and a month at 10¹¹ operations a second. A product with a vector takes about
one gradient, O(n) time and O(n) memory, and never needs the matrix. The other forms lie between. Below is what they
take here.

![Time and memory against n](cost.svg)

{table(values)}
Each cell is the cost at the largest n measured for that form and the exponent of a fit to its last {FIT} sizes. The
matrix is the Gauss–Newton matrix of an MLP 64-w-w-10 (tanh, cross-entropy, batch 128) in float32, for growing w;
"solve" is (C + λI)⁻¹ b with λ a hundredth of the largest eigenvalue, factorisation included.

| form | holds | build | product | solve |
|---|---|---|---|---|
| dense, `G.to_dense()` | n² numbers | n products: O(n²) | O(n²) | Cholesky: O(n³) |
| block-diagonal, `block_diagonal(G, by="layer", dense=True)` | Σ n_b² | n products | O(Σ n_b²) | O(Σ n_b³) |
| matrix-free, `GGN` | activations and O(n) | a forward pass | about a gradient: O(n) | a product for each step of CG |
| low-rank, `low_rank(G, {RANK}, "nystrom")` | r n | r products: O(r n) | O(r n) | Woodbury: O(r n) |
| Kronecker, `KFAC` | Σ (a² + b²) | about two gradients | O(Σ ab (a + b)) | O(Σ a³ + b³) |

n_b is the number of parameters of a layer, a and b its numbers of inputs and outputs (n_b = ab), r the rank. A layer as
wide as it is high has a = b = √n_b, so that a Kronecker form takes O(n) memory and O(n^1.5) operations. At small n the
times are those of a handful of calls, and the exponents approach their limits only where the arithmetic outweighs them.

*{header_text(values["header"])}. The records are `benchmarks/results/cost.json`; `python benchmarks/cost.py` measures
anew, `python benchmarks/cost.py --draw` writes this page and its figure from them.*
"""


def figure(values: dict, path: Path) -> None:
    """Four panels: seconds of the three stages and peak bytes, on logarithmic axes."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "quadric"
    from matplotlib import pyplot as plt

    fig, axes = plt.subplots(2, 2, figsize=(9, 7), sharex=True, layout="constrained")
    panels = [
        *((f"seconds to {'multiply' if s == 'product' else s}", f"{s}_seconds") for s in STAGES),
        ("MiB at the peak", ""),
    ]
    for axis, (title, key) in zip(axes.flat, panels, strict=True):
        for form in FORMS:
            rows = [r for r in values["rows"] if r["form"] == form]
            heights = [r[key] if key else max(r[f"{s}_bytes"] for s in STAGES) / 2**20 for r in rows]
            axis.loglog([r["n"] for r in rows], heights, marker="o", markersize=3, label=form)
        axis.set_title(title)
        axis.grid(alpha=0.3)
    for axis in axes[1]:
        axis.set_xlabel("parameters n")
    axes[0, 0].legend(frameon=False)
    fig.savefig(path, metadata={"Date": None})
    plt.close(fig)


if __name__ == "__main__":
    main()
