"""The local quadratic model of one step: m(s) = f + gᵀs + ½ sᵀC s with C = G + ωI and g the gradient of f + ½ω‖w‖²."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from quadric.objective.batch import Batch
from quadric.objective.closure import Closure
from quadric.objective.linearization import Linearization, pulled_together
from quadric.optim.inner_products import InnerProducts, Pair
from quadric.optim.optimizer import Weights
from quadric.optim.subspace import Local

Vector = list[Tensor]
NOTHING = "There is nothing to average over on these batches (every D_b is 0): all targets ignored?"
NOTHING_ON_SHARE = (
    "There is nothing to take the curvature on: every D_b is 0 on the share of the batch that curvature_fraction names "
    "(all targets ignored?). Shuffle the examples, or raise curvature_fraction."
)


@dataclass(frozen=True)
class Direction:
    """A vector v over the moved tensors, with J v and H_ℓ J v on each micro-batch that G is taken on."""

    vector: Vector
    image: list[Tensor]
    curved: list[Tensor]


class LocalModel:
    """The model on one closure, seen through passes over its micro-batches.

    A single batch is linearised once; several are linearised again at each pass, so memory is that of one. With
    `fraction` < 1, G is taken on that share of each micro-batch: where the loss is separable (`split`), as one part of
    the pass that takes the gradient, else by passes of its own. With `fraction` = 0 there is no G and no ω in C.
    `taped=False` is where no tangent will be asked for.
    `products` counts the passes spent beyond the gradient, each about 2/3 of one.
    """

    def __init__(
        self, closure: Closure, weights: Weights, fraction: float = 1.0, *, split: bool = False, taped: bool = True
    ) -> None:
        self.closure = closure
        self.weights = weights
        self.fraction = fraction
        self.split = split
        self.taped = taped
        self.products = 0
        self.loss = torch.zeros(())
        self.gradient: Vector | None = None
        heads = [b if fraction in (0, 1) else b.split(fraction)[0] for b in closure.batches]
        self._curved = heads if fraction > 0 else []
        """What G is taken on."""
        self._start: list[Batch] = [closure.batches[0].split(fraction)[1], *heads] if split else list(closure.batches)
        """What the gradient is taken on."""
        self._retained: Linearization | None = None
        self._shares: list[float] = []
        self._slopes: list[Tensor] = []
        self._implied: tuple[Vector, Direction] | None = None
        """u and z where g is known only as u − Cz."""

    def start(
        self, z: Vector | None, *, temper: float | None = None, retain: bool = False
    ) -> tuple[Vector, Direction | None]:
        """f and u = c Cz + g (g alone without z) by one reverse pass; z as a direction.

        c is 1 or, with `temper` and `fraction` = 1, min(1, temper · ‖∇ℓ‖ / ‖H_ℓ J z‖), for which several micro-batches
        take a reverse pass each more. `retain` keeps the graph of a single batch for `pull`. Where g comes by itself it
        is left in `gradient`.
        """
        if self.split:
            return self._start_split(z)
        merged = [any(b is c for c in self._curved) for b in self._start]
        taped = [self.taped and whole for whole in merged]
        losses: list[Tensor] = []
        weights: list[float] = []
        images: list[Tensor] = []
        curved: list[Tensor] = []
        total: Vector | None = None
        bent: Vector | None = None
        apart = temper is not None and len(self._start) > 1
        share = 1.0
        for lin, whole in zip(self.closure.linearizations(self._start, taped), merged, strict=True):
            weight = self._weight(lin)
            if weight == 0:
                continue
            losses.append(lin.loss)
            weights.append(weight)
            if not whole:
                total = self._add(total, lin.gradient(retain=False), weight)
                continue
            cotangent = lin.loss_gradient
            self._slopes.append(cotangent)
            self._keep(lin)
            if z is not None:
                self._push(lin, z, images, curved)
                if apart:
                    bent = self._add(bent, lin.vjp(curved[-1]), weight)
                else:
                    share = tempered(temper, [cotangent], curved, [1.0])
                    cotangent = torch.add(cotangent, curved[-1], alpha=share)
            total = self._add(total, lin.vjp(cotangent, retain=retain), weight)
        if total is None:
            raise ValueError(NOTHING)
        self._shares = [w / sum(weights) for w in weights]
        if bent is not None:
            share = tempered(temper, self._slopes, curved, self._shares)
            torch._foreach_add_(total, bent, alpha=share)
        self.loss = losses[0]
        if len(losses) > 1:
            torch._foreach_div_(total, sum(weights))
            self.loss = torch.stack([f * s for f, s in zip(losses, self._shares, strict=True)]).sum()
        return self._finished(total, z, images, curved, any(merged), share)

    def _start_split(self, z: Vector | None) -> tuple[Vector, Direction | None]:
        """`start` where G's share of the single batch is a part of it: one reverse pass through both parts."""
        rest, head = self.closure.linearizations(self._start, (False, True))
        if head.weight == 0:
            raise ValueError(NOTHING if rest.weight == 0 else NOTHING_ON_SHARE)
        total = rest.weight + head.weight
        shares = rest.weight / total, head.weight / total
        self._shares = [1.0]
        self._keep(head)
        images: list[Tensor] = []
        curved: list[Tensor] = []
        if z is not None:
            self._push(head, z, images, curved)
        self.loss = rest.loss * shares[0] + head.loss * shares[1]
        u = self.weights.pick(pulled_together((rest, head), shares, (None, curved[0] if curved else None)))
        return self._finished(u, z, images, curved, True)

    def _finished(
        self,
        total: Vector,
        z: Vector | None,
        images: list[Tensor],
        curved: list[Tensor],
        merged: bool,
        share: float = 1.0,
    ) -> tuple[Vector, Direction | None]:
        """Add what the batch does not hold: the weight decay, and G z where it goes by itself."""
        self._decay(total, [w.detach() for w in self.weights.tensors])
        if z is None or not merged:
            self.gradient = total
        if z is None:
            return total, None
        if not merged:
            total = [g.clone() for g in total]
            if self._curved:
                self._add_fraction(total, z, images, curved)
        if self.fraction > 0:
            self._decay(total, z, share if self.fraction == 1 else 1.0)
        along_z = Direction(z, images, curved)
        if self.split:
            self._implied = total, along_z
        return total, along_z

    def push(self, vector: Vector) -> Direction:
        """The direction of a vector: one tangent pass."""
        images: list[Tensor] = []
        curved: list[Tensor] = []
        if self.fraction > 0:
            for lin in self._parts():
                self._push(lin, vector, images, curved)
        return Direction(vector, images, curved)

    def pull(self, directions: list[Direction], coefficients: Iterable[float]) -> Vector:
        """g + C Σ cᵢ vᵢ: one reverse pass, on the whole batch (`fraction` = 1)."""
        coefficients = list(coefficients)
        self.products += 1
        total: Vector | None = None
        with self.closure.again():
            for i, lin in enumerate(self._parts()):
                cotangent = self._slopes[i].clone()
                for c, d in zip(coefficients, directions, strict=True):
                    cotangent.add_(d.curved[i], alpha=c)
                total = self._add(total, lin.vjp(cotangent), self._shares[i] if len(self._shares) > 1 else 1.0)
        assert total is not None
        self._decay(total, [w.detach() for w in self.weights.tensors])
        for c, d in zip(coefficients, directions, strict=True):
            self._decay(total, d.vector, c)
        return total

    def plain_gradient(self) -> Vector:
        """The gradient of f alone, without weight decay."""
        if self.fraction == 1 and self._retained is not None:
            with self.closure.again():
                return self.weights.pick(self._retained.vjp(self._retained.loss_gradient))
        plain = replace(self.weights, weight_decay=[0.0] * len(self.weights.tensors))
        return LocalModel(self.closure, plain, fraction=0.0).start(None)[0]

    @property
    def linearization(self) -> Linearization | None:
        """The single batch, linearised, while it is retained."""
        return self._retained

    def release(self) -> None:
        """Let go of the linearisation."""
        self._retained = None

    def gram(self, directions: list[Direction]) -> Local:
        """VᵀCV, VᵀV and Vᵀg of the directions, in float64; one transfer from the device."""
        inner = InnerProducts()
        pairs = [
            (i, j, inner.want(d.image, e.curved), inner.want(d.vector, e.vector))
            for i, d in enumerate(directions)
            for j, e in enumerate(directions[: i + 1])
        ]
        slopes = [self._slope_terms(d, inner) for d in directions]
        values = inner.values()
        k = len(directions)
        curvature, metric, slope = np.zeros((k, k)), np.zeros((k, k)), np.zeros(k)
        for i, j, image, vector in pairs:
            curvature[i, j] = curvature[j, i] = self._averaged(values[image]) + self._decayed(values[vector])
            metric[i, j] = metric[j, i] = sum(values[vector])
        for i, terms in enumerate(slopes):
            slope[i] = self._slope(*[[] if key is None else values[key] for key in terms])
        return curvature, metric, slope

    # ---- the pieces

    def _weight(self, lin: Linearization) -> float:
        """D_b; of a single batch only asked where its loss is not finite, since then it may be 0."""
        if len(self._start) > 1:
            return lin.weight
        if not math.isfinite(lin.loss) and lin.weight == 0:
            raise ValueError(NOTHING_ON_SHARE if lin.batch.share else NOTHING)
        return 1.0

    def _keep(self, lin: Linearization) -> None:
        self._retained = lin if len(self._curved) == 1 else None

    def _parts(self) -> Iterator[Linearization]:
        """What G is taken on, linearised."""
        if self._retained is not None:
            yield self._retained
            return
        found = False
        for lin in self.closure.linearizations(self._curved):
            self._keep(lin)
            if self._weight(lin) > 0:
                found = True
                yield lin
        if not found:
            raise ValueError(NOTHING_ON_SHARE)

    def _push(self, lin: Linearization, vector: Vector, images: list[Tensor], curved: list[Tensor]) -> None:
        images.append(lin.jvp(self.weights.spread(vector, lin.parameters)))
        curved.append(lin.loss_hessian(images[-1]))
        self.products += 1

    def _add(self, total: Vector | None, full: Vector, weight: float) -> Vector:
        part = self.weights.pick(full)
        if len(self._start) == 1:
            return part
        if total is None:
            return list(torch._foreach_mul(part, weight))
        torch._foreach_add_(total, part, alpha=weight)
        return total

    def _add_fraction(self, total: Vector, z: Vector, images: list[Tensor], curved: list[Tensor]) -> None:
        """Add G z on the share of each micro-batch; D_b of the shares replace those of the whole."""
        parts = []
        weights = []
        for lin in self._parts():
            self._push(lin, z, images, curved)
            parts.append(self.weights.pick(lin.vjp(curved[-1], retain=False)))
            weights.append(self._weight(lin))
            self.products += 1
        self._shares = [w / sum(weights) for w in weights]
        for part, share in zip(parts, self._shares, strict=True):
            torch._foreach_add_(total, part, alpha=share)

    def _decay(self, total: Vector, vector: Vector, factor: float = 1.0) -> None:
        """total += factor · ω ∘ vector."""
        for t, v, o in zip(total, vector, self.weights.weight_decay, strict=True):
            if o:
                t.add_(v, alpha=o * factor)

    def _slope_terms(self, d: Direction, inner: InnerProducts) -> tuple[Pair | None, Pair | None, Pair | None]:
        """The inner products that gᵀv is made of: with g or u, with images, and for the weight decay."""
        if self.gradient is not None:
            return inner.want(d.vector, self.gradient), None, None
        if self._implied is not None:
            u, z = self._implied
            decay = inner.want(d.vector, z.vector) if self._decays else None
            return inner.want(d.vector, u), inner.want(d.image, z.curved), decay
        weights = [w.detach() for w in self.weights.tensors]
        return None, inner.want(d.image, self._slopes), inner.want(d.vector, weights) if self._decays else None

    def _slope(self, direct: list[float], image: list[float], decay: list[float]) -> float:
        """gᵀv: from the gradient where it is known, as uᵀv − vᵀCz where u = Cz + g is, else through the outputs."""
        rest = self._averaged(image) + self._decayed(decay)
        return sum(direct) - rest if self._implied is not None else sum(direct) + rest

    @property
    def _decays(self) -> bool:
        """Whether there is a weight decay, in a model with curvature."""
        return self.fraction > 0 and any(self.weights.weight_decay)

    def _decayed(self, inner: list[float]) -> float:
        """Σ ω · the inner products of the tensors; 0 without a curvature."""
        return (
            sum(o * x for o, x in zip(self.weights.weight_decay, inner, strict=True)) if inner and self._decays else 0.0
        )

    def _averaged(self, image: list[float]) -> float:
        """Σ over micro-batches of share · ⟨J v, ·⟩."""
        return sum(image) if len(image) == 1 else sum(s * x for s, x in zip(self._shares, image, strict=False))


def tempered(temper: float | None, slopes: list[Tensor], curved: list[Tensor], shares: list[float]) -> float:
    """c = min(1, temper · ‖∇ℓ‖ / ‖H_ℓ J z‖) over the micro-batches' outputs; 1 without `temper`."""
    if temper is None:
        return 1.0
    norms = torch.stack(torch._foreach_norm([*slopes, *curved])).double().tolist()
    slope, bend = (
        math.sqrt(sum((share * norm) ** 2 for share, norm in zip(shares, part, strict=True)))
        for part in (norms[: len(slopes)], norms[len(slopes) :])
    )
    return min(1.0, temper * slope / bend) if bend > 0 and math.isfinite(bend) else 1.0
