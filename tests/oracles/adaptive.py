"""The adaptive methods from their papers' formulas, in NumPy on flat vectors and dense matrices.

Each function advances one parameter tensor: `state` is a dict of its own, and the direction d comes back; the step is
w ← (1 − ηω) w − η d.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg


def mean(state: dict, name: str, value: np.ndarray, beta: float) -> np.ndarray:
    """Σ (1 − β) β^{t−s} x_s, from the whole history."""
    state.setdefault(name, []).append(np.asarray(value, dtype=float))
    history = state[name]
    if beta == 1:
        return sum(history)
    return sum((1 - beta) * beta ** (len(history) - 1 - s) * x for s, x in enumerate(history))


def unbiased(state: dict, name: str, value: np.ndarray, beta: float) -> np.ndarray:
    total = mean(state, name, value, beta)
    return total if beta == 1 else total / (1 - beta ** len(state[name]))


def adahessian(state, g, d, shape, betas, eps, power, spatial):
    """d is z ∘ Hz, or None at a step that does not look."""
    m = unbiased(state, "g", g, betas[0])
    if d is not None:
        d = d.reshape(shape)
        if spatial and len(shape) > 2:
            for index in np.ndindex(*shape[:2]):
                d[index] = d[index].mean()
        state["v"] = unbiased(state, "d", d.reshape(-1) ** 2, betas[1])
    v = state.get("v", np.zeros_like(m))
    return m / (np.sqrt(v) ** power + eps)


def sophia(state, g, h, betas, eps, gamma):
    m = mean(state, "g", g, betas[0])
    if h is not None:
        state["h_mean"] = mean(state, "h", h, betas[1])
    return np.clip(m / np.maximum(gamma * state.get("h_mean", 0.0), eps), -1, 1)


def adam(state, g, betas, eps):
    return unbiased(state, "g", g, betas[0]) / (np.sqrt(unbiased(state, "v", g**2, betas[1])) + eps)


def unfold(g: np.ndarray, side: int) -> np.ndarray:
    return np.moveaxis(g, side, 0).reshape(g.shape[side], -1)


def kron(matrices: list[np.ndarray]) -> np.ndarray:
    out = np.ones((1, 1))
    for m in matrices:
        out = np.kron(out, m)
    return out


def shampoo(state, g, shape, betas, eps, interval, sides, graft):
    """`shape` is the folded one, `sides` those with a matrix."""
    m = unbiased(state, "g", g, betas[0])
    for i in sides:
        u = unfold(g.reshape(shape), i)
        state[f"L{i}"] = unbiased(state, f"l{i}", u @ u.T, betas[1])
    if (len(state["g"]) - 1) % interval == 0:
        factors = [np.eye(n) for n in shape]
        for i in sides:
            matrix = state[f"L{i}"]
            damped = matrix + eps * np.linalg.norm(matrix, 2) * np.eye(len(matrix))
            factors[i] = np.real(scipy.linalg.expm(scipy.linalg.logm(damped) * (-1 / (2 * len(sides)))))
        state["P"] = kron(factors)
    a = m / (np.sqrt(unbiased(state, "v", g**2, betas[1])) + 1e-8)
    if not sides:
        return a
    p = state["P"] @ m
    if graft is None:
        return p
    return p * np.linalg.norm(a if graft == "adam" else m) / np.linalg.norm(p)


def soap(state, g, shape, betas, eps, interval, first_bases):
    """`first_bases` are the eigenvectors for the first step, None for a side without any.

    In the sense of SOAP's V, which is carried from basis to basis entry by entry; M is kept unrotated.
    """
    sides = [i for i, q in enumerate(first_bases) if q is not None]
    first = "Q" not in state
    if first:
        state["Q"] = [np.eye(n) if q is None else q for n, q in zip(shape, first_bases, strict=True)]
        state["v"], state["t"] = np.zeros(g.size), 0
    for i in sides:
        u = unfold(g.reshape(shape), i)
        old = state.get(f"L{i}")
        state[f"L{i}"] = u @ u.T if old is None else betas[1] * old + (1 - betas[1]) * (u @ u.T)
    m = unbiased(state, "g", g, betas[0])
    q = kron(state["Q"])
    state["t"] += 1
    state["v"] = betas[1] * state["v"] + (1 - betas[1]) * (q.T @ g) ** 2
    v = state["v"] / (1 - betas[1] ** state["t"])
    d = g / (np.abs(g) + eps) if first else q @ ((q.T @ m) / (np.sqrt(v) + eps))
    if state["t"] % interval == 0:
        for i in sides:
            old = state["Q"][i]
            order = np.argsort(-np.diag(old.T @ state[f"L{i}"] @ old))
            state["Q"][i] = np.linalg.qr(state[f"L{i}"] @ old[:, order])[0]
            state["v"] = np.take(state["v"].reshape(shape), order, axis=i).reshape(-1)
    return d
