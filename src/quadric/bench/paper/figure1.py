"""Figure 1 of the CurveBall paper: the methods of table 1 on Rosenbrock's function, with and without noise.

Reference: Henriques, Ehrhardt, Albanie, Vedaldi (2019), "Small steps and giant leaps", figure 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quadric.bench.journal import Journal
from quadric.bench.paper.columns import COLUMNS, ROSENBROCK, U1, U3, Column
from quadric.bench.paper.contenders import CONTENDERS, Contender
from quadric.bench.trajectories import Method, Scene, Trajectory, header, surface
from quadric.bench.watch import Watch
from quadric.core.records import Layout
from quadric.problems import Instance
from quadric.problems.planes import Window
from quadric.problems.rosenbrock import Rosenbrock

LAYOUT = Layout("figure1", 1, "run it again with --overwrite")
SEED = 0
WINDOW: Window = (-0.75, 1.5, -0.75, 1.5)
"""The authors' window."""
SHOWN = [c for c in CONTENDERS if c.published or c.name in ("newton", "curveball")]
"""The paper's methods, the exact Hessian, and our default: as many as can be told apart."""
SCENES = {column.title: column for column in COLUMNS if column.published in (ROSENBROCK, U1, U3)}


def drawn(column: Column) -> Instance:
    """The problem with its noise from the seed, from (−0.25, −0.25)."""
    instance = column.task.open(None, torch.device("cpu"))(SEED)
    with torch.no_grad():
        instance.model.get_parameter("position").fill_(-0.25)
    return instance


def expected(instance: Instance, position: Tensor) -> Tensor:
    """The expected function, which a run on noise is drawn over."""
    inputs, targets = instance.train[0]
    model = Rosenbrock(position)
    return instance.loss_fn(model(inputs), targets)


def run(title: str, contender: Contender, most_steps: int | None = None) -> Trajectory:
    """One method in one scene, until it is solved as table 1 means it."""
    column = SCENES[title]
    watch = Watch(most_steps or column.task.epochs, column.task.target.threshold, keep=True)
    try:
        contender.run(column, [drawn(column)], [watch])
    except KeyboardInterrupt:
        watch.end("interrupted", f"interrupted after {max(watch.steps - 1, 0):,} steps")
    if watch.status == "finished":
        watch.reason = f"not solved in {watch.steps:,} steps"
    instance = drawn(column)
    with torch.no_grad():
        values = [float(expected(instance, torch.tensor(point, dtype=torch.float64))) for point in watch.path]
    return Trajectory(title, contender.title, watch.path, values, watch.status, watch.reason)


def record(path: Path, environment: dict[str, str], most_steps: int | None = None) -> Iterator[Trajectory]:
    """Record the contours of each scene and the trajectory of every method, and yield the trajectories."""
    scenes = [
        Scene(
            title, "" if title == ROSENBROCK else "noise drawn anew at each step; f is the expected one", [[1.0, 1.0]]
        )
        for title in SCENES
    ]
    methods = [
        Method(c.title, c.name, {}, "; ".join(dict.fromkeys(c.settings(SCENES[t]) for t in SCENES))) for c in SHOWN
    ]
    top = header("Figure 1: stochastic Rosenbrock", scenes, methods, environment)
    with Journal(path, LAYOUT, top) as lines:
        for title, column in SCENES.items():
            instance = drawn(column)

            def function(position: Tensor, instance: Instance = instance) -> Tensor:
                return expected(instance, position)

            lines.write("surface", asdict(surface(title, function, WINDOW)))
            for contender in SHOWN:
                trajectory = run(title, contender, most_steps)
                lines.write("trajectory", shortened(trajectory))
                yield trajectory
                if trajectory.status == "interrupted":
                    return


def shortened(trajectory: Trajectory) -> dict[str, Any]:
    """The trajectory with as many digits as a figure can show."""
    points = [[float(f"{value:.4f}") for value in point] for point in trajectory.points]
    return {**asdict(trajectory), "points": points, "values": [float(f"{value:.3g}") for value in trajectory.values]}
