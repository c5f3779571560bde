"""Some of a space's coordinates: whole tensors by name, or indices of the flat vector."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from quadric.core.space import Space

Wanted = Iterable[str] | Iterable[int] | Tensor | slice | str


class Selection:
    """Coordinates `index` of a flat vector, and the `space` they span."""

    def __init__(self, space: Space, index: slice | Tensor) -> None:
        self.space = space
        self._index = index

    @property
    def index(self) -> slice | Tensor:
        """A slice or a list of indices."""
        return self._index

    @classmethod
    def of_tensors(cls, space: Space, positions: list[int]) -> Selection:
        """Whole tensors of a space, by their positions in its list."""
        offsets = space.offsets
        inner = Space(
            tuple(space.names[p] for p in positions),
            tuple(space.shapes[p] for p in positions),
            tuple(space.dtypes[p] for p in positions),
            space.device,
            tuple(space.layers[p] for p in positions) if space.layers else (),
            space.group,
        )
        if inner.dtype != space.dtype:
            inner = Space(inner.names, inner.shapes, (space.dtype,) * len(positions), *_rest(inner))
        if positions == list(range(positions[0], positions[0] + len(positions))):
            return cls(inner, slice(offsets[positions[0]], offsets[positions[-1] + 1]))
        ranges = [torch.arange(offsets[p], offsets[p + 1], device=space.device) for p in positions]
        return cls(inner, torch.cat(ranges))

    @classmethod
    def of_coordinates(cls, space: Space, index: Tensor) -> Selection:
        """Coordinates by their indices in the flat vector."""
        if index.dim() != 1 or index.dtype.is_floating_point or index.dtype == torch.bool or index.numel() == 0:
            raise ValueError(f"Expected a list of integer indices, got {index.dtype} of shape {list(index.shape)}.")
        if int(index.min()) < 0 or int(index.max()) >= space.numel:
            raise ValueError(
                f"Expected indices from 0 to {space.numel - 1}, got {int(index.min())} to {int(index.max())}."
            )
        index = index.to(space.device, torch.long)
        repeated = index.numel() - torch.unique(index).numel()
        if repeated:
            raise ValueError(f"Expected distinct indices, got {repeated} repeated.")
        inner = Space.euclidean(index.numel(), space.dtype, space.device)
        first = int(index[0])
        if torch.equal(index, torch.arange(first, first + index.numel(), device=index.device)):
            return cls(inner, slice(first, first + index.numel()))
        return cls(inner, index)

    @property
    def indices(self) -> Tensor:
        """The coordinates as a list of indices."""
        index = self.index
        if isinstance(index, slice):
            return torch.arange(index.start, index.stop, device=self.space.device)
        return index

    @property
    def slices(self) -> tuple[slice, ...] | None:
        """Slices that hold the coordinates, in any order; None where they come as a list of indices."""
        return (self.index,) if isinstance(self.index, slice) else None

    def same_as(self, other: Selection) -> bool:
        """Whether both select the same coordinates in the same order."""
        return self is other or torch.equal(self.indices, other.indices)

    def take(self, x: Tensor) -> Tensor:
        """The selected rows of x [n, k] or entries of x [n]."""
        return x[self.index]

    def write(self, y: Tensor, out: Tensor) -> None:
        """Put rows y [m, k] or entries y [m] in their places in `out`."""
        out[self.index] = y

    def put(self, y: Tensor, n: int) -> Tensor:
        """Rows y [m, k] in their places among zeros [n, k]."""
        out = y.new_zeros(n, y.shape[1])
        self.write(y, out)
        return out


def _rest(space: Space) -> tuple[torch.device, tuple[str, ...], object]:
    return space.device, space.layers, space.group


def select(space: Space, wanted: Wanted) -> Selection:
    """The selection that names of tensors, integer indices or a slice of the flat vector stand for.

    Raises ValueError for unknown names, indices out of range or repeated, and for an empty selection.
    """
    if isinstance(wanted, slice):
        wanted = range(*wanted.indices(space.numel))
    if isinstance(wanted, Tensor):
        return Selection.of_coordinates(space, wanted)
    items = [wanted] if isinstance(wanted, str) else list(wanted)
    if not items:
        raise ValueError("Expected names of tensors or indices, got an empty selection.")
    if all(isinstance(item, str) for item in items):
        unknown = [item for item in items if item not in space.names]
        if unknown:
            raise ValueError(f"Unknown tensors {unknown}; the space has {list(space.names)}.")
        positions = [space.names.index(str(item)) for item in items]
        if len(set(positions)) != len(positions):
            raise ValueError(f"Expected distinct names, got {items}.")
        return Selection.of_tensors(space, positions)
    if all(isinstance(item, int) for item in items):
        return Selection.of_coordinates(space, torch.tensor(items))
    raise TypeError(f"Expected names of tensors or integer indices, got {sorted({type(i).__name__ for i in items})}.")
