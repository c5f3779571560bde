"""The methods that `quadric tune --auto` tries, each with one number to search, and what it tries first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Candidate:
    """A method's space, and the setting that it begins with: its own defaults."""

    space: str
    first: dict[str, Any] = field(default_factory=dict)


DAMPINGS = Candidate("damping=none|0.001|0.01|0.1|1|10", {"damping": None})
"""For methods that find their damping themselves, unless they are given one."""
CANDIDATES = {
    "momentum": Candidate("lr=log:1e-4:1", {"lr": 1e-2}),
    "adamw": Candidate("lr=log:1e-5:1e-1", {"lr": 1e-3}),
    "muon": Candidate("lr=log:1e-5:1e-1", {"lr": 1e-3}),
    "soap": Candidate("lr=log:1e-5:1e-1", {"lr": 3e-3}),
    "curveball": DAMPINGS,
    "kfac": DAMPINGS,
    "newton-cg": DAMPINGS,
}
