"""Newton's method and its relatives with full matrices, written from the formulas alone.

F(w) = f(w) + ½ Σ ω w², g = ∇F, C = a dense curvature of f plus diag ω. `lr` and `weight_decay` are numbers, or
functions of a parameter's name (that is: groups).
"""

from __future__ import annotations

import math
from collections import deque

import torch
from torch import Tensor, nn

from oracles import derivatives
from oracles.derivatives import call, gradient, loss, select


class DenseDamping:
    """λ = s e; s doubles where γ < 1/4, halves where γ > 3/4 and a ≥ 0.6, grows by 1.1 where a < 1/2 and λ < 10 e."""

    def __init__(self, given=None, adapt=True):
        self.given, self.adapt = given, adapt
        self.s = 0.1 if given is None else given
        self.e = 1.0
        self.mean = self.weight = self.top = self.bottom = 0.0

    @property
    def value(self):
        return self.s if self.given is not None else self.s * self.e

    def look(self, g, c, last):
        curvature = abs(g @ c @ g).item() / (g @ g).item()
        self.mean, self.weight = 0.9 * self.mean + 0.1 * curvature, 0.9 * self.weight + 0.1
        self.e = max(curvature, self.mean / self.weight)
        if last is not None:
            along = (last @ c @ last).item()
            self.bottom = 0.9 * self.bottom + 0.1 * along
            self.top = 0.9 * self.top + 0.1 * (along - (g @ last).item())
            if self.top < 0.5 * self.bottom and self.value < 10 * self.e:
                self.times(1.1)

    def learn(self, ratio):
        if ratio < 0.25:
            self.times(2.0)
        elif ratio > 0.75 and self.top >= 0.6 * self.bottom:
            self.times(0.5)

    def times(self, factor):
        if self.adapt:
            self.s = min(max(self.s * factor, 1e-8), 1e6)


class DenseStepper:
    """What the methods share: F, g and C on a step's batches, and moving the weights of `model`."""

    def __init__(self, model: nn.Module, loss_fn, lr=1.0, weight_decay=0.0, damping=None, adapt=True):
        self.model, self.loss_fn = model, loss_fn
        self.parameters = select(model)
        self.lr, self.decay = self.per_entry(lr), self.per_entry(weight_decay)
        self.damping, self.adapt = DenseDamping(damping, adapt), adapt
        self.last: Tensor | None = None
        self.predicted = self.actual = None

    def per_entry(self, value) -> Tensor:
        of = value if callable(value) else lambda name: value
        entries = [torch.full((p.numel(),), float(of(n)), dtype=torch.float64) for n, p in self.parameters.items()]
        return torch.cat(entries)

    def weights(self) -> Tensor:
        return torch.cat([p.detach().reshape(-1) for p in self.parameters.values()])

    def put(self, w: Tensor) -> None:
        with torch.no_grad():
            sizes = [p.numel() for p in self.parameters.values()]
            for p, part in zip(self.parameters.values(), w.split(sizes), strict=True):
                p.copy_(part.view_as(p))

    def value(self, batches, step=None) -> float:
        """F, at w + step."""
        w = self.weights()
        if step is not None:
            self.put(w + step)
        value = loss(self.model, self.loss_fn, batches).item() + 0.5 * (self.decay * self.weights() ** 2).sum().item()
        self.put(w)
        return value

    def gradient(self, batches) -> Tensor:
        return gradient(self.model, self.loss_fn, batches) + self.decay * self.weights()

    def matrix(self, curvature: str, batches) -> Tensor:
        if curvature == "empirical-fisher":
            rows = [
                gradient(self.model, self.loss_fn, (x[i : i + 1], t[i : i + 1]))
                for x, t in batches
                for i in range(len(x))
            ]
            plain = torch.stack(rows).T @ torch.stack(rows) / len(rows)
        else:
            plain = getattr(derivatives, curvature)(self.model, self.loss_fn, batches)
        return plain + torch.diag(self.decay)

    def step(self, *batches) -> float:
        """One step; returns f before it."""
        before = loss(self.model, self.loss_fn, list(batches)).item()
        step = self.direction_taken(list(batches))
        with torch.no_grad():
            for inputs, _ in batches:
                call(self.model, inputs)  # the one forward that updates BatchNorm's statistics
        self.put(self.weights() + step)
        self.last = step
        return before

    def direction_taken(self, batches) -> Tensor:
        raise NotImplementedError


class DenseNewton(DenseStepper):
    """s = −η [(K + λI)⁻¹ + αI] g, K a structure of C given as a function of it."""

    def __init__(self, model, loss_fn, curvature, structure=lambda c: c, correction=0.0, **options):
        super().__init__(model, loss_fn, **options)
        self.curvature, self.structure, self.correction = curvature, structure, correction

    def direction_taken(self, batches):
        g, start = self.gradient(batches), self.value(batches)
        k = self.structure(self.matrix(self.curvature, batches))
        if self.adapt:
            self.damping.look(g, k, self.last)
        for _ in range(12):
            newton = torch.linalg.solve(k + self.damping.value * torch.eye(len(g), dtype=g.dtype), g)
            alpha = self.correction
            if self.adapt and alpha:
                alpha = min(alpha, max((g @ g - g @ k @ newton).item(), 0.0) / (g @ k @ g).item())
            step = -self.lr * (newton + alpha * g)
            if not self.adapt:
                return step
            self.predicted = -(g @ step + 0.5 * step @ k @ step).item()
            self.actual = start - self.value(batches, step)
            if self.actual > 0:
                before = self.damping.s
                self.damping.learn(self.actual / self.predicted)
                self.correction *= before / self.damping.s
                return step
            self.damping.times(4.0)
            self.correction /= 4
        raise AssertionError("the reference found no step")


class DenseNewtonCG(DenseStepper):
    """Martens's iteration on the full matrix: warm start, stopping rule, iterates at ⌈1.3ʲ⌉, and Armijo's search."""

    def __init__(self, model, loss_fn, curvature="ggn", iterations=50, warm=0.95, power=None, **options):
        super().__init__(model, loss_fn, **options)
        self.curvature, self.iterations, self.warm, self.power = curvature, iterations, warm, power
        self.solution: Tensor | None = None
        self.warmed = 0
        self.stopped = ""

    def direction_taken(self, batches):
        g, c = self.gradient(batches), self.matrix(self.curvature, batches)
        if self.adapt:
            self.damping.look(g, c, self.last)
        a = c + self.damping.value * torch.eye(len(g), dtype=g.dtype)
        m = torch.eye(len(g), dtype=g.dtype)
        if self.power is not None:
            entries = (self.matrix("empirical-fisher", batches).diagonal() - self.decay + self.damping.value) ** 0.75
            m = torch.diag(1 / entries)
        iterates, direction = self.conjugate_gradients(a, -g, m)
        self.solution = iterates[0]
        first = iterates[0] if direction is None else iterates[0] + direction
        candidates = [first if g @ first <= 0 else -first, *iterates[1:]]
        if not self.adapt:
            return self.lr * candidates[0]
        return self.searched(batches, g, c, candidates)

    def conjugate_gradients(self, a, b, m):
        def model(x):
            return (0.5 * x @ a @ x - b @ x).item()

        x = torch.zeros_like(b)
        if self.warm and self.solution is not None and model(self.warm * self.solution) < 0 < b @ self.solution:
            x = self.warm * self.solution
            self.warmed += 1
        values, kept, mark = [model(x)], deque(maxlen=5), 1
        r = b - a @ x
        p, largest = m @ r, 0.0
        rz = r @ m @ r
        first = rz
        for i in range(1, self.iterations + 1):
            curvature = (p @ a @ p).item()
            if curvature <= 2.2e-16 * largest * (p @ p).item():
                self.stopped = "negative curvature"
                return [x, *reversed(kept)], p * (rz.item() / abs(curvature))
            largest = max(largest, curvature / (p @ p).item())
            if i - 1 == mark:
                kept.append(x)
                mark = max(mark + 1, math.ceil(1.3 * mark))
            x = x + rz / curvature * p
            r = r - rz / curvature * (a @ p)
            values.append(model(x))
            new = r @ m @ r
            p, rz = m @ r + new / rz * p, new
            k = max(10, math.ceil(0.1 * i))
            self.stopped = "limit"
            if rz <= 4.9e-32 * first:
                self.stopped = "solved"
                break
            if i > k and values[i - k] - values[i] < k * 5e-4 * abs(values[i]):
                self.stopped = "progress"
                break
        return [x, *reversed(kept)], None

    def searched(self, batches, g, c, candidates):
        start = self.value(batches)
        steps = [self.lr * s for s in candidates]
        values = [self.value(batches, s) for s in steps]
        i = 0
        while i + 1 < len(steps) and values[i + 1] < values[i]:
            i += 1
        step, value, alpha, slope = steps[i], values[i], 1.0, (g @ steps[i]).item()
        while value > start + 1e-2 * alpha * slope:
            alpha *= min(max(-slope * alpha / (2 * (value - start - slope * alpha)), 0.1), 0.5)
            value = self.value(batches, alpha * step)
        step, self.actual = alpha * step, start - value
        self.predicted = -(g @ step + 0.5 * step @ c @ step).item()
        if alpha < 1:
            self.damping.times(4.0)
        else:
            self.damping.learn(self.actual / self.predicted)
        self.stopped += f", α {'< 1' if alpha < 1 else '= 1'}, iterate −{i}"
        return step


class DenseSaddleFree(DenseStepper):
    """s = −η Q (M + λI)⁻¹ Qᵀ g with Q from orthogonalising g, Hg, H²g, …, and M² = QᵀH²Q."""

    def __init__(self, model, loss_fn, subspace=20, **options):
        super().__init__(model, loss_fn, **options)
        self.subspace = subspace

    def direction_taken(self, batches):
        g, h = self.gradient(batches), self.matrix("hessian", batches)
        if self.adapt:
            self.damping.look(g, h, self.last)
        start = self.value(batches)
        for _ in range(12):
            step = -self.lr * self.solved(g, h)
            if not self.adapt:
                return step
            self.predicted = -(g @ step + 0.5 * step @ h @ step).item()
            self.actual = start - self.value(batches, step)
            if self.actual >= 0:
                self.damping.learn(self.actual / self.predicted)
                return step
            self.damping.times(4.0)
        raise AssertionError("the reference found no step")

    def solved(self, g, h):
        if self.subspace >= len(g):
            values, vectors = torch.linalg.eigh(h)
            return vectors @ (vectors.T @ g / (values.abs() + self.damping.value))
        q = (g / g.norm()).unsqueeze(1)
        while q.shape[1] < self.subspace:
            new = h @ q[:, -1:]
            for _ in range(3):
                new = new - q @ (q.T @ new)
            q = torch.cat([q, new / new.norm()], 1)
        values, vectors = torch.linalg.eigh(q.T @ h @ h @ q)
        y = vectors @ ((vectors.T @ (q.T @ g)) / (values.clamp_min(0).sqrt() + self.damping.value))
        return q @ y


class DenseTrustRegion(DenseStepper):
    """The trust-region method of Nocedal and Wright, with a ratio test on the next batch."""

    def __init__(self, model, loss_fn, curvature="hessian", radius=None, exact=True, tol=0.1, limit=50, **options):
        super().__init__(model, loss_fn, **options)
        self.curvature, self.radius, self.exact, self.tol, self.limit = curvature, radius, exact, tol, limit
        self.top = self.bottom = 0.0
        self.attempts = 0

    def direction_taken(self, batches):
        g, c, start = self.gradient(batches), self.matrix(self.curvature, batches), self.value(batches)
        if self.radius is None:
            self.radius = (g.norm() ** 3 / (g @ c @ g).abs()).item()
        elif self.last is not None:
            along = (self.last @ c @ self.last).item()
            self.bottom = 0.9 * self.bottom + 0.1 * along
            self.top = 0.9 * self.top + 0.1 * (along - (g @ self.last).item())
            if self.top < 0.5 * self.bottom:
                self.radius /= 1.1
        while True:
            p = self.exactly(g, c) if self.exact else self.steihaug(g, c)
            step = self.lr * p
            self.predicted = -(g @ step + 0.5 * step @ c @ step).item()
            self.actual = start - self.value(batches, step)
            ratio = self.actual / self.predicted
            self.attempts += 1
            if ratio < 0.25:
                self.radius = p.norm().item() / 4
            elif ratio > 0.75 and p.norm().item() > 0.999999 * self.radius and self.top >= 0.6 * self.bottom:
                self.radius *= 2
            if self.actual > 0:
                return step

    def exactly(self, g, c):
        """By bisection on ‖(C + λI)⁻¹g‖ = Δ."""
        eye = torch.eye(len(g), dtype=g.dtype)
        lowest = torch.linalg.eigvalsh(c)[0].item()
        if lowest > -1e-12:
            p = -torch.linalg.pinv(c, hermitian=True, rtol=1e-12) @ g
            if p.norm() <= self.radius:
                return p
        low, high = max(0.0, -lowest), max(0.0, -lowest) + g.norm().item() / self.radius
        for _ in range(200):
            middle = 0.5 * (low + high)
            p = -torch.linalg.solve(c + middle * eye, g)
            low, high = (middle, high) if p.norm() > self.radius else (low, middle)
        return p

    def steihaug(self, g, c):
        p, r, d = torch.zeros_like(g), g, -g
        for _ in range(self.limit):
            curvature, d_norm = d @ c @ d, d.norm()
            ahead = p + (r @ r) / curvature * d
            if curvature <= 0 or ahead.norm() >= self.radius:
                half, product = (p @ d) / d_norm**2, (p @ p - self.radius**2) / d_norm**2
                return p + (-half + (half**2 - product).sqrt()) * d
            new = r + (r @ r) / curvature * (c @ d)
            p, d, r = ahead, -new + (new @ new) / (r @ r) * d, new
            if r.norm() <= self.tol * g.norm():
                return p
        return p


class DenseQuasiNewton(DenseStepper):
    """s = −η H g with the textbook updates of H, pairs damped as on mini-batches."""

    def __init__(self, model, loss_fn, update, **options):
        super().__init__(model, loss_fn, **options)
        self.update, self.h, self.shares = update, None, []
        self.mean = self.weight = self.top = self.bottom = self.curvature = 0.0

    def direction_taken(self, batches):
        g = self.gradient(batches)
        if self.last is not None:
            self.bottom = 0.9 * self.bottom + 0.1 * self.curvature
            self.top = 0.9 * self.top + 0.1 * (self.curvature - (g @ self.last).item())
        share = min(max(8 * (1 - (self.top / self.bottom if self.bottom > 0 else 0.0)), 0.3), 4.0)
        self.shares.append(share)
        d = -g / max(1.0, g.abs().sum().item()) if self.h is None else -self.h @ g
        d = d if d @ g < 0 else -d
        if self.update is sr1 and self.weight:
            d = d * min(1.0, (g.norm() / d.norm()).item() / (share * self.mean / self.weight))
        s = self.lr * d
        w = self.weights()
        self.put(w + s)
        y = self.gradient(batches) - g
        self.put(w)
        self.curvature = (s @ y).item()
        curvature = abs(self.curvature) / (s @ s).item()
        self.mean, self.weight = 0.9 * self.mean + 0.1 * curvature, 0.9 * self.weight + 0.1
        self.learn(s, y + share * max(curvature, self.mean / self.weight) * s, s @ s / abs(self.curvature) / 2)
        return s

    def learn(self, s, y, half):
        eye = torch.eye(len(s), dtype=s.dtype)
        first = half if self.update is sr1 else (s @ y) / (y @ y)
        h = eye if self.h is None else self.h
        if self.update is not sr1:
            hy = h @ y  # H is I before the first pair, as Powell's damping sees it
            if s @ y < 0.2 * y @ hy:
                theta = 0.8 * (y @ hy) / (y @ hy - s @ y)
                s = theta * s + (1 - theta) * hy
                first = (s @ y) / (y @ y)
        self.h = self.update(first * eye if self.h is None else h, s, y)


def bfgs(h, s, y):
    left = torch.eye(len(s), dtype=s.dtype) - torch.outer(s, y) / (s @ y)
    return left @ h @ left.T + torch.outer(s, s) / (s @ y)


def dfp(h, s, y):
    return h - torch.outer(h @ y, h @ y) / (y @ h @ y) + torch.outer(s, s) / (s @ y)


def sr1(h, s, y):
    v = s - h @ y
    return h + torch.outer(v, v) / (v @ y)
