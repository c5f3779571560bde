"""Tangent rules: how each ATen operator carries a tangent from its arguments to its outputs.

A rule is only ever a speed-up: an operator without one gets forward-mode AD of the single call (`fallback`), and every
rule is tested against that.
"""
