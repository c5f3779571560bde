"""Inner products of vectors that are lists of tensors: each taken once, all moved from the device together."""

from __future__ import annotations

import torch
from torch import Tensor

Pair = tuple[int, int]


class InnerProducts:
    """Say which are wanted, then ask for their values, tensor by tensor."""

    def __init__(self) -> None:
        self._vectors: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
        """id → (vector, its tensors flat); the vector is held so that its id stays its own."""
        self._wanted: dict[Pair, list[Tensor]] = {}

    def want(self, a: list[Tensor], b: list[Tensor]) -> Pair:
        """The key of ⟨a, b⟩ in `values`."""
        pair = (id(a), id(b)) if id(a) <= id(b) else (id(b), id(a))
        if pair not in self._wanted:
            self._wanted[pair] = [torch.dot(x, y) for x, y in zip(self._flat(a), self._flat(b), strict=True)]
        return pair

    def values(self) -> dict[Pair, list[float]]:
        """The inner products of the pairs of tensors, by key, as float64."""
        terms = [t for part in self._wanted.values() for t in part]
        numbers = iter(torch.stack(terms).tolist() if terms else ())
        return {pair: [next(numbers) for _ in part] for pair, part in self._wanted.items()}

    def _flat(self, vector: list[Tensor]) -> list[Tensor]:
        known = self._vectors.get(id(vector))
        if known is None:
            known = self._vectors[id(vector)] = vector, [x.reshape(-1) for x in vector]
        return known[1]
