"""The ways of several optimisers over a function of two variables, recorded so that they can be drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quadric import optim
from quadric.bench.journal import Journal
from quadric.bench.stepping import follow, on_nothing
from quadric.bench.watch import Watch
from quadric.core.records import Layout
from quadric.objective import Objective
from quadric.optim.minimize.fixed_rate import GROWTH, stable_rate
from quadric.problems.planes import Plane, Window

LAYOUT = Layout("trajectories", 1, "run it again with --overwrite")
SIDE = 121
"""Points of the grid of contours along each side."""
STATIONARY = 1e-5
"""An end where max |gᵢ| is no more than this is called stationary."""
SMALL = 0.25
"""A learning rate below this share of the largest stable one is called small."""
MARGIN = 0.12
"""What is left free around the trajectories, as a share of their extent, where no window is given."""
HEAVY_BALL = ("sgd", "momentum")
"""Methods whose largest stable learning rate is known from the curvature."""
SHARE = 0.5
"""The learning rate of a method below, where none is set, is this share of the inverse of the largest curvature."""
RATE_FROM_CURVATURE = (*HEAVY_BALL, "nesterov")

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Method:
    """An optimiser as it is run: its label in figures, its name, hyper-parameters, and where they come from."""

    label: str
    optimizer: str
    hyper: dict[str, Any] = field(default_factory=dict)
    origin: str = "its defaults"


@dataclass(frozen=True)
class Scene:
    """What is drawn in one pair of panels: a function, a start, known minima, and what a reader has to know."""

    name: str
    summary: str
    minima: Sequence[Sequence[float]] = ()


@dataclass(frozen=True)
class Trajectory:
    """The points [steps + 1, 2] of a method in a scene, f there, and how it ended."""

    scene: str
    method: str
    points: list[list[float]]
    values: list[float]
    status: str
    reason: str


@dataclass(frozen=True)
class Surface:
    """f on a grid for contours: `values[i][j]` at the i-th of the evenly spaced y and the j-th of the x."""

    scene: str
    window: Window
    values: list[list[float]]


@dataclass(frozen=True)
class Ways:
    """A record file: its header, and what has been recorded of each scene."""

    header: dict[str, Any]
    scenes: list[Scene]
    methods: list[Method]
    trajectories: list[Trajectory]
    surfaces: dict[str, Surface]


# ---- running


def method(label: str, optimizer: str, hyper: dict[str, Any], plane: Plane) -> Method:
    """An optimiser with the settings given; gradient descent and its kin get the inverse of the curvature for their lr.

    Raises:
        ValueError, TypeError: an unknown optimiser or setting, or one that cannot be used on this function.
    """
    origin = "as set" if hyper else "its defaults"
    if optimizer in RATE_FROM_CURVATURE and "lr" not in hyper:
        curvature = largest_curvature(plane.value, plane.start)
        if curvature > 0:
            hyper = {"lr": float(f"{SHARE / curvature:.3g}"), **hyper}
            origin = "lr from the largest curvature at the start"
    objective = Objective.of(plane.fun, torch.tensor(plane.start, dtype=torch.float64))
    optim.create(optimizer, objective, **hyper).step(objective.on())  # type: ignore[arg-type]
    return Method(label, optimizer, hyper, origin)


def trace(plane: Plane, way: Method, steps: int) -> Trajectory:
    """Take steps from the start, and say how that ended."""
    x = torch.tensor(plane.start, dtype=torch.float64)
    first = float(plane.value(x))
    reach = GROWTH * max(abs(first), 1.0)
    watch = Watch(steps + 1, bounds=(-reach, reach), keep=True)
    objective = Objective.of(plane.fun, x)
    optimizer = optim.create(way.optimizer, objective, **way.hyper)
    try:
        follow(optimizer, objective, on_nothing(objective), watch)
    except KeyboardInterrupt:
        watch.end("interrupted", f"interrupted after {max(watch.steps - 1, 0):,} steps")
    reason = ending(plane.value, watch) + about_rate(
        plane.value, watch, optimizer if way.optimizer in HEAVY_BALL else None
    )
    return Trajectory(plane.name, way.label, watch.path, watch.losses, watch.status, reason)


def ending(function: Function, watch: Watch) -> str:
    """How a run ended: where it went to, and whether it is stationary there."""
    if watch.status in ("gave up", "interrupted") or not watch.path:
        return watch.reason
    taken = watch.steps - 1
    if watch.status == "diverged":
        fell = watch.losses[-1] < watch.losses[0]
        what = "fell without bound" if fell else "diverged"
        return f"{what}: f went from {watch.losses[0]:.4g} to {watch.losses[-1]:.3g} in {taken:,} steps"
    slope = steepest(function, watch.path[-1])
    place = ", ".join(f"{value:.4g}" for value in watch.path[-1])
    there = "stationary" if slope <= STATIONARY else "not stationary"
    return f"after {taken:,} steps at ({place}), f = {watch.losses[-1]:.3g}, {there} (max |g| = {slope:.2g})"


def about_rate(function: Function, watch: Watch, optimizer: torch.optim.Optimizer | None) -> str:
    """What the curvature met on the way says of a fixed learning rate that was too large, or small."""
    if optimizer is None or not watch.path:
        return ""
    sharpness = largest_met(function, watch.path)
    if not sharpness > 0:
        return ""
    group = optimizer.param_groups[0]
    rate, bound = float(group["lr"]), stable_rate(float(group["momentum"]), sharpness)
    met = f"the largest curvature met along a step, {sharpness:.3g}, allows up to {bound:.3g}"
    if rate >= bound:
        return f"; lr = {rate:g} is too large: {met}"
    slow = watch.status == "finished" and rate < SMALL * bound and steepest(function, watch.path[-1]) > STATIONARY
    return f"; lr = {rate:g} is small: {met}" if slow else ""


def gradient(function: Function, point: Sequence[float]) -> list[float]:
    """∇f at a point."""
    x = torch.tensor(list(point), dtype=torch.float64, requires_grad=True)
    (g,) = torch.autograd.grad(function(x), x, materialize_grads=True)
    slopes: list[float] = g.tolist()
    return slopes


def steepest(function: Function, point: Sequence[float]) -> float:
    """max |gᵢ| at a point."""
    return max(map(abs, gradient(function, point)))


def largest_curvature(function: Function, point: Sequence[float]) -> float:
    """The largest absolute eigenvalue of ∇²f at a point."""
    hessian = torch.autograd.functional.hessian(function, torch.tensor(list(point), dtype=torch.float64))
    return float(torch.linalg.eigvalsh(hessian).abs().max())


def largest_met(function: Function, path: Sequence[Sequence[float]]) -> float:
    """The largest Δgᵀs / sᵀs over the steps s of a path, as far as it is finite."""
    points = torch.tensor(path, dtype=torch.float64)
    slopes = torch.tensor([gradient(function, point) for point in path], dtype=torch.float64)
    s, y = points.diff(dim=0), slopes.diff(dim=0)
    quotients = (s * y).sum(dim=1) / s.square().sum(dim=1)
    return max([float(q) for q in quotients if math.isfinite(q)], default=0.0)


# ---- contours


def surface(name: str, function: Function, window: Window) -> Surface:
    """f on a grid over the window."""
    xs, ys = (torch.linspace(*ends, SIDE, dtype=torch.float64) for ends in (window[:2], window[2:]))
    with torch.no_grad():
        values = [[float(function(torch.stack([x, y]))) for x in xs] for y in ys]
    return Surface(name, window, [[float(f"{value:.5g}") for value in row] for row in values])


def window(plane: Plane, trajectories: Sequence[Trajectory]) -> Window:
    """The plane's own window, widened to the start, or else what holds every trajectory that did not run away."""
    starts = [t.points[0] for t in trajectories if t.points]
    if plane.window is not None:
        (x0, x1), (y0, y1) = (
            (min(low, *(p[i] for p in starts)), max(high, *(p[i] for p in starts)))
            for i, (low, high) in enumerate((plane.window[:2], plane.window[2:]))
        )
        return x0, x1, y0, y1
    kept = (
        [p for t in trajectories if t.status != "diverged" for p in t.points] + starts + [list(m) for m in plane.minima]
    )
    ends = [(min(p[i] for p in kept), max(p[i] for p in kept)) for i in (0, 1)]
    least = 0.2 * max(high - low for low, high in ends) or 1.0
    (x0, x1), (y0, y1) = (widened(low, high, least) for low, high in ends)
    return x0, x1, y0, y1


def widened(low: float, high: float, least: float) -> tuple[float, float]:
    """The interval with a margin, at least so long."""
    extra = max(MARGIN * (high - low), (least - (high - low)) / 2)
    return low - extra, high + extra


# ---- records


def header(
    title: str, scenes: Sequence[Scene], methods: Sequence[Method], environment: dict[str, str]
) -> dict[str, Any]:
    """What a record of trajectories begins with."""
    return {
        "title": title,
        "scenes": [asdict(scene) for scene in scenes],
        "methods": [asdict(way) for way in methods],
        "environment": environment,
    }


def record(
    plane: Plane, methods: Sequence[Method], steps: int, path: Path, environment: dict[str, str]
) -> Iterator[Trajectory]:
    """Run each method, record its trajectory, yield it; then record the contours. Stops after an interrupted one."""
    top = header(plane.name, [Scene(plane.name, plane.summary, plane.minima)], methods, environment)
    done: list[Trajectory] = []
    with Journal(path, LAYOUT, top) as lines:
        for way in methods:
            done.append(trace(plane, way, steps))
            lines.write("trajectory", asdict(done[-1]))
            yield done[-1]
            if done[-1].status == "interrupted":
                break
        lines.write("surface", asdict(surface(plane.name, plane.value, window(plane, done))))


def read(path: Path, layout: Layout = LAYOUT) -> Ways:
    """A record file of trajectories; a last line that is cut off is left out.

    Raises:
        ValueError: it cannot be read as one.
    """
    kinds: dict[str, type[Trajectory | Surface]] = {"trajectory": Trajectory, "surface": Surface}
    top = layout.read_header(path, dict)
    parts, _ = layout.read_lines(path, lambda values: kinds[values.pop("kind")](**values))
    return Ways(
        top,
        [Scene(**scene) for scene in top["scenes"]],
        [Method(**way) for way in top["methods"]],
        [part for part in parts if isinstance(part, Trajectory)],
        {part.scene: part for part in parts if isinstance(part, Surface)},
    )
