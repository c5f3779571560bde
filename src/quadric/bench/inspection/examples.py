"""The batches that are inspected: on one device, no more examples than asked for, in parts that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from quadric.objective.batch import Batch, Unpack, batches_of, is_batch


@dataclass(frozen=True)
class Examples:
    """The batches of `data`, read anew by each iteration: at most `limit` examples, at most `microbatch` a batch."""

    data: Any
    unpack: Unpack | None
    device: torch.device
    limit: int | None = None
    microbatch: int | None = None

    def __iter__(self) -> Iterator[Batch]:
        left = self.limit
        for batch in batches_of(self.data, self.unpack):
            if left is not None and batch.examples > left:
                batch = next(batch.parts(left))
            for part in [batch] if self.microbatch is None else batch.parts(self.microbatch):
                yield part.mapped(lambda t: t.to(self.device))
            if left is not None:
                left -= batch.examples
                if left == 0:
                    return

    def held(self) -> Batch | list[Batch] | Examples:
        """The same, as a batch or a list of them where the data lie in memory anyway: they can't change then."""
        if not is_batch(self.data, self.unpack) and not isinstance(self.data, (list, tuple)):
            return self
        batches = list(self)
        return batches[0] if len(batches) == 1 else batches
