"""The parts of an inspection: what each measures, with which settings, and about how much it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from quadric.analysis.classify import EXTREMAL, classify
from quadric.analysis.sharpness import sharpness
from quadric.analysis.slice_plane import eigenvector_steps, slice_plane
from quadric.analysis.slices import filter_normalized
from quadric.bench.inspection.subject import Subject
from quadric.core.progress import Progress
from quadric.core.saved import Saved
from quadric.linalg.eigenpairs import Eigenpairs
from quadric.linalg.eigsh import basis_size, eigsh
from quadric.linalg.limits import EXACT_BELOW
from quadric.linalg.sampling import USUAL
from quadric.linalg.spectral_density import spectral_density

TOP = 20
"""Eigenvalues where none of the parts, and so no number, was asked for."""
STEPS, PROBES = 40, 10
"""Lanczos steps and probes of a density."""

Results = Mapping[str, Saved]
"""What the parts before have found, by name."""


@dataclass(frozen=True)
class Wanted:
    """What was asked for. `top` is None where only other parts were."""

    curvatures: tuple[str, ...]
    top: int | None = None
    density: bool = False
    sharpness: bool = False
    classify: bool = False
    slices: bool = False
    tol: float = 1e-4
    lr: float | None = None
    momentum: float = 0.0
    points: int = 21
    radius: float = 1.0


@dataclass(frozen=True)
class Part:
    """One measurement. About `products` with `curvature` and `evaluations` of the loss, `vectors` of n numbers kept."""

    name: str
    title: str
    curvature: str
    settings: dict[str, Any]
    products: int
    vectors: int
    measure: Callable[[Results, Progress | None], Saved] = field(compare=False)
    evaluations: int = 0

    @property
    def file(self) -> str:
        """Where its result is kept: another file for other settings."""
        said = "".join(f"-{name}{value:g}" for name, value in self.settings.items() if value is not None)
        return f"{self.name}{said}.npz"


def plan(subject: Subject, wanted: Wanted, found: Mapping[str, Mapping[str, Any]] | None = None) -> list[Part]:
    """The parts in the order in which they run: eigenvalues first, since slices go along their vectors.

    `found` has the settings of parts that are there already: slices take eigenvectors from there.

    Raises ValueError where more eigenvalues are asked for than there are parameters.
    """
    n = subject.dimension
    if wanted.top is not None and wanted.top > n:
        raise ValueError(f"--top {wanted.top}: {subject.name} has only {n:,} parameters, and so as many eigenvalues.")
    parts: list[Part] = []
    found = found or {}
    for i, curvature in enumerate(wanted.curvatures):
        if wanted.top is not None:
            parts.append(_top(subject, curvature, wanted.top, wanted.tol))
        elif wanted.slices and i == 0 and f"{curvature}-top" not in found:
            parts.append(_top(subject, curvature, min(2, n), wanted.tol))
        if wanted.sharpness:
            parts.append(_sharpness(subject, curvature, wanted))
        if wanted.density:
            parts.append(_density(subject, curvature))
    if wanted.classify:
        parts.append(_classify(subject))
    if wanted.slices:
        top = f"{wanted.curvatures[0]}-top"
        leader = next((part.settings for part in parts if part.name == top), None) or found[top]
        parts.append(_eigenvector_plane(subject, wanted, leader))
        if any(p.dim() > 1 and bool(p.any()) for p in subject.objective.parameters):
            parts.append(_random_plane(subject, wanted))
    return parts


def _top(subject: Subject, curvature: str, k: int, tol: float) -> Part:
    n = subject.dimension
    basis = basis_size(n, subject.objective.space.dtype.itemsize, k)

    def measure(results: Results, progress: Progress | None) -> Saved:
        return eigsh(subject.operator(curvature), k, tol=tol, seed=subject.settings.seed, progress=progress)

    # a dense decomposition holds the matrix, its symmetric half and its eigenvectors in float64
    vectors = 6 * n if n <= basis else 2 * basis
    return Part(
        f"{curvature}-top", f"{curvature}: {k} largest eigenvalues", curvature, {"k": k, "tol": tol},
        n if n <= basis else min(n, 3 * k + 10), vectors, measure,
    )  # fmt: skip


def _sharpness(subject: Subject, curvature: str, wanted: Wanted) -> Part:
    def measure(results: Results, progress: Progress | None) -> Saved:
        operator, seed = subject.operator(curvature), subject.settings.seed
        lr, momentum, tol = wanted.lr, wanted.momentum, wanted.tol
        return sharpness(operator, lr=lr, momentum=momentum, tol=tol, seed=seed, progress=progress)

    return Part(
        f"{curvature}-sharpness", f"{curvature}: sharpness and trace", curvature,
        {"lr": wanted.lr, "momentum": wanted.momentum, "tol": wanted.tol},
        min(subject.dimension, 20) + min(subject.dimension, USUAL), USUAL, measure,
    )  # fmt: skip


def _density(subject: Subject, curvature: str) -> Part:
    n = subject.dimension

    def measure(results: Results, progress: Progress | None) -> Saved:
        operator, seed = subject.operator(curvature), subject.settings.seed
        return spectral_density(operator, steps=STEPS, probes=PROBES, seed=seed, progress=progress)

    return Part(
        f"{curvature}-density", f"{curvature}: spectral density", curvature, {"steps": STEPS, "probes": PROBES},
        min(n, STEPS * PROBES), 4 * n if n <= STEPS * PROBES else STEPS, measure,
    )  # fmt: skip


def _classify(subject: Subject) -> Part:
    n = subject.dimension

    def measure(results: Results, progress: Progress | None) -> Saved:
        return classify(subject.objective, subject.data, seed=subject.settings.seed, progress=progress)

    basis = basis_size(n, subject.objective.space.dtype.itemsize, EXTREMAL)
    dense = n <= EXACT_BELOW
    return Part(
        "classify", "kind of critical point", "hessian", {}, n if dense else 100 + STEPS * PROBES + USUAL,
        6 * n if dense else 2 * basis, measure,
    )  # fmt: skip


def _eigenvector_plane(subject: Subject, wanted: Wanted, leader: Mapping[str, Any]) -> Part:
    """Along the eigenvectors that a part with the settings `leader` finds, whose own they are, too."""
    first, k, tol = wanted.curvatures[0], leader["k"], leader["tol"]
    count = min(2, k)

    def measure(results: Results, progress: Progress | None) -> Saved:
        operator, found = subject.operator(first), results[f"{first}-top"]
        assert isinstance(found, Eigenpairs)
        vectors = found.eigenvectors[:, :2].to(operator.device)
        return _plane(subject, first, eigenvector_steps(operator, found.eigenvalues[:2], vectors), wanted, progress)

    return Part(
        f"{first}-plane-eigenvectors", f"loss along the top eigenvectors of the {first}", first,
        {**_grid(wanted), "k": k, "tol": tol}, count, 6, measure, wanted.points**count,
    )  # fmt: skip


def _random_plane(subject: Subject, wanted: Wanted) -> Part:
    first = wanted.curvatures[0]

    def measure(results: Results, progress: Progress | None) -> Saved:
        directions = filter_normalized(subject.objective, 2, seed=subject.settings.seed)
        return _plane(subject, first, directions, wanted, progress)

    return Part(
        f"{first}-plane-random", "loss along two random directions, filter-normalised", first, _grid(wanted), 2, 6,
        measure, wanted.points**2,
    )  # fmt: skip


def _plane(subject: Subject, curvature: str, directions: Tensor, wanted: Wanted, progress: Progress | None) -> Saved:
    operator = subject.operator(curvature)
    return slice_plane(operator, directions, radius=wanted.radius, points=wanted.points, progress=progress)


def _grid(wanted: Wanted) -> dict[str, Any]:
    return {"points": wanted.points, "radius": wanted.radius}
