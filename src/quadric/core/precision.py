"""Mixed precision: autocast is for the model and its loss; what is made of their derivatives keeps its precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Autocast:
    """torch's autocast for one kind of device, as it was at one moment."""

    kind: str
    enabled: bool
    dtype: torch.dtype
    cached: bool

    @classmethod
    def of_models(cls, device: torch.device) -> Autocast:
        """What a model on this device runs under: what `autocast_for_models_alone` put aside, else the present one."""
        aside = _aside.get()
        if aside is not None and aside.kind == device.type:
            return aside
        kind = device.type
        dtype, cached = torch.get_autocast_dtype(kind), torch.is_autocast_cache_enabled()
        return cls(kind, torch.is_autocast_enabled(kind), dtype, cached)


_aside: ContextVar[Autocast | None] = ContextVar("aside", default=None)


@contextmanager
def autocast_for_models_alone(device: torch.device) -> Iterator[None]:
    """Within the block autocast is off on this kind of device, but for what runs in `as_models_run`."""
    autocast = Autocast.of_models(device)
    if not autocast.enabled:
        yield
        return
    token = _aside.set(autocast)
    try:
        with torch.autocast(autocast.kind, enabled=False):
            yield
    finally:
        _aside.reset(token)


@contextmanager
def as_models_run(device: torch.device) -> Iterator[bool]:
    """Within the block autocast is what models on this device run under; gives whether it is on.

    Casts of the weights that autocast cached before they changed are dropped, also for models that autocast themselves.
    """
    torch.clear_autocast_cache()
    autocast = Autocast.of_models(device)
    if not autocast.enabled:
        yield False
        return
    with torch.autocast(autocast.kind, dtype=autocast.dtype, cache_enabled=autocast.cached):
        yield True
