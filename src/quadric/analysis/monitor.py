"""A monitor: the quadratic model of the loss, measured now and then while any optimiser trains."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quadric.analysis.allowance import Allowance, share_of
from quadric.analysis.measurement import CURVATURES, Measurement, described, look
from quadric.core.errors import QuadricWarning, unknown_name
from quadric.core.randomness import generators_kept
from quadric.core.records import Layout, finite, line, mend, write_atomically
from quadric.objective.batch import Batch
from quadric.objective.objective import Objective

LAYOUT = Layout("monitor", 1, "name another file")
LEAST = 6
"""Products: one along the gradient, two probes for a standard error, three Lanczos steps."""
FIRST, LOADING = 3, 0.05
"""What the first measurement is taken to cost: steps of training for each product, and seconds for code to load."""
LONGER = 1.1
"""What a measurement may cost over the last one's cost without passing the budget."""


class Monitor:
    """Watches a training from within its loop, without changing it and within a share of its time.

        monitor = quadric.Monitor(objective, budget="2%", path="runs/monitor.jsonl")
        for batch in loader:
            monitor.step(batch, optimizer)
            loss = optimizer.step(objective.on(batch))  # or loss.backward(); optimizer.step(): any loop will do

    Each `step` measures only if `every` steps have passed since the last time (the first is due at once) and the cost
    keeps within `budget`, a share of the time that passes between the monitor's calls ("2%" or 0.02; None for no
    limit). A measurement costs some 2 products + 4 steps of gradient descent, so with the defaults one comes every
    1,300 steps, and the first after 1,500 or more. `measure` takes one now, whatever the budget; its cost counts.

    A `Measurement` is the model on the batch given, at the parameters as they are: λ_max and the trace of the
    curvature ("hessian" or "ggn"), ‖g‖ and how it lies to the curvature, the gradient noise scale, and what the
    optimiser says of its last step. λ_max comes from a few Lanczos steps that start near the last one's eigenvector.
    Measure before the step on a batch: after it, its gradient is shorter than others' and the noise scale too large.
    One and the same batch each time gives curves free of the choice of batch. `history` holds the measurements.

    Parameters, `.grad`, buffers, train/eval mode, optimiser and global random state stay as they are, to the bit; what
    a model keeps elsewhere (a counter in a plain attribute, say) goes on as with any evaluation. Hooks of the model
    run. Numbers that are not finite are recorded as None with the `problem`, and so is what the model or its loss
    doesn't allow, with one warning; training goes on.

    Args:
        every: least number of steps from one measurement to the next.
        products: products with the curvature in a measurement: one along the gradient, a third for the trace.
        writer: anything with `add_scalar(tag, value, step)`, such as TensorBoard's SummaryWriter.
        path: a file of JSON lines, each written as it happens. One that exists is continued, and so are its history,
            its count of steps (`steps`, which you may set) and of time; a last line that is cut off is taken away.
        seed: of the random vectors, and of what the model draws.
        clock: what seconds are read from.

    Memory: as for a Hessian product, and about products + 8 vectors of the parameters' size. Raises ValueError for an
    argument out of range, or a file that holds something else. References: Cohen et al. (2021) for λ_max in training;
    McCandlish et al. (2018) for the noise scale; Gur-Ari, Roberts and Dyer (2018) for the gradient in the top
    eigenspace.
    """

    def __init__(
        self,
        objective: Objective,
        *,
        every: int = 1,
        budget: float | str | None = "2%",
        curvature: str = "hessian",
        products: int = 10,
        writer: Any = None,
        path: str | os.PathLike[str] | None = None,
        seed: int = 0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if not isinstance(objective, Objective):
            raise TypeError(
                f"Expected a quadric.Objective, got {type(objective).__name__}: quadric.Objective(model, loss_fn)."
            )
        for name, value, least in (("every", every, 1), ("products", products, LEAST)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"Expected {name} to be a whole number of at least {least}, got {value!r}.")
        if curvature not in CURVATURES:
            raise unknown_name("curvature", curvature, CURVATURES)
        if writer is not None and not callable(getattr(writer, "add_scalar", None)):
            raise TypeError(f"Expected a writer with add_scalar(tag, value, step), got {type(writer).__name__}.")
        self.objective = objective
        self.every = every
        self.curvature = curvature
        self.products = products
        self.writer = writer
        self.seed = seed
        self.steps = 0
        """Calls of `step` so far; set it where a run goes on from a checkpoint."""
        self._time = Allowance(share_of(budget), clock)
        self._history: list[Measurement] = []
        self._vector: Tensor | None = None
        self._warned: set[str] = set()
        self._checked = False
        self._path = None if path is None else Path(path)
        if self._path is not None:
            self._open(self._path)

    @property
    def history(self) -> tuple[Measurement, ...]:
        """The measurements so far, in the order they were taken."""
        return tuple(self._history)

    @property
    def share(self) -> float:
        """The monitor's time over the training's, so far."""
        return self._time.spent / self._time.training if self._time.training > 0 else 0.0

    def step(self, batch: Any = None, optimizer: Any = None) -> Measurement | None:
        """Count a step of training, and measure if one is due: the measurement, or None.

        `batch` is what training takes, or a list of micro-batches; None for a plain function. From `optimizer` only
        `last_step` and the first group's `lr` are read. Raises ValueError or TypeError for a batch that the objective
        can't take.
        """
        with self._time:
            self.steps += 1
            due = self._due()
            if self._checked and not due:
                return None
            batches = list(self.objective.batches(batch))
            self._checked = True
            return self._measure(batches, optimizer) if due else None

    def measure(self, batch: Any = None, optimizer: Any = None) -> Measurement:
        """Measure now, as `step` does when it is due."""
        with self._time:
            return self._measure(list(self.objective.batches(batch)), optimizer)

    def _due(self) -> bool:
        last = self._history[-1] if self._history else None
        if last is not None:
            expected = LONGER * last.seconds
            return self.steps - last.step >= self.every and self._time.affords(expected, last.training_seconds)
        if self._time.share is None:
            return True
        gaps, training = self._time.gaps, self._time.training
        return gaps > 0 and self._time.affords(FIRST * self.products * training / gaps + LOADING)

    def _measure(self, batches: list[Batch], optimizer: Any) -> Measurement:
        self._drain()
        before = self._time.spent
        with generators_kept():
            seen = look(
                self.objective,
                batches,
                curvature=self.curvature,
                products=self.products,
                vector=self._vector,
                seed=self.seed + self.steps,
            )
        self._vector = seen.vector
        spent = self._time.spent
        values = finite({**seen.values, **_said(optimizer)})
        problem = " ".join(filter(None, (seen.not_finite, *seen.refusals))) or None
        found = Measurement(self.steps, spent - before, spent, self._time.training, **values, problem=problem)
        self._history.append(found)
        self._write(found)
        for text in seen.refusals:
            self._warn(text)
        return found

    def _drain(self) -> None:
        """Wait for what training still has to do on the device, on training's account."""
        device = self.objective.space.device
        if device.type == "cuda":
            before = self._time.spent
            torch.cuda.synchronize(device)
            self._time.waited(self._time.spent - before)

    def _warn(self, problem: str) -> None:
        if problem not in self._warned:
            self._warned.add(problem)
            warnings.warn(f"Monitor, step {self.steps}: {problem}", QuadricWarning, stacklevel=4)

    # ---- records

    def _open(self, path: Path) -> None:
        """Go on with the file, or begin it."""
        if not path.exists() or path.stat().st_size == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            header = {"format": LAYOUT.format, **self._identity()}
            write_atomically(path, line(LAYOUT.header, header).encode())
            return
        held = LAYOUT.read_header(path, lambda values: {name: values[name] for name in self._identity()})
        if held != self._identity():
            raise ValueError(
                f"{path} holds measurements of {held}, these are of {self._identity()}: name another file."
            )
        mend(path)
        self._history = Monitor.read(path)
        if self._history:
            last = self._history[-1]
            self.steps = last.step
            self._time.resume(last.training_seconds, last.monitor_seconds)

    def _identity(self) -> dict[str, Any]:
        """What measurements of one file have in common."""
        return {"parameters": self.objective.space.numel, "curvature": self.curvature}

    def _write(self, found: Measurement) -> None:
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line("measurement", asdict(found)))
        if self.writer is not None:
            for field in fields(found):
                value = getattr(found, field.name)
                if isinstance(value, (int, float)) and field.name != "step":
                    self.writer.add_scalar(f"quadric/{field.name}", value, found.step)

    @staticmethod
    def read(path: str | os.PathLike[str]) -> list[Measurement]:
        """The measurements in a file, whole or still being written; one cut off at its end is left out, with a warning.

        Raises ValueError where the file holds something else, FileNotFoundError where there is none.
        """
        LAYOUT.read_header(Path(path), dict)
        found, damage = LAYOUT.read_lines(Path(path), _read)
        if damage is not None:
            warnings.warn(f"{path}: {damage}.", QuadricWarning, stacklevel=2)
        return found

    def summary(self) -> str:
        """A few lines for a person: the last measurement, the noise scale over all of them, and what they cost."""
        count = len(self._history)
        plural = "" if count == 1 else "s"
        cost = f"{count} measurement{plural} in {self.steps} steps, {100 * self.share:.2g} % of the training's time"
        if not count:
            return f"{cost}: none has fitted into the budget yet; `measure` takes one at once."
        return "\n".join((cost, *described(self._history)))


def _read(values: dict[str, Any]) -> Measurement:
    if values.pop("kind") != "measurement":
        raise ValueError("it is no measurement")
    return Measurement(**values)


def _said(optimizer: Any) -> dict[str, float | None]:
    """What an optimiser of any make says of its last step."""
    last, groups = getattr(optimizer, "last_step", None), getattr(optimizer, "param_groups", None)
    said = {name: getattr(last, name, None) for name in ("damping", "momentum", "step_size")}
    said["lr"] = groups[0].get("lr") if groups else None
    return {name: _number(value) for name, value in said.items()}


def _number(value: Any) -> float | None:
    """A number or a tensor with one as a float; None for anything else."""
    single = isinstance(value, (int, float)) or (isinstance(value, Tensor) and value.numel() == 1)
    return float(value) if single else None
