"""The methods of `minimize` by name, and the options each takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from quadric.core.errors import unknown_name
from quadric.optim.minimize.curveball import curveball
from quadric.optim.minimize.gradient_descent import gradient_descent
from quadric.optim.minimize.levenberg_marquardt import levenberg_marquardt
from quadric.optim.minimize.momentum import momentum
from quadric.optim.minimize.newton_cg import newton_cg
from quadric.optim.minimize.newton_exact import newton_exact
from quadric.optim.minimize.run import Iterate
from quadric.optim.minimize.saddle_free import saddle_free
from quadric.optim.minimize.secant import bfgs, dfp, l_bfgs
from quadric.optim.minimize.sr1 import sr1
from quadric.optim.minimize.trust_exact import trust_exact
from quadric.optim.minimize.trust_ncg import trust_ncg

COMMON = ("maxiter", "gtol", "disp")


@dataclass(frozen=True)
class Method:
    """How a method makes its iterates from the start; its keywords are its options.

    `residuals` says whether it needs a vector, `by_autograd` whether `fun` must be torch's; `patient` methods take many
    cheap iterations.
    """

    iterates: Callable[..., Iterator[Iterate]]
    residuals: bool = False
    by_autograd: bool = False
    patient: bool = False

    def options(self) -> list[str]:
        """The names of its own options."""
        return [p.name for p in inspect.signature(self.iterates).parameters.values() if p.kind is p.KEYWORD_ONLY]


METHODS: dict[str, Method] = {
    "gradient-descent": Method(gradient_descent, patient=True),
    "momentum": Method(momentum, patient=True),
    "bfgs": Method(bfgs),
    "dfp": Method(dfp),
    "sr1": Method(sr1),
    "l-bfgs": Method(l_bfgs),
    "newton-cg": Method(newton_cg),
    "newton-exact": Method(newton_exact),
    "saddle-free": Method(saddle_free),
    "trust-ncg": Method(trust_ncg),
    "trust-exact": Method(trust_exact),
    "levenberg-marquardt": Method(levenberg_marquardt, residuals=True),
    "curveball": Method(curveball, residuals=True, by_autograd=True, patient=True),
}


def named(name: Any) -> Method:
    """The method of a name, in any case; raises ValueError with the nearest names."""
    key = name.lower() if isinstance(name, str) else name
    if key not in METHODS:
        raise unknown_name("method", name, METHODS)
    return METHODS[key]


def split_options(
    name: str, method: Method, options: Mapping[str, Any] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The common and the method's own options; raises ValueError for one that neither knows."""
    given = dict(options or {})
    own = method.options()
    for key in given:
        if key not in COMMON and key not in own:
            raise unknown_name(f"option of {name!r}", key, [*COMMON, *own])
    return {k: v for k, v in given.items() if k in COMMON}, {k: v for k, v in given.items() if k in own}
