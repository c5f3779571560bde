"""What a monitor measures at one moment of training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from quadric.analysis.gradient_noise import gradient_noise
from quadric.core.saved import Saved
from quadric.curvature.curvature import Curvature
from quadric.curvature.ggn import GGN
from quadric.curvature.hessian import Hessian
from quadric.curvature.regularity import read
from quadric.linalg.deflated_trace import deflated_trace
from quadric.linalg.lanczos import lanczos
from quadric.linalg.probes import gaussian, seeded
from quadric.objective.batch import Batch
from quadric.objective.objective import Objective

CURVATURES: dict[str, type[Curvature[Any]]] = {"hessian": Hessian, "ggn": GGN}
MIXED = 0.1
"""Length of the random part of a start beside the vector that is known: an eigenvector that overtakes it is found."""


@dataclass(frozen=True)
class Measurement(Saved):
    """The model of the loss on one batch at one moment of training; what was not measured is None.

    `step` counts the monitor's calls. `seconds` is what this measurement cost, `monitor_seconds` all of the monitor's
    work so far, `training_seconds` the time in between. `loss` f and `gradient_norm` ‖g‖ are those of the batch at the
    present parameters.

    `largest` is a Ritz value of the curvature C, never above its largest eigenvalue λ_max, and within `residual` of an
    eigenvalue. `trace` of C has `trace_error` for its standard error, itself rough, as it rests on few probes.
    `gradient_curvature` is gᵀCg / ‖g‖², the inverse of the best step size along the gradient; `alignment` is that over
    `largest`; `top_share` is the share of ‖g‖² along the eigenvector of `largest`.

    `noise_scale` = tr Σ / ‖∇f‖² with Σ the covariance of one example's gradient, from `noise_trace` and `signal`, each
    with its standard error (see `gradient_noise`). An average over measurements is that of the traces over that of the
    signals, as in `Monitor.summary`.

    `damping` λ, `momentum` ρ and `step_size` β are those of the optimiser's `last_step`, `lr` that of its first group.
    `problem` says what could not be measured and why; numbers that were not finite are None.
    """

    step: int
    seconds: float
    monitor_seconds: float
    training_seconds: float
    loss: float | None = None
    gradient_norm: float | None = None
    largest: float | None = None
    residual: float | None = None
    trace: float | None = None
    trace_error: float | None = None
    gradient_curvature: float | None = None
    alignment: float | None = None
    top_share: float | None = None
    noise_trace: float | None = None
    noise_trace_error: float | None = None
    signal: float | None = None
    signal_error: float | None = None
    noise_scale: float | None = None
    noise_scale_error: float | None = None
    damping: float | None = None
    momentum: float | None = None
    step_size: float | None = None
    lr: float | None = None
    products: int = 0
    problem: str | None = None


def described(history: Sequence[Measurement]) -> Iterator[str]:
    """The last of some measurements, and their noise scale, line by line."""
    last = history[-1]
    yield f"step {last.step}: loss {_number(last.loss)}, ‖gradient‖ {_number(last.gradient_norm)}"
    if last.largest is not None:
        yield (
            f"largest eigenvalue {_number(last.largest, last.residual)}, trace {_number(last.trace, last.trace_error)}"
        )
    if last.gradient_curvature is not None:
        yield (
            f"curvature along the gradient {_number(last.gradient_curvature)} ({_number(last.alignment)} of the "
            f"largest), {100 * (last.top_share or 0.0):.0f} % of ‖gradient‖² along the top eigenvector"
        )
    pairs = [(m.noise_trace, m.signal) for m in history if m.noise_trace is not None and m.signal is not None]
    if pairs:
        spread, signal = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
        scale = f"{spread / signal:.3g} examples" if signal > 0 else "not known: the gradient is lost in its noise"
        yield f"gradient noise scale over {len(pairs)} measurements: {scale}"
    said = {"λ": last.damping, "ρ": last.momentum, "β": last.step_size, "lr": last.lr}
    if any(value is not None for value in said.values()):
        yield "optimiser: " + ", ".join(f"{name} {value:.3g}" for name, value in said.items() if value is not None)
    if last.problem is not None:
        yield last.problem


def _number(value: float | None, error: float | None = None) -> str:
    if value is None:
        return "not finite"
    return f"{value:.4g}" if error is None else f"{value:.4g} ± {error:.1g}"


@dataclass(frozen=True)
class Look:
    """One look at the model of the loss: `values` for a `Measurement`, and `vector` to start the next look from.

    `not_finite` says what was not finite, `refusals` what model, loss or memory did not allow.
    """

    values: dict[str, Any]
    vector: Tensor | None
    not_finite: str | None = None
    refusals: tuple[str, ...] = ()


def look(
    objective: Objective,
    batches: Sequence[Batch],
    *,
    curvature: str,
    products: int,
    vector: Tensor | None,
    seed: int,
) -> Look:
    """f, ‖g‖, the curvature's λ_max and trace, and the gradient noise scale on a step's batches.

    Raises what the objective raises where loss and gradient can't be evaluated on the batches; what goes wrong beyond
    that is told in the result. `vector` is that of the look before.
    """
    operator = CURVATURES[curvature](objective, batches[0] if len(batches) == 1 else list(batches), seed=seed)
    reading = read(operator)
    norm = float(reading.gradient.double().norm())
    values: dict[str, Any] = {"loss": reading.loss, "gradient_norm": norm}
    if not (math.isfinite(reading.loss) and math.isfinite(norm)):
        return Look(values, vector, f"The loss is {reading.loss}, the norm of its gradient {norm}.")
    not_finite, refusals = None, []
    try:
        seen, vector = _curvature(operator, reading.gradient, vector, products, seed)
        values.update(seen)
    except FloatingPointError as error:
        not_finite = str(error)
    except (ValueError, TypeError, RuntimeError) as error:
        refusals.append(f"No curvature: {error}")
    try:
        values.update(_noise(objective, batches, seed))
    except (ValueError, TypeError, RuntimeError) as error:
        refusals.append(f"No gradient noise scale: {error}")
    return Look(values, vector, not_finite, tuple(refusals))


def _curvature(
    operator: Curvature[Any], gradient: Tensor, before: Tensor | None, products: int, seed: int
) -> tuple[dict[str, Any], Tensor]:
    """A third of the products go to the trace, one to the gradient, the others to λ_max; and the Ritz vector."""
    generator, probes = seeded(seed), products // 3
    image = operator @ gradient
    known = lanczos(
        operator, _start(gradient if before is None else before, operator, generator), products - probes - 1
    )
    if not bool(torch.isfinite(known.diagonal).all() and torch.isfinite(image).all()):
        raise FloatingPointError("A product with the curvature is not finite.")
    trace = deflated_trace(operator, known, probes, generator)
    theta, vectors = known.eigh()
    largest, vector = float(theta[-1]), known.basis @ vectors[:, -1].to(known.basis)
    rounding = torch.finfo(operator.dtype).eps * float(theta.abs().max())
    values: dict[str, Any] = {
        "largest": largest,
        "residual": float(known.residuals(vectors)[-1]) + rounding,
        "trace": trace.estimate,
        "trace_error": trace.standard_error,
        "products": 1 + len(theta) + trace.products,
    }
    squared = float(gradient.double().square().sum())
    if squared > 0:
        values["gradient_curvature"] = along = float(gradient.double() @ image.double()) / squared
        values["alignment"] = along / largest if largest > 0 else None
        values["top_share"] = float(gradient.double() @ vector.double()) ** 2 / squared
    return values, vector


def _start(known: Tensor, operator: Curvature[Any], generator: torch.Generator) -> Tensor:
    """The eigenvector seen last, else the gradient, which mostly lies in the top eigenspace; neither of them quite."""
    random = gaussian(operator.space, 1, generator).squeeze(1)
    random, length = random / random.norm(), known.norm()
    return random if float(length) == 0 else torch.add(known.to(random) / length, random, alpha=MIXED)


def _noise(objective: Objective, batches: Sequence[Batch], seed: int) -> dict[str, float]:
    noise = gradient_noise(objective, batches, seed=seed)
    if noise is None:
        return {}
    return {
        "noise_trace": noise.spread,
        "noise_trace_error": noise.spread_error,
        "signal": noise.signal,
        "signal_error": noise.signal_error,
        "noise_scale": noise.scale,
        "noise_scale_error": noise.scale_error,
    }
