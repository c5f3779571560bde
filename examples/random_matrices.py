"""How rarely a random symmetric Gaussian matrix is definite: minima, maxima and saddles against the dimension k.

The argument that saddles outnumber minima often goes: at a random critical point each of k eigenvalues is positive with
probability 1/2, so all are with probability 2⁻ᵏ. But eigenvalues repel, so their signs are not independent. For the
Gaussian orthogonal ensemble the probability that all k are positive decays as exp(−θ k²) with θ = (ln 3)/4: far faster
(Dean and Majumdar 2006, Large deviations of extreme eigenvalues of random matrices). Both truths for small k, in closed
form: 1/2 for k = 1, (2 − √2)/4 for k = 2, and (π − 2√2)/(4π) for k = 3.

    python examples/random_matrices.py --out runs/random-matrices

prints the shares and draws them. Sampling sees probabilities down to some 1e-6; the closed forms and the law go on.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch

RATE = math.log(3) / 4
EXACT = {1: 1 / 2, 2: (2 - math.sqrt(2)) / 4, 3: (math.pi - 2 * math.sqrt(2)) / (4 * math.pi)}


def counts(k, samples, generator, chunk=100_000):
    """How many of so many random k×k matrices are minima, maxima and saddles."""
    minima = maxima = 0
    for start in range(0, samples, chunk):
        size = min(chunk, samples - start)
        a = torch.randn(size, k, k, generator=generator, dtype=torch.float64)
        eigenvalues = torch.linalg.eigvalsh(a + a.mT)
        minima += int((eigenvalues[:, 0] > 0).sum())
        maxima += int((eigenvalues[:, -1] < 0).sum())
    return minima, maxima, samples - minima - maxima


def experiment(dimensions, samples, seed=0):
    """A row for each k: shares of minima, maxima and saddles, and two standard errors of the first."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for k in dimensions:
        minima, maxima, saddles = counts(k, samples, generator)
        share = minima / samples
        rows.append((k, share, maxima / samples, saddles / samples, 2 * math.sqrt(share * (1 - share) / samples)))
    return rows


def law(dimensions):
    """exp(−θ k²), scaled to the closed form at k = 3."""
    return [EXACT[3] * math.exp(-RATE * (k * k - 9)) for k in dimensions]


def draw(rows, path):
    """Shares against k, beside 2⁻ᵏ and the law."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    dimensions = [row[0] for row in rows]
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for column, name, colour, marker in (
        (1, "minima", "#0072b2", "o"),
        (2, "maxima", "#d55e00", "v"),
        (3, "saddles", "#009e73", "s"),
    ):
        seen = [(row[0], row[column]) for row in rows if row[column] > 0]
        face = "none" if name == "maxima" else colour
        size = 10 if name == "maxima" else 5
        axes.plot(
            *zip(*seen, strict=True), marker, color=colour, markerfacecolor=face, markersize=size,
            label=f"{name}, sampled", zorder=3,
        )  # fmt: skip
    axes.plot(dimensions, [2.0**-k for k in dimensions], "--", color="#666666", label="2⁻ᵏ, if signs were independent")
    axes.plot(
        dimensions, law(dimensions), "-", color="#000000", linewidth=1, label="exp(−k² ln 3 / 4), the law for large k"
    )
    axes.set(yscale="log", ylim=(1e-8, 2), xlabel="dimension k", ylabel="share of random symmetric matrices")
    axes.set_xticks(dimensions)
    axes.grid(color="#e3e3e3", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(arguments=None):
    """Sample, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=7, help="largest dimension k")
    parser.add_argument("--samples", type=int, default=300_000, help="matrices for each k")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/random-matrices"), help="folder for the figure")
    options = parser.parse_args(arguments)
    if options.largest < 1 or options.samples < 1:
        parser.error("--largest and --samples must be at least 1")
    rows = experiment(range(1, options.largest + 1), options.samples, options.seed)
    print("k   minima              maxima     saddles    2^-k       closed form")
    for k, minima, maxima, saddles, error in rows:
        exact = f"{EXACT[k]:.6f}" if k in EXACT else ""
        print(f"{k:<3} {minima:.6f} ± {error:.6f} {maxima:.6f}   {saddles:.6f}   {2.0**-k:.6f}   {exact}")
    path = options.out / "random-matrices.png"
    draw(rows, path)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
