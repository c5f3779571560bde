"""The vector space that an operator acts on: lists of named tensors, seen as flat vectors at the `op @ x` border."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor


def operator_dtype(dtypes: Iterable[torch.dtype]) -> torch.dtype:
    """The dtype of flat vectors over tensors of these dtypes: float64 if any is, their own if they agree and are at
    least float32, else float32."""
    kinds = set(dtypes)
    if torch.float64 in kinds:
        return torch.float64
    return torch.float32


@dataclass(frozen=True, eq=False)
class Space:
    """ℝⁿ as a list of tensors with names, shapes, dtypes, one device and, for parameters, the layers that own them.

    `dtype` is that of flat vectors. Tensors of lower precision are raised to it by `flatten` and lowered again by
    `unflatten`. `group` is the process group over which inner products are summed (None: this process alone).
    """

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    dtypes: tuple[torch.dtype, ...]
    device: torch.device
    layers: tuple[str, ...] = ()
    group: Any = None
    dtype: torch.dtype = field(init=False)
    numels: tuple[int, ...] = field(init=False)
    numel: int = field(init=False)
    """Dimension n."""
    uniform: bool = field(init=False)
    """Whether all tensors have the dtype of flat vectors."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", operator_dtype(self.dtypes))
        object.__setattr__(self, "numels", tuple(shape.numel() for shape in self.shapes))
        object.__setattr__(self, "numel", sum(self.numels))
        object.__setattr__(self, "uniform", all(d == self.dtype for d in self.dtypes))

    @classmethod
    def euclidean(cls, n: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Space:
        """ℝⁿ as one unnamed vector."""
        return cls(("",), (torch.Size([n]),), (dtype,), torch.device(device), ("",))

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each tensor begins in a flat vector; one entry more than there are tensors."""
        return tuple(accumulate(self.numels, initial=0))

    def same_as(self, other: Space) -> bool:
        """Whether flat vectors of both spaces have the same length, dtype and device."""
        return (self.numel, self.dtype, self.device) == (other.numel, other.dtype, other.device)

    def flatten(self, tensors: Sequence[Tensor]) -> Tensor:
        """The flat vector [n] of a list of tensors shaped like the space's."""
        self._check_list(tensors)
        flat = [t.reshape(-1) for t in tensors]
        if not self.uniform:
            flat = [t.to(self.dtype) for t in flat]
        return torch.cat(flat)

    def unflatten(self, vector: Tensor) -> list[Tensor]:
        """The list of tensors of a flat vector [n]; views of it where the dtypes agree."""
        self.check(vector, dims=(1,))
        parts = vector.contiguous().split_with_sizes(self.numels)
        tensors = [p.view(s) for p, s in zip(parts, self.shapes, strict=True)]
        return tensors if self.uniform else [t.to(d) for t, d in zip(tensors, self.dtypes, strict=True)]

    def dot(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        """⟨a, b⟩ of two lists of tensors, summed in float64: a 0-d tensor."""
        return torch.stack([(x.reshape(-1) @ y.reshape(-1)).double() for x, y in zip(a, b, strict=True)]).sum()

    def check(self, x: Any, dims: tuple[int, ...] = (1, 2)) -> None:
        """Raise unless `x` is a flat vector [n] (or, with 2 in `dims`, a matrix [n, k]) of this space."""
        wanted = " or ".join("[n]" if d == 1 else "[n, k]" for d in dims)
        if not isinstance(x, Tensor):
            raise TypeError(f"Expected a torch.Tensor {wanted} with n = {self.numel}, got {type(x).__name__}.")
        if x.dim() not in dims or x.shape[0] != self.numel:
            raise ValueError(
                f"Expected a tensor {wanted} with n = {self.numel}, got shape {list(x.shape)}; "
                "`space.flatten` makes a flat vector of a list of tensors."
            )
        if x.dtype != self.dtype:
            raise ValueError(f"Expected dtype {self.dtype}, got {x.dtype}; convert with `x.to({self.dtype})`.")
        if x.device != self.device:
            raise ValueError(f"Expected device {self.device}, got {x.device}; move with `x.to('{self.device}')`.")

    def _check_list(self, tensors: Sequence[Tensor]) -> None:
        shapes = tuple(t.shape for t in tensors)
        if shapes != self.shapes:
            raise ValueError(
                f"Expected {len(self.shapes)} tensors shaped {[list(s) for s in self.shapes]}, "
                f"got {len(shapes)} shaped {[list(s) for s in shapes]}."
            )
