"""The table of tangent rules, keyed by ATen operator.

A rule is a function of a recorded call and the tangents of its positional arguments (None where zero, a list for a list
of tensors); it returns the tangent of the output, or a tuple of them for several outputs (None where zero). Rules run
without gradient tracking and never change their inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch

aten = torch.ops.aten

FAMILIES = (
    *("algebra", "convolution", "elementwise", "structure", "reduction", "normalisation", "pooling", "attention"),
    *("loss", "backward"),
)


@dataclass(frozen=True)
class Rule:
    """How tangents pass an operator.

    `keeps` says which differentiable tensors of the call the rule reads: "arguments", "output", "others" (an argument
    only if another argument is differentiable too, as in products), or nothing. `random`: evaluating the call again
    would draw other random numbers.
    """

    apply: Callable[..., Any]
    keeps: frozenset[str]
    random: bool = False
    own: bool = True
    """False for the fallback."""


_RULES: dict[Any, Rule] = {}


def tangent(*names: str, keeps: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function as rule of `aten.<name>` for each name ("tanh.default") that this torch has."""

    def register(apply: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            packet, overload = name.split(".")
            func = getattr(getattr(aten, packet, None), overload, None)
            if func is not None:
                _RULES[func] = Rule(apply, frozenset(keeps.split()))
        return apply

    return register


def known_rules() -> dict[Any, Rule]:
    """Every registered rule by operator."""
    for family in FAMILIES:
        import_module(f"quadric.objective.rules.{family}")
    return _RULES


def rule_for(func: Any) -> Rule:
    """The rule of an operator: its own, that of its out-of-place form, or forward-mode AD of the single call."""
    from quadric.objective.rules.fallback import by_forward_mode

    rules = known_rules()
    rule = rules.get(func) or rules.get(_out_of_place(func))
    if rule is not None:
        return rule
    random = torch.Tag.nondeterministic_seeded in func.tags
    return Rule(by_forward_mode, frozenset({"arguments"}), random=random, own=False)


def _out_of_place(func: Any) -> Any:
    """`aten.relu.default` for `aten.relu_.default`; None where there is no such operator."""
    packet, _, overload = func.name().removeprefix("aten::").partition(".")
    if not packet.endswith("_"):
        return None
    return getattr(getattr(aten, packet[:-1], None), overload or "default", None)
